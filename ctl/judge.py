"""What is broken, who feels it, what next. Pure: a Fleet and the time in, a Report out.

    ✗  an engine that nobody will bring back by itself: FATAL, a conflict of names or addresses
    !  one that is out for now: BACKOFF, starting again, unfit, set aside, its breaker open,
       resting, its host silent; a name that nobody serves; a file that did not go into force
    ·  worth knowing, nothing to do: starting, draining, restarted lately

Starting, stopped and draining engines are somebody's will, so they are no problems, unless a model
has no engine left because of it.
"""

from collections.abc import Iterable
from math import ceil

from msgspec import Struct

from common.clock import parse_wire_time
from common.wire.babysitter import EngineState
from common.wire.router import ModelStats, RouterStats
from ctl.fleet import Fleet
from ctl.views import EngineView, engine_views

#: A READY engine may take this long to be seen by a router before it is called a problem.
SEEN_WITHIN_S = 5.0
#: A restart is told for this long after it went well.
LATELY_S = 600.0
#: First tokens are called slow where the slowest are this slow, and this many times the median.
SLOW_P99_MS = 2000.0
SLOW_TIMES = 5.0


class Problem(Struct, frozen=True, kw_only=True):
    """`mark` is ✗ or !. `effect` says who feels it, `next` is one thing to do (may be empty)."""

    mark: str
    subject: str
    state: str
    text: str
    effect: str = ""
    next: str = ""


_EMPTY = Problem(
    mark="!",
    subject="fleet",
    state="empty",
    text="no engine is registered",
    effect="every request gets 503",
    next="creche-babysitter --config FILE   (on a host with engines)",
)


class ModelRow(Struct, frozen=True, kw_only=True):
    """Times in milliseconds. `slow` marks first tokens worth a look."""

    model: str
    ready: int
    total: int
    unasked: int = 0
    in_flight: int
    queued: int
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    tokens_per_s: float
    slow: bool
    services: tuple[str, ...] = ()
    configured: bool = False
    by_chain: bool = False
    last_resort: bool = False


class Report(Struct, frozen=True, kw_only=True):
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    hosts: int
    engines_ready: int
    engines_total: int
    providers: int = 0
    requests_per_s: float
    models: tuple[ModelRow, ...]


def judge(fleet: Fleet, now: float) -> Report:
    """`now` is wall time in seconds: it is compared with what others wrote on the wire."""
    views = engine_views(fleet)
    wanted = [one for one in views if one.state != EngineState.STOPPED]
    models = _models(fleet.stats, wanted)
    problems = [*_config(fleet), *_problems(fleet, wanted, {row.model: row for row in models}, now)]
    problems.sort(key=lambda one: one.mark != "✗")
    engines = [one for one in wanted if not one.is_provider]
    if not views and not any(one.subject in fleet.stats.models for one in problems):
        problems.append(_EMPTY)
    return Report(
        problems=tuple(problems),
        notes=tuple(_notes(fleet, views, now)),
        hosts=len({one.host for one in views if not one.is_provider}),
        engines_ready=sum(one.ready for one in engines),
        engines_total=len(engines),
        providers=len(wanted) - len(engines),
        requests_per_s=fleet.stats.requests_per_s,
        models=tuple(models),
    )


def _models(stats: RouterStats, views: list[EngineView]) -> list[ModelRow]:
    names = set(stats.models) | {model for one in views for model in one.models}
    rows = []
    for name in sorted(names):
        offering = [one for one in views if name in one.models]
        ready = sum(one.ready for one in offering)
        told = stats.models.get(name, ModelStats(ready=ready, total=ready))
        rows.append(
            ModelRow(
                model=name,
                ready=told.ready,
                # An engine that never was ready has no record, so the router cannot count it.
                total=max(told.total, len(offering)),
                in_flight=told.in_flight,
                unasked=told.unasked,
                queued=told.queued,
                ttft_p50_ms=told.ttft_p50_ms,
                ttft_p99_ms=told.ttft_p99_ms,
                tokens_per_s=told.tokens_per_s,
                slow=_slow(told),
                services=told.services or tuple(one.service for one in offering),
                configured=told.configured,
                by_chain=told.by_chain,
                last_resort=told.last_resort,
            )
        )
    return rows


