"""What a request needs of whoever serves it, and why an upstream may not. Pure.

    x-creche-privacy          refuses what is less private than it says
    x-creche-max-latency-ms   refuses what took longer for half of its answers
    x-creche-min-throughput   refuses what gave fewer tokens a second
    x-creche-gpu: require     refuses what declares no GPU        prefer: a preference
    x-creche-tenant           refuses what serves other tenants alone; believed where configured
    x-creche-region           a preference: the same model elsewhere is better than none
    x-creche-cost-tolerance   enters the score

What is not known refuses nothing: a service that has not answered yet must be able to. Nor does
what was measured too long ago, or the slow would stay out for ever, since nobody would ask them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from router.caller import Caller
from router.errors import Problem, RequestError, invalid
from router.seam import Fields

if TYPE_CHECKING:
    from router.config import Needs as Config
    from router.upstream import Upstream

#: From open to closed: a service must be at least as private as the request wants.
PRIVACY = ("public", "internal", "confidential", "restricted")
INTERNAL = PRIVACY.index("internal")
#: Latency and throughput of an upstream that has not answered for so long count as unknown.
MEASURED_S_MAX = 60.0
#: What a client is told to wait where time may help: by then others have been measured.
RETRY_AFTER_S = 5


class Needs(Struct, frozen=True, kw_only=True):
    """As its headers say, else the configuration's defaults. Ranks index PRIVACY."""

    region: str | None = None
    privacy: int = INTERNAL
    max_latency_ms: float | None = None
    #: Tokens a second.
    min_throughput: float | None = None
    #: 0: cost counts most; 100: speed does.
    cost_tolerance: float = 50.0
    #: "prefer" or "require".
    gpu: str | None = None
    tenant: str | None = None


NONE = Needs()


def default(config: "Config") -> Needs:
    """Of a request that says nothing."""
    return Needs(
        region=config.region,
        privacy=PRIVACY.index(config.privacy),
        max_latency_ms=config.max_latency_ms,
        min_throughput=config.min_throughput,
        cost_tolerance=config.cost_tolerance,
        gpu=config.gpu,
    )


def trivial(needs: Needs) -> bool:
    """Refuses nobody who is internal and serves every tenant: there is no candidate to ask."""
    return (
        needs.privacy <= INTERNAL
        and needs.max_latency_ms is None
        and needs.min_throughput is None
        and needs.gpu != "require"
    )


def of_caller(caller: Caller, defaults: Needs) -> Needs:
    """Of a caller's request that says nothing: `defaults` itself where its key says nothing."""
    before, found = caller.wanted
    if before is defaults and isinstance(found, Needs):
        return found
    said = dict(caller.needs or {})
    if caller.tenant is not None:
        said["tenant"] = caller.tenant
    found = bounded(replace(defaults, **said) if said else defaults, caller)
    caller.wanted = (defaults, found)
    return found


def bounded(needs: Needs, caller: Caller) -> Needs:
    """What a key says of privacy and of its tenant no header can undo."""
    tenant = needs.tenant if caller.tenant is None else caller.tenant
    privacy = needs.privacy if caller.privacy is None else max(needs.privacy, caller.privacy)
    if tenant == needs.tenant and privacy == needs.privacy:
        return needs
    return replace(needs, tenant=tenant, privacy=privacy)


# --- what the headers say -------------------------------------------------------------------------

_REGION = "x-creche-region"
_PRIVACY = "x-creche-privacy"
_LATENCY = "x-creche-max-latency-ms"
_THROUGHPUT = "x-creche-min-throughput"
_COST = "x-creche-cost-tolerance"
_GPU = "x-creche-gpu"
_TENANT = "x-creche-tenant"
HEADERS = frozenset({_REGION, _PRIVACY, _LATENCY, _THROUGHPUT, _COST, _GPU, _TENANT})

#: As a region or a tenant is written in metadata and configuration.
_NAME_FORM = re.compile(r"\w[\w.:@/-]{0,127}\Z", re.ASCII)
#: Neither signs nor exponents, and nothing that only Python reads as a number.
_NUMBER_FORM = re.compile(r"\d{1,9}(?:\.\d{1,9})?\Z", re.ASCII)
_SHOWN_MAX = 64


def read(
    headers: Fields | Mapping[str, str], defaults: Needs, *, trusts_tenant: bool = False
) -> Needs:
    """`defaults` itself where no header says anything. Raises RequestError (400)."""
    if HEADERS.isdisjoint(headers):
        return defaults
    said: dict[str, object] = {}
    for header, (name, read_value) in _READERS.items():
        value = headers.get(header)
        if value is not None and (header != _TENANT or trusts_tenant):
            said[name] = read_value(header, value)
    return replace(defaults, **said)


def _bad(header: str, value: str, allowed: str) -> RequestError:
    shown = value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "…"
    return RequestError(invalid(f"{header}: '{shown}' is not {allowed}"))


