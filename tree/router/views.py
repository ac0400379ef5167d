"""What the control paths answer, from the Brain's state. Pure: time is given."""

from collections.abc import Iterable
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from common import clock
from common.wire.router import (
    CacheStats,
    ModelStats,
    RouterHealth,
    RouterService,
    RouterServices,
    RouterStats,
    ServiceStats,
)
from router.brain import Brain
from router.fitness import Tier, tier_of
from router.names.target import Target
from router.nodes import Node
from router.stats import ModelState
from router.stats import totals as summed
from router.table import PROVIDER
from router.upstream import Upstream
from router.window import SECONDS


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def health(
    brain: Brain,
    *,
    registry_url: str,
    connected: bool,
    why: str,
    epoch: str | None,
    wall: float,
    now: float,
) -> RouterHealth:
    upstreams = [u for u in brain.table.upstreams.values() if u.openai]
    fit = sum(u.fit for u in upstreams)
    total = len(upstreams)
    return RouterHealth(
        status="healthy" if fit else "running",
        router="running",
        healthy_services=f"{fit}/{total}",
        registry_url=registry_url,
        message=_message(
            brain, upstreams, fit, now, connected=connected, why=why, url=registry_url
        ),
        timestamp=clock.wire_time(wall),
        epoch=epoch,
        registry_connected=connected,
    )


def _message(
    brain: Brain,
    upstreams: list[Upstream],
    fit: int,
    now: float,
    *,
    connected: bool,
    why: str,
    url: str,
) -> str:
    said = f"{fit} of {len(upstreams)} services fit" if upstreams else "no services known"
    out = sum(u.node.out for u in upstreams)
    suspect = sum(u.suspect for u in upstreams)
    if out:
        said += f"; {out} set aside by this router's traffic"
    if suspect:
        said += f"; {suspect} suspect, used only where nothing fit is left"
    panics = sorted({target.label for target in brain.panicking(now)})
    if panics:
        said += f"; most upstreams of {', '.join(panics)} are out by breaker, so all are used"
    if url and not connected:
        said += f"; registry away ({why}), serving what is known"
    return said


def services(
    brain: Brain, registry_url: str, type: str | None = None, *, now: float
) -> RouterServices:
    """Of `type`, by default what requests may go to; "any" is everything the registry holds."""
    found = [
        service(upstream, now)
        for _, upstream in sorted(brain.table.upstreams.items())
        if (upstream.openai if type is None else type in ("any", upstream.metadata.type))
    ]
    return RouterServices(services=found, total=len(found), registry_url=registry_url)


def service(upstream: Upstream, now: float) -> RouterService:
    record, node = upstream.service, upstream.node
    return RouterService(
        name=upstream.name,
        host=record.host,
        port=record.port,
        url=record.url,
        babysitter_url=upstream.metadata.babysitter_url,
        healthy=record.is_healthy and not upstream.suspect,
        request_count=node.request_count,
        error_count=node.error_count,
        response_time=node.answers.mean() or 0.0,
        weight=record.weight,
        models=list(upstream.models),
        metadata=record.metadata,
        health_status="suspect" if upstream.suspect else str(record.health_status),
        status=record.status,
        reasons=tuple(to_builtins(record.reasons)),
        in_flight=node.in_flight,
        draining=record.draining,
        set_aside=node.out,
        why_out=_why_out(node),
        resting_s=round(max(0.0, node.rest_until - now), 3),
        node_health=node.health.value,
        breaker=node.breaker.state.value,
        source=upstream.source,
        instance_id=record.instance_id,
        last_heartbeat=record.last_heartbeat,
    )


def _why_out(node: Node) -> str:
    if node.set_aside:
        return "connect"
    return "answers" if node.out else ""


def stats(brain: Brain, *, now: float, started: float) -> RouterStats:
    states = list(brain.states())
    totals = summed(states)
    total = totals.total
    return RouterStats(
        total_requests=total,
        successful_requests=totals.successful,
        failed_requests=totals.failed,
        client_errors=totals.client_errors,
        cancelled=totals.cancelled,
        total_tokens=totals.tokens,
        active_streams=brain.active_streams,
        avg_latency_ms=round(totals.duration_sum_s / total * 1000, 3) if total else 0.0,
        requests_per_s=_per_s(sum(s.requests.last() for s in states), now - started),
        uptime=round(now - started, 3),
        services={u.name: _of_service(u) for u in brain.table.upstreams.values() if u.openai},
        models={name: _of_model(brain, name, now, started) for name in _named(brain)},
        cache=_of_cache(brain, states),
        absent_expected=tuple(
            name
            for name in brain.config.expect
            if not any(u.fit for u in brain.table.models.get(name, ()))
        ),
    )


