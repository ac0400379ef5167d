r"""routing_rules and special_cases. Pure.

In the older backend an exact name went before its rules; here rules go before everything. So each
is kept to the names that its provider lists: more would take requests for others' models there.
"""

import re
from typing import TYPE_CHECKING, Any

from ctl.imports.draft import Draft, escaped
from ctl.imports.table import Table

if TYPE_CHECKING:
    from ctl.imports.providers import Known

_HEADER = re.compile(r"headers?\.([A-Za-z0-9-]+)\s*==\s*['\"]([^'\"]*)['\"]\Z")
_BATCH = re.compile(r"batch_size\s*(>=|>)\s*(\d+)\Z")
_STREAM = re.compile(r"stream\s*==\s*(true|false|True|False)\Z")
_TOKENS = re.compile(r"(?:prompt_)?tokens\s*(>=|>|<=|<)\s*(\d+)\Z")
_SIZE = re.compile(r"(?:[<>]\d+(?:\.\d+)?B|\d+(?:\.\d+)?B-\d+(?:\.\d+)?B)\Z", re.IGNORECASE)
LATER = "a fallback is a model here, never a provider"


def rules(tops: list[Table], draft: Draft, known: "Known") -> None:
    for top in tops:
        if "routing_rules" not in top:
            continue
        table = top.table("routing_rules")
        table.take("default_provider", "default_fallback")
        for name, row in table.tables("request_metadata_routing"):
            condition = row.text("condition")
            when = _when(condition or "")
            if when is None:
                draft.lose(row.at("condition"), "no condition of a rule says that")
            _rule(name, row, when, draft, known)
        for row in table.rows("model_size_routing"):
            size = re.sub(r"\s+", "", row.text("size") or "")
            if not _SIZE.match(size):
                draft.lose(row.at("size"), 'a size reads "<8B", "8B-13B" or ">13B"')
            _rule(
                f"size {size}",
                row,
                {"model_size": size} if _SIZE.match(size) else None,
                draft,
                known,
            )
        table.rest(quiet=("description", "notes"))


def _when(condition: str) -> dict[str, Any] | None:
    condition = condition.strip()
    if found := _HEADER.match(condition):
        return {"header": {found[1].lower(): found[2]}}
    if found := _BATCH.match(condition):
        return {"batch_min": int(found[2]) + (found[1] == ">")}
    if found := _STREAM.match(condition):
        return {"stream": found[1].lower() == "true"}
    if found := _TOKENS.match(condition):
        sign, number = found[1], int(found[2])
        if sign in {">", ">="}:
            return {"prompt_tokens_min": number + (sign == ">")}
        return {"prompt_tokens_max": number - (sign == "<")}
    return None


def _rule(name: str, row: Table, when: dict[str, Any] | None, draft: Draft, known: "Known") -> None:
    said = row.text("provider")
    row.lose("fallback", LATER)
    row.rest(quiet=("description", "reason", "notes"))
    if when is None:
        return
    if said not in known.names:
        draft.lose(row.path, f'there is no provider "{said}"')
        return
    provider = known.names[said]
    # What has an entry of its own is spread or renamed by it: a rule would take that away.
    names = [one for one in known.lists[provider] if not _led(draft.models.get(one, {}))]
    if provider not in known.active or not names:
        why = "lists none of its own: every request would go there"
        if provider not in known.active:
            why = "is not active"
        draft.lose(row.path, f"rules go before names here, and {provider} {why}")
        return
    match = "|".join(escaped(one) for one in names)
    draft.rules.append({"name": name, "when": {"model": match, **when}, "provider": provider})
    draft.note("rules go before names here: each is kept to the names that its provider lists")


def _led(entry: dict[str, Any]) -> bool:
    """Whether an entry of [models] says who serves the name."""
    return bool(entry.keys() & {"targets", "provider", "backend_model", "levels"})


def special(tops: list[Table], draft: Draft) -> None:
    for top in tops:
        for name, table in top.tables("special_cases"):
            on = table.flag("enabled") is not False
            table.take("strategy", "description")
            if not on:
                table.take(*table)
            elif name == "first_request_routing":
                if (milliseconds := table.whole("warm_check_timeout_ms", 0)) is not None:
                    draft.top["prefer_warm_ms"] = milliseconds
            elif name == "rate_limited_fallback":
                if (seconds := table.number("fallback_duration_seconds")) is not None:
                    draft.set("retry", "rest_s", seconds)
            elif name == "error_based_routing":
                if (errors := table.whole("error_threshold")) is not None:
                    draft.set("retry", "error_cooldown", errors)
                if (seconds := table.number("cooldown_seconds")) is not None:
                    draft.set("retry", "error_cooldown_s", seconds)
            table.rest()