def _word(header: str, value: str, allowed: tuple[str, ...]) -> str:
    found = value.lower()
    if found not in allowed:
        raise _bad(header, value, f"one of {', '.join(allowed)}")
    return found


def _name(header: str, value: str) -> str:
    if not _NAME_FORM.match(value):
        raise _bad(header, value, "a name of at most 128 characters (letters, digits, . _ - : @ /)")
    return value


def _number(value: str) -> float | None:
    return float(value) if _NUMBER_FORM.match(value) else None


def _above_zero(header: str, value: str, unit: str) -> float:
    found = _number(value)
    if not found:
        raise _bad(header, value, f"a number above 0, in {unit}")
    return found


def _percent(header: str, value: str) -> float:
    found = _number(value)
    if found is None or found > 100:
        raise _bad(header, value, "a number from 0 to 100")
    return found


def _privacy(header: str, value: str) -> int:
    return PRIVACY.index(_word(header, value, PRIVACY))


def _gpu(header: str, value: str) -> str:
    return _word(header, value, ("prefer", "require"))


def _latency(header: str, value: str) -> float:
    return _above_zero(header, value, "milliseconds")


def _throughput(header: str, value: str) -> float:
    return _above_zero(header, value, "tokens a second")


#: The field of Needs that each header fills, and how its value is read.
_READERS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    _REGION: ("region", _name),
    _PRIVACY: ("privacy", _privacy),
    _LATENCY: ("max_latency_ms", _latency),
    _THROUGHPUT: ("min_throughput", _throughput),
    _COST: ("cost_tolerance", _percent),
    _GPU: ("gpu", _gpu),
    _TENANT: ("tenant", _name),
}


# --- who may not serve it -------------------------------------------------------------------------


def refusal(upstream: "Upstream", needs: Needs, now: float) -> str | None:
    """Why `upstream` may not serve what needs this, as /explain shows it; None: it may.

    The first word names the need: `unmet` reads it.
    """
    if upstream.privacy < needs.privacy:
        has, wanted = PRIVACY[upstream.privacy], PRIVACY[needs.privacy]
        return f"privacy {has}, wanted {wanted}"
    tenants = upstream.tenants
    if tenants and needs.tenant not in tenants:
        return f"tenant {needs.tenant or 'not named'}, serves other tenants alone"
    if needs.gpu == "require" and not upstream.gpu:
        return "gpu not declared, wanted one"
    if needs.max_latency_ms is not None or needs.min_throughput is not None:
        return _too_slow(upstream, needs, now)
    return None


def _too_slow(upstream: "Upstream", needs: Needs, now: float) -> str | None:
    node = upstream.node
    if now - node.answered_at > MEASURED_S_MAX:
        return None
    most_ms, least = needs.max_latency_ms, needs.min_throughput
    p50_s = None if most_ms is None else node.answers.median()
    if most_ms is not None and p50_s is not None and p50_s * 1000 > most_ms:
        return f"latency {_shown(p50_s * 1000)} ms (p50), wanted {_shown(most_ms)} ms"
    pace = node.tokens_per_s
    if least is not None and pace is not None and pace < least:
        return f"throughput {_shown(pace)} tokens/s, wanted {_shown(least)}"
    return None


def _shown(value: float) -> str:
    """Four digits, but never an exponent."""
    return f"{value:.0f}" if value >= 1_000 else f"{value:.4g}"


#: First word of a refusal to its header, and whether waiting may help.
_OF_WORD = {
    "privacy": (_PRIVACY, False),
    "tenant": (_TENANT, False),
    "gpu": (_GPU, False),
    "latency": (_LATENCY, True),
    "throughput": (_THROUGHPUT, True),
}


def unmet(needs: Needs, reasons: Iterable[str], model: str | None = None) -> Problem | None:
    """What the client is told where needs left nobody, by the candidates' refusals.

    Says what was wanted, never what services are. None where no need refused anyone.
    """
    refused = {reason.partition(" ")[0] for reason in reasons}
    found = [word for word in _OF_WORD if word in refused]
    if not found:
        return None
    wanted = ", ".join(f"{_wanted(word, needs)} ({_OF_WORD[word][0]})" for word in found)
    which = "No service" if model is None else f"No service for model '{model}'"
    changes = any(_OF_WORD[word][1] for word in found)
    return Problem(
        503,
        f"{which} meets what the request needs: {wanted}",
        code="needs_unmet",
        retry_after_s=RETRY_AFTER_S if changes else None,
        should_retry=None if changes else False,
    )


def _wanted(word: str, needs: Needs) -> str:
    match word:
        case "privacy":
            return f"privacy {PRIVACY[needs.privacy]}"
        case "tenant":
            return "no tenant" if needs.tenant is None else f"tenant {needs.tenant}"
        case "gpu":
            return "a GPU"
        case "latency":
            return f"latency of at most {_shown(needs.max_latency_ms or 0)} ms"
        case _:
            return f"at least {_shown(needs.min_throughput or 0)} tokens a second"
