"""Limits that are too high to protect anything: a slip of a zero, mostly. Pure."""

from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check.file import File
from router.named import Limits

RPM_USUAL_MAX = 10_000
TPM_USUAL_MAX = 10_000_000


def find(file: File) -> Iterator[Problem]:
    for name, provider in file.config.providers.items():
        yield from _ceilings(file, ("providers", name), provider.limits)
    for name, model in file.config.models.items():
        yield from _ceilings(file, ("models", name), model.limits)
    for name, tenant in file.config.tenants.items():
        yield from _ceilings(file, ("tenants", name), tenant.limits)


def _ceilings(file: File, path: Path, limits: Limits) -> Iterator[Problem]:
    for key, value, usual, what in (
        ("rpm", limits.rpm, RPM_USUAL_MAX, "requests"),
        ("tpm", limits.tpm, TPM_USUAL_MAX, "tokens"),
    ):
        if value is not None and value > usual:
            yield file.warning(
                (*path, "limits", key),
                f"{key} is {value:_}: more {what} a minute than one service is likely to take",
                effect="A limit that is never reached protects nothing.",
                fix=f"{key} = {usual:_}  or less; for no limit take the line out",
            )
