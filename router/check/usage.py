"""[usage], and the budgets that go by it. Pure."""

from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check.file import File
from router.named import Budget

_NONE = Budget()
MONTH_DAYS = 31


def find(file: File) -> Iterator[Problem]:
    config, usage = file.config, file.config.usage
    bounded = [name for name, one in config.tenants.items() if one.budget != _NONE]
    if bounded:
        yield from _of_budgets(file, bounded[0])
    if usage.keep_days < usage.hourly_days:
        path = _said(file, "keep_days", "hourly_days")
        yield file.warning(
            path,
            f"keep_days ({usage.keep_days}) is less than hourly_days ({usage.hourly_days})",
            effect=f"Everything is forgotten after {usage.keep_days} days, by the hour as well.",
            fix=f"hourly_days = {usage.keep_days}",
        )


def _of_budgets(file: File, name: str) -> Iterator[Problem]:
    config, path = file.config, ("tenants", name, "budget")
    if not config.usage.enabled:
        yield file.error(
            ("usage", "enabled"),
            f"usage is not counted, and [tenants.{name}] has a budget",
            effect="No budget would ever be used up.",
            fix="enabled = true",
        )
    elif config.usage.keep_days < MONTH_DAYS:
        yield file.error(
            ("usage", "keep_days"),
            f"keep_days is less than a month, and [tenants.{name}] has a budget for one",
            effect="What was used early in a month would be forgotten before its end.",
            fix=f"keep_days = {MONTH_DAYS}",
        )
    if config.client_keys == "none":
        yield file.warning(
            path,
            f"nobody is of the tenant '{name}': no keys are asked for",
            effect="Its budget bounds nobody.",
            fix='client_keys = "required"',
            on_key=True,
        )


def _said(file: File, *keys: str) -> Path:
    """The first of these that the file says."""
    return next(("usage", key) for key in keys if ("usage", key) in file.document.positions)