def _slow(told: ModelStats) -> bool:
    if told.ttft_p50_ms is None or told.ttft_p99_ms is None:
        return False
    return told.ttft_p99_ms >= max(SLOW_P99_MS, SLOW_TIMES * told.ttft_p50_ms)


# ---- problems, the worst first ----------------------------------------------------------------


def _problems(
    fleet: Fleet, views: list[EngineView], models: dict[str, ModelRow], now: float
) -> Iterable[Problem]:
    broken = [one for one in views if one.state == EngineState.FATAL or one.conflict]
    down = _hosts_down(fleet, views)
    passing = [
        one for one in views if one not in broken and one.host not in down and _out(one, now)
    ]
    for one in broken:
        yield _broken(one, fleet, models, now)
    if not fleet.health.registry_connected and not _static_only(fleet):
        yield _registry_away(fleet)
    for host, members in down.items():
        yield _host_down(host, members, fleet, models, now)
    for one in passing:
        yield _passing(one, fleet, models, now)
    out = [*broken, *passing, *(one for members in down.values() for one in members)]
    blamed = {model for one in out for model in one.models}
    told = {one.service for one in out}
    for row in models.values():
        if row.ready or row.model in blamed or not told.isdisjoint(row.services):
            continue
        if row.model in fleet.stats.absent_expected:
            yield _absent(row)
        elif row.configured and row.total == 0:
            if not row.by_chain:
                yield _unserved(row)
        elif row.total > 0:
            yield _nobody(row, [one for one in views if row.model in one.models])


def _static_only(fleet: Fleet) -> bool:
    return not fleet.services.registry_url


def _out(one: EngineView, now: float) -> bool:
    """Whether an engine that is not broken for good is out against everyone's will."""
    if one.state == EngineState.BACKOFF:
        return True
    if one.state == EngineState.STARTING:
        return one.restarts > 0 and one.last_exit is not None
    if one.draining or one.state in (EngineState.DRAINING, EngineState.STOPPING):
        return False
    if one.fit is False or one.left_out or one.breaker not in ("closed", ""):
        return True
    if one.state == EngineState.READY and one.fit is None:
        age = age_s(one.since, now)
        return age is not None and age > SEEN_WITHIN_S
    return False


def _broken(one: EngineView, fleet: Fleet, models: dict[str, ModelRow], now: float) -> Problem:
    if one.conflict and one.state != EngineState.FATAL:
        return Problem(
            mark="✗",
            subject=one.service,
            state="conflict",
            text=one.conflict,
            effect=_effect([one], fleet, models),
            next="give one of the two another name (engine name, or [host] name) and restart it",
        )
    return Problem(
        mark="✗",
        subject=one.service,
        state=_state_for(one, now),
        text=_ending(one),
        effect=_effect([one], fleet, models),
        next=_look_at(one),
    )


def _passing(one: EngineView, fleet: Fleet, models: dict[str, ModelRow], now: float) -> Problem:
    state, text, next_ = _state_for(one, now), _ending(one), _look_at(one)
    if one.state == EngineState.READY or one.told_by == "router":
        if one.fit is False:
            state = "unfit"
            text = "; ".join(filter(None, one.reasons)) or "the registry gives no reason"
            beat = age_s(one.last_heartbeat, now)
            if beat is not None and beat > SEEN_WITHIN_S and "heartbeat" not in text:
                text += f"; last heartbeat {duration(beat)} ago"
        elif one.left_out or one.breaker not in ("closed", ""):
            state, text = _left_out(one)
        else:
            state = f"unseen {_age(one, now)}".strip()
            text = "ready, but the router has no record of it"
            next_ = f"creche logs {one.service}   (and: is the registry up?)"
    return Problem(
        mark="!",
        subject=one.service,
        state=state,
        text=text,
        effect=_effect([one], fleet, models),
        next=next_,
    )


