"""`/metrics`: the counters that are kept anyway, read out when asked.

prometheus-client's own `labels()` would cost 9 µs a request; a custom collector costs nothing
until it is scraped. Names are an interface: docs/api-router.md lists them.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from router.brain import Brain
from router.breaker import State
from router.crowd import Crowd
from router.outcome import WORDS
from router.window import BUCKETS, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class RouterCollector(Collector):
    """`extra` gives what shells know: name, help and value of gauges."""

    def __init__(
        self,
        brain: Brain,
        connected: Callable[[], bool],
        extra: Callable[[], list[tuple[str, str, float]]] = list,
    ) -> None:
        self._brain = brain
        self._connected = connected
        self._extra = extra

    def collect(self) -> Iterator[Family]:
        yield from self._models()
        yield from self._cache()
        yield from self._upstreams()
        yield from self._shared_limits()
        yield from self._whole()

    def _models(self) -> Iterator[Family]:
        requests = CounterMetricFamily(
            "creche_requests", "Requests that ended, each once.", labels=["model", "outcome"]
        )
        retries = CounterMetricFamily(
            "creche_retries", "Attempts after the first.", labels=["model"]
        )
        refused = CounterMetricFamily(
            "creche_retries_refused", "Retries that the budget did not allow.", labels=["model"]
        )
        resumes = CounterMetricFamily(
            "creche_resumes",
            "Streams of models with `resume` that broke off, by what became of them.",
            labels=["model", "outcome"],
        )
        hedges = CounterMetricFamily(
            "creche_hedges",
            "Streams that a second upstream was asked for too, by whether it answered.",
            labels=["model", "won"],
        )
        fallbacks = CounterMetricFamily(
            "creche_fallbacks", "Requests that a model of the chain answered.", labels=["model"]
        )
        tokens = CounterMetricFamily(
            "creche_tokens", "Tokens as engines counted them.", labels=["model", "direction"]
        )
        in_flight = GaugeMetricFamily(
            "creche_requests_in_flight", "Requests that did not end yet.", labels=["model"]
        )
        first = HistogramMetricFamily(
            "creche_first_byte_seconds", "Until the first byte of the answer.", labels=["model"]
        )
        whole = HistogramMetricFamily(
            "creche_request_seconds", "Until the end of the answer.", labels=["model"]
        )
        waiting = GaugeMetricFamily(
            "creche_queue_waiting", "Requests that wait for a place, or back off.", labels=["model"]
        )
        waits = HistogramMetricFamily(
            "creche_queue_wait_seconds",
            "How long those waited that had to wait for a place, whatever became of them.",
            labels=["model"],
        )
        unqueued = CounterMetricFamily(
            "creche_queue_refused",
            "Requests that got no place: for their own caller's share, a wait too long, a full "
            "queue, a wait that was in vain (late), or one with a smaller share (displaced).",
            labels=["model", "reason"],
        )
        for state in self._brain.states():
            model = state.name
            waiting.add_metric([model], state.queued)
            _add(waits, model, state.waits)
            for reason, count in state.unqueued.items():
                unqueued.add_metric([model, reason], count)
            for outcome, count in enumerate(state.outcomes):
                if count:
                    requests.add_metric([model, WORDS[outcome]], count)
            retries.add_metric([model], state.retries)
            refused.add_metric([model], state.budget.refused)
            for became, count in state.resumes.items():
                resumes.add_metric([model, became], count)
            for how, count in state.hedges.items():
                hedges.add_metric([model, "true" if how == "won" else "false"], count)
            fallbacks.add_metric([model], state.fallbacks)
            tokens.add_metric([model, "in"], state.tokens_in)
            tokens.add_metric([model, "out"], state.tokens_out.count)
            in_flight.add_metric([model], state.in_flight)
            _add(first, model, state.first_byte)
            _add(whole, model, state.durations)
        yield from (requests, retries, refused, resumes, hedges, fallbacks, tokens)
        yield from (in_flight, first, whole, waiting, waits, unqueued)

    def _cache(self) -> Iterator[Family]:
        hits = CounterMetricFamily(
            "creche_cache_hits", "Requests that the cache answered.", labels=["model"]
        )
        misses = CounterMetricFamily(
            "creche_cache_misses",
            "Requests that the cache might have answered, and an upstream was asked.",
            labels=["model"],
        )
        for state in self._brain.states():
            if state.cache_hits or state.cache_misses:
                hits.add_metric([state.name], state.cache_hits)
                misses.add_metric([state.name], state.cache_misses)
        yield from (hits, misses)
        cache = self._brain.cache
        yield CounterMetricFamily(
            "creche_cache_waits", "Requests that waited for an identical one's answer.", cache.waits
        )
        yield CounterMetricFamily(
            "creche_cache_evictions", "Answers that went for others.", cache.memory.evictions
        )
        yield GaugeMetricFamily(
            "creche_cache_bytes", "What the answers kept here take.", cache.memory.bytes
        )
        yield GaugeMetricFamily(
            "creche_cache_entries", "Answers that are kept here.", len(cache.memory)
        )
        if cache.shared is None:
            return
        yield CounterMetricFamily(
            "creche_cache_shared_hits", "Hits that another router was answered.", cache.shared_hits
        )
        yield CounterMetricFamily(
            "creche_cache_shared_failures",
            "Times that the shared cache failed or was too slow.",
            cache.shared.failures,
        )
        yield GaugeMetricFamily(
            "creche_cache_shared_away",
            "1 while the shared cache is left alone after a failure.",
            float(cache.shared.away),
        )

    def _upstreams(self) -> Iterator[Family]:
        attempts = CounterMetricFamily(
            "creche_attempts", "Attempts on an upstream that ended.", labels=["service", "outcome"]
        )
        in_flight = GaugeMetricFamily(
            "creche_upstream_in_flight", "Attempts that did not end yet.", labels=["service"]
        )
        fit = GaugeMetricFamily(
            "creche_upstream_fit", "1 while the registry calls it fit.", labels=["service"]
        )
        out = GaugeMetricFamily(
            "creche_upstream_out",
            "1 while this router's traffic found it unreachable or failing.",
            labels=["service"],
        )
        cap = GaugeMetricFamily(
            "creche_upstream_max_concurrency",
            "Requests at once that it takes, by its record or as its refusals taught.",
            labels=["service"],
        )
        breaker = GaugeMetricFamily(
            "creche_upstream_breaker", "0 closed, 1 half open, 2 open.", labels=["service"]
        )
        for upstream in self._brain.table.upstreams.values():
            if not upstream.openai:
                continue
            node = upstream.node
            for outcome, count in enumerate(node.outcomes):
                if count:
                    attempts.add_metric([upstream.name, WORDS[outcome]], count)
            in_flight.add_metric([upstream.name], node.in_flight)
            if node.slots is not None:
                cap.add_metric([upstream.name], node.slots.cap)
            fit.add_metric([upstream.name], float(upstream.fit))
            out.add_metric([upstream.name], float(node.out))
            breaker.add_metric([upstream.name], _BREAKER[node.breaker.state])
        yield from (attempts, in_flight, cap, fit, out, breaker)

    def _shared_limits(self) -> Iterator[Family]:
        shares = self._brain.shares
        if shares is None:
            return
        yield GaugeMetricFamily(
            "creche_limits_shared",
            "1 while limits are counted for all routers together, 0 while Redis is away.",
            float(shares.up),
        )
        yield CounterMetricFamily(
            "creche_limits_outages", "Times that Redis went away.", shares.outages
        )
        asked = CounterMetricFamily(
            "creche_limits_asked",
            "What requests asked Redis: granted, refused, or lost, since no answer came in time.",
            labels=["answer"],
        )
        for state, count in shares.asked.items():
            asked.add_metric([state.value], count)
        yield asked

    def _whole(self) -> Iterator[Family]:
        yield GaugeMetricFamily(
            "creche_active_streams",
            "Streams that began and did not end.",
            self._brain.active_streams,
        )
        yield GaugeMetricFamily(
            "creche_registry_connected", "1 while the watch is up.", float(self._connected())
        )
        for name, text, value in self._extra():
            yield GaugeMetricFamily(name, text, value)


_BREAKER = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}


class DoorCollector(Collector):
    """`read` gives how many connections are open, and what was turned away; None: not yet."""

    def __init__(self, read: Callable[[], tuple[int, Crowd] | None]) -> None:
        self._read = read

    def collect(self) -> Iterator[Family]:
        found = self._read()
        if found is None:
            return
        connections, crowd = found
        yield GaugeMetricFamily("creche_connections", "Clients' connections.", connections)
        refused = CounterMetricFamily(
            "creche_connections_refused",
            "Connections above connections_max (all) or connections_per_address_max (address).",
            labels=["why"],
        )
        for why, count in crowd.refused.items():
            refused.add_metric([why], count)
        slow = CounterMetricFamily(
            "creche_slow_clients",
            "Clients closed because a head or body came, or an answer was taken, too slowly.",
            labels=["of"],
        )
        for of, count in crowd.slow.items():
            slow.add_metric([of], count)
        yield from (refused, slow)


class ConfigCollector(Collector):
    """What became of reloads: counts by outcome, whether the last one failed, when the one in force
    was loaded."""

    def __init__(self, read: Callable[[], tuple[dict[str, int], bool, float]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Family]:
        counts, last_failed, good_at = self._read()
        reloads = CounterMetricFamily(
            "creche_config_reloads",
            "Reloads: ok, failed (the old stayed), rolled_back (asked for), undone (by itself).",
            labels=["outcome"],
        )
        for outcome, count in counts.items():
            reloads.add_metric([outcome], count)
        yield reloads
        yield GaugeMetricFamily(
            "creche_config_last_reload_ok",
            "0 while the last reload failed or was undone.",
            float(not last_failed),
        )
        yield GaugeMetricFamily(
            "creche_config_last_good_timestamp_seconds",
            "When the configuration in force was loaded.",
            good_at,
        )


def _add(family: HistogramMetricFamily, model: str, histogram: Histogram) -> None:
    running = 0
    buckets: list[tuple[str, float]] = []
    counts, total = histogram.read()
    for bound, count in zip((*map(_bound, BUCKETS), "+Inf"), counts, strict=True):
        running += count
        buckets.append((bound, running))
    family.add_metric([model], buckets, total)


def _bound(seconds: float) -> str:
    return repr(float(seconds))


def registry(*collectors: Collector) -> CollectorRegistry:
    """Ours and the process's own, without prometheus-client's global one."""
    found = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        found.register(collector)
    ProcessCollector(registry=found)
    PlatformCollector(registry=found)
    GCCollector(registry=found)
    return found


def exposition(found: CollectorRegistry) -> bytes:
    return generate_latest(found)
