"""What a request's headers say of its waiting, and whose share it is. Pure.

x-priority          high, normal (what says nothing) or low; no higher than its key allows
x-request-timeout   seconds that it may wait for its turn, where that is less than the file says
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from router.caller import ANYBODY, BANDS, Caller
from router.errors import RequestError, invalid
from router.seam import Fields
from router.waiting.fair import Step

if TYPE_CHECKING:
    from router.config import Queue
    from router.named import Tenant

PRIORITY = "x-priority"
TIMEOUT = "x-request-timeout"
HEADERS = frozenset({PRIORITY, TIMEOUT})
NORMAL = BANDS.index("normal")
_SECONDS_FORM = re.compile(r"\d{1,9}(?:\.\d{1,9})?\Z", re.ASCII)
_SHOWN_MAX = 64


def band(headers: Fields | Mapping[str, str]) -> int:
    """Index in BANDS. Raises RequestError (400)."""
    said = headers.get(PRIORITY)
    if said is None:
        return NORMAL
    if said.lower() not in BANDS:
        raise _bad(PRIORITY, said, f"one of {', '.join(BANDS)}")
    return BANDS.index(said.lower())


def patience_s(headers: Fields | Mapping[str, str]) -> float | None:
    """None: as long as the file says. Raises RequestError (400)."""
    said = headers.get(TIMEOUT)
    if said is None:
        return None
    if not _SECONDS_FORM.match(said):
        raise _bad(TIMEOUT, said, "a number of seconds")
    return float(said)


def _bad(header: str, said: str, allowed: str) -> RequestError:
    shown = said if len(said) <= _SHOWN_MAX else said[:_SHOWN_MAX] + "…"
    return RequestError(invalid(f"{header}: '{shown}' is not {allowed}"))


def path(
    caller: Caller, client: str, band: int, queue: "Queue", tenants: "Mapping[str, Tenant]"
) -> tuple[Step, ...]:
    """Whose share it is, from the band down. Keys of one tenant share its weight; without keys,
    requests of one address do."""
    band = max(band, caller.band_max)
    first: Step = (band, (queue.high_share, queue.normal_share, queue.low_share)[band])
    if caller is ANYBODY:
        return first, (("address", client), 1.0)
    key: Step = (("key", caller.id or caller.name), caller.weight)
    if caller.tenant is None:
        return first, key
    tenant = tenants.get(caller.tenant)
    weight = 1.0 if tenant is None else tenant.weight
    return first, (("tenant", caller.tenant), weight), key