def _of_cache(brain: Brain, states: Iterable[ModelState]) -> CacheStats:
    cache = brain.cache
    shared = cache.shared
    counted = [(state.cache_hits, state.cache_misses) for state in states]
    return CacheStats(
        hits=sum(hits for hits, _ in counted),
        misses=sum(misses for _, misses in counted),
        waits=cache.waits,
        entries=len(cache.memory),
        bytes=cache.memory.bytes,
        evictions=cache.memory.evictions,
        shared_hits=cache.shared_hits,
        shared_failures=0 if shared is None else shared.failures,
        shared_away=shared is not None and shared.away,
    )


def _per_s(count: int, uptime_s: float) -> float:
    """Over the last minute, or since the start where that is shorter."""
    return round(count / min(max(uptime_s, 1.0), SECONDS), 3)


def _of_service(upstream: Upstream) -> ServiceStats:
    node = upstream.node
    return ServiceStats(
        request_count=node.request_count,
        error_count=node.error_count,
        in_flight=node.in_flight,
        p50_ms=_ms(node.answers.percentile(50)),
        p99_ms=_ms(node.answers.percentile(99)),
        ttft_p50_ms=_ms(node.first_bytes.percentile(50)),
        health=node.health.value,
        breaker=node.breaker.state.value,
        tokens_per_s=None if node.tokens_per_s is None else round(node.tokens_per_s, 3),
        load=node.load,
    )


def _named(brain: Brain) -> list[str]:
    """What is listed, what the file names, and what else was asked for; each once."""
    config = brain.config
    names = (*brain.table.models, *config.models, *config.capabilities, *config.expect)
    return list(dict.fromkeys((*names, *brain.models)))


def _of_model(brain: Brain, name: str, now: float, started: float) -> ModelStats:
    config = brain.config
    virtual = name in config.models or name in config.capabilities
    listed = () if virtual else brain.table.models.get(name)
    found = listed or brain.behind(name)
    ready = [u for u in found if u.fit and tier_of(u, now) is Tier.WELL]
    chained = tried = False
    if not ready:
        way = brain.leads(name)
        chained = any(_has_ready(brain, target, now) for target in way.fallbacks)
        tried = not chained and any(
            pool.panic or pool.tiers
            for target in (*way.targets, *way.fallbacks)
            for pool in (brain.pool(target, None, now),)
        )
    told = ModelStats(
        ready=len(ready),
        total=len(found),
        unasked=sum(_is_unasked(u) for u in ready),
        services=tuple(u.name for u in found),
        configured=virtual or name in config.expect,
        by_chain=chained,
        last_resort=tried,
    )
    state: ModelState | None = brain.models.get(name)
    if state is None:
        return told
    return replace(
        told,
        in_flight=state.in_flight,
        queued=state.queued,
        ttft_p50_ms=_ms(state.first_bytes.percentile(50)),
        ttft_p99_ms=_ms(state.first_bytes.percentile(99)),
        requests_per_s=_per_s(state.requests.last(), now - started),
        tokens_per_s=_per_s(state.tokens_out.last(), now - started),
    )


def _has_ready(brain: Brain, target: Target, now: float) -> bool:
    return any(tier_of(u, now) is Tier.WELL for u in brain.pool(target, None, now).fit)


def _is_unasked(upstream: Upstream) -> bool:
    """Nobody looks after a provider but its traffic."""
    return upstream.source == PROVIDER and not upstream.node.request_count


def model_list(brain: Brain, now: float) -> list[dict[str, Any]]:
    """OpenAI model objects of what may be asked for and can be served, sorted by id.

    Of fit services, extra fields kept, deduplicated; and of the file's own names while a target of
    theirs or their chain is fit.
    """
    table = brain.table
    fit = {name: _model(name, listed) for name, listed in table.models.items()}
    listed = [name for name, found in fit.items() if found is not None]
    return [
        {**(fit.get(one.like or one.name) or _virtual(one.name)), "id": one.name}
        for one in brain.names.askable(listed, lambda target: brain.servable(target, now))
    ]


def _virtual(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "owned_by": "creche"}


def _model(name: str, listed: Iterable[Upstream]) -> dict[str, Any] | None:
    for upstream in listed:
        if upstream.fit:
            for model in upstream.model_objects:
                if model["id"] == name:
                    return model
    return None


def model(brain: Brain, name: str, now: float) -> dict[str, Any] | None:
    """One of `model_list`, or None."""
    return next((one for one in model_list(brain, now) if one["id"] == name), None)