def _left_out(one: EngineView) -> tuple[str, str]:
    """The state and the reason that the router's own traffic gives."""
    if one.set_aside and one.why_out == "connect":
        return "set aside", "the router could not connect; it tries every second"
    if one.breaker not in ("closed", ""):
        return f"breaker {one.breaker}", "several requests in a row failed on it"
    if one.set_aside and one.why_out == "answers":
        return "set aside", "several requests in a row failed on it; its health is asked for"
    if one.set_aside:
        return "set aside", "the router's requests found it unreachable or failing"
    left = duration(ceil(one.resting_s))
    return f"resting {left}", "it answered 429, or failed too often: others are asked first"


def _look_at(one: EngineView) -> str:
    """What to do about one that is out; an engine has logs where it has a babysitter."""
    if one.is_provider:
        leave_out = f"creche provider disable {one.service} --reload"
        return f"is {one.url} well?   to leave it out:  {leave_out}"
    if one.told_by == "router" and not one.babysitter_url:
        return f"is {one.url} well?   no babysitter watches over it"
    return f"creche logs {one.service}"


def _hosts_down(fleet: Fleet, views: list[EngineView]) -> dict[str, list[EngineView]]:
    """Hosts whose babysitter is silent and whose engines are all unfit: one cause, told once."""
    silent = {one.url for one in fleet.babysitters_silent}
    hosts: dict[str, list[EngineView]] = {}
    for one in views:
        hosts.setdefault(one.host, []).append(one)
    return {
        host: members
        for host, members in sorted(hosts.items())
        if all(one.babysitter_url in silent and one.fit is False for one in members)
    }


def _host_down(
    host: str, members: list[EngineView], fleet: Fleet, models: dict[str, ModelRow], now: float
) -> Problem:
    beats = [age for one in members if (age := age_s(one.last_heartbeat, now)) is not None]
    why = next(
        (one.why for one in fleet.babysitters_silent if one.url == members[0].babysitter_url), ""
    )
    names = ", ".join(one.name for one in members[:4]) + (" …" if len(members) > 4 else "")
    return Problem(
        mark="!",
        subject=host,
        state=f"silent {duration(min(beats))}" if beats else "silent",
        text=f"{plural(len(members), 'engine')} ({names}) unfit; babysitter silent: {why}",
        effect=_effect(members, fleet, models),
        next=f"is {host} up, and does creche-babysitter run there?",
    )


def _registry_away(fleet: Fleet) -> Problem:
    message = fleet.registry_silent.why if fleet.registry_silent else fleet.health.message
    return Problem(
        mark="!",
        subject="registry",
        state="away",
        text=f"{fleet.services.registry_url}: {message}".rstrip(": "),
        effect="requests go on with the engines known so far; new or moved ones are not seen",
        next="start it again: it comes back with the records it had",
    )


def _config(fleet: Fleet) -> Iterable[Problem]:
    """A file that the router would not take, or an order about it that came to nothing."""
    config = fleet.config
    message = config.message if config else fleet.health.config_message
    file = (config.file if config else None) or "the router's file"
    runs = "the router goes on with the configuration before it"
    if config and config.version is not None:
        runs = f"the router goes on with version {config.version}"
    if config and config.file_problem:
        yield Problem(
            mark="✗",
            subject="configuration",
            state="broken",
            text=f"{file}: {config.file_problem}",
            effect=f"{runs}; a restart would not come up",
            next=f"creche config check {file}   or:  creche config rollback",
        )
    elif message:
        checked = f"creche config check {file}" if config else "creche config check FILE"
        fine = config is not None and not config.file_problem
        yield Problem(
            mark="!",
            subject="configuration",
            state="not in force",
            text=message.partition("\n")[0],
            effect=runs,
            next=f"{'creche config reload' if fine else checked}   or:  creche config rollback",
        )


def _absent(row: ModelRow) -> Problem:
    return Problem(
        mark="!",
        subject=row.model,
        state="absent",
        text="the router's file expects it, and nobody serves it",
        effect=_felt(row),
        next=f"creche wait {row.model}",
    )


def _unserved(row: ModelRow) -> Problem:
    return Problem(
        mark="!",
        subject=row.model,
        state="unserved",
        text="the router's file names it, and nobody serves what it leads to, nor its fallbacks",
        effect=_felt(row),
        next=f"creche explain --model {row.model}",
    )


