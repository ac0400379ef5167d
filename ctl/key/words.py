"""What the key verbs share: the list, and a key in a few words."""

from common.wire.router import KeyList, KeyView
from ctl import admin
from ctl.client import Client
from ctl.find import Place

#: More names than this on one line hide the rest of the table.
NAMED_MAX = 3


async def keys(place: Place) -> KeyList:
    """Raises CtlError."""
    async with Client(place.token, place.tls) as client:
        with admin.explaining(place):
            return await client.get(f"{place.url}/admin/keys", KeyList)


def told(key: KeyView) -> str:
    """`scope use   models qwen3-*   600 requests/min   until 2026-12-21`."""
    parts = [f"scope {key.scope}", f"models {models(key)}"]
    if key.tenant:
        parts.append(f"tenant {key.tenant}")
    if limits(key) != "-":
        parts.append(limits(key))
    if key.expires:
        parts.append(f"until {date(key.expires)}")
    return "   ".join(parts)


def models(key: KeyView) -> str:
    more = f" and {len(key.models) - NAMED_MAX} more" if len(key.models) > NAMED_MAX else ""
    return ", ".join(key.models[:NAMED_MAX]) + more or "all"


def limits(key: KeyView) -> str:
    said = {"rpm": "requests/min", "tpm": "tokens/min", "max_concurrency": "at once"}
    found = [f"{key.limits[name]:,} {text}" for name, text in said.items() if name in key.limits]
    if "tokens_monthly" in key.budget:
        found.append(f"{key.budget['tokens_monthly']:,.0f} tokens/month")
    if "cost_monthly" in key.budget:
        found.append(f"{key.budget['cost_monthly']:,g} cost/month")
    return ", ".join(found) or "-"


def date(time: str | None) -> str:
    return time[:10] if time else "-"