def _nobody(row: ModelRow, views: list[EngineView]) -> Problem:
    states = ", ".join(sorted({one.state.lower() for one in views})) or "no engine offers it now"
    return Problem(
        mark="!",
        subject=row.model,
        state="no engine",
        text=f"{row.ready} of {row.total} ready: {states}",
        effect=_felt(row),
        next=f"creche wait {row.model}",
    )


def _felt(row: ModelRow) -> str:
    """What becomes of requests for a model that has no ready engine."""
    if row.by_chain:
        return f"requests for {row.model} go to its fallbacks"
    if row.last_resort:
        return f"requests for {row.model} are tried on it all the same, since nobody else is left"
    return f"requests for {row.model} get 503"


def _effect(members: list[EngineView], fleet: Fleet, models: dict[str, ModelRow]) -> str:
    names = {model for one in members for model in one.models}
    here = {one.service for one in members}
    # Other names of the file that lead to it are told where nothing else serves them.
    names |= {
        row.model for row in models.values() if not row.ready and not here.isdisjoint(row.services)
    }
    parts = []
    for name in sorted(names):
        row = models.get(name)
        if row is None:
            continue
        if row.ready:
            noun = "provider" if all(one.is_provider for one in members) else "engine"
            parts.append(f"{name} on {row.ready} of {plural(row.total, noun)}")
        elif row.by_chain:
            parts.append(f"nobody serves {name}: its fallbacks do")
        elif row.last_resort:
            parts.append(f"nobody else serves {name}: it is tried all the same")
        else:
            parts.append(f"nobody serves {name}: its requests get 503")
    if parts and fleet.stats.failed_requests == 0 and fleet.stats.total_requests > 0:
        parts.append("no request failed")
    return "; ".join(parts)


def _state_for(one: EngineView, now: float) -> str:
    return f"{one.state} {_age(one, now)}".strip()


def _age(one: EngineView, now: float) -> str:
    age = age_s(one.since, now)
    return "" if age is None else duration(age)


def _ending(one: EngineView) -> str:
    parts = []
    if one.last_exit is not None:
        parts.append(one.last_exit.text or one.last_exit.cause)
    if one.restarts:
        parts.append(plural(one.restarts, "restart"))
    return "; ".join(parts)


# ---- notes -------------------------------------------------------------------------------------


def _notes(fleet: Fleet, views: list[EngineView], now: float) -> Iterable[str]:
    if fleet.config and fleet.config.file_differs and not fleet.config.file_problem:
        yield f"{fleet.config.file} says something else by now   (creche config reload)"
    if fleet.health.usage_message:
        yield fleet.health.usage_message
    for one in views:
        if one.state == EngineState.STARTING and not _out(one, now):
            progress = f"   {one.progress}" if one.progress else ""
            yield f"{one.service} {_state_for(one, now)}{progress}"
        elif one.draining or one.state in (EngineState.DRAINING, EngineState.STOPPING):
            state = one.state.lower()
            yield f"{one.service} takes no new requests ({state}); {one.in_flight} in flight"
        elif one.state == EngineState.STOPPED:
            yield f"{one.service} is stopped   (creche engine start {one.service})"
        elif one.state == EngineState.READY and one.restarts and one.last_exit is not None:
            age = age_s(one.last_exit.at, now)
            if age is not None and age < LATELY_S:
                why = f"{one.last_exit.text} {duration(age)} ago"
                yield f"{one.service} is back: {why}; ready again"
    if fleet.registry_silent is not None and fleet.health.registry_connected:
        why = f"{fleet.registry_silent.url}: {fleet.registry_silent.why}"
        yield f"engines without a record may be missing here: the registry did not tell ({why})"
    for silent in fleet.babysitters_silent:
        yield f"babysitter {silent.url} did not tell: {silent.why}"


# ---- words -------------------------------------------------------------------------------------


def age_s(wire_time: str | None, now: float) -> float | None:
    """Seconds since a time on the wire, never negative; None for none or a malformed one."""
    if not wire_time:
        return None
    try:
        return max(0.0, now - parse_wire_time(wire_time))
    except ValueError:
        return None


def duration(seconds: float) -> str:
    """`8 s`, `14 min`, `3 h`, `2 d`: one number, rounded down."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
