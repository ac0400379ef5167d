"""`/metrics`: the registry's counters in Prometheus' text form."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from registry.feed import Feed
from registry.keeper import Keeper


class Counters:
    """What the handlers count."""

    def __init__(self) -> None:
        self.beats = 0
        self.registrations = 0
        self.refusals: dict[str, int] = {}

    def refused(self, code: str) -> None:
        self.refusals[code] = self.refusals.get(code, 0) + 1


class Exposition:
    """Reads everything at scrape time: what is not scraped costs nothing."""

    def __init__(self, counters: Counters, keeper: Keeper, feed: Feed) -> None:
        self._counters = counters
        self._keeper = keeper
        self._feed = feed
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._totals()

    def _gauges(self) -> Iterator[Metric]:
        table = self._keeper.table
        services = GaugeMetricFamily(
            "creche_registry_services", "Services by health.", labels=["health"]
        )
        counts: dict[str, int] = {}
        for entry in table.entries.values():
            health = entry.view.health_status.value
            counts[health] = counts.get(health, 0) + 1
        for health, count in counts.items():
            services.add_metric([health], count)
        yield services
        for name, text, value in (
            ("services_fit", "Services that may be routed to.", table.fit_count()),
            ("services_suspect", "Services whose expiry is held back.", len(table.suspects())),
            ("revision", "The table's revision.", table.revision),
            ("watchers", "Consumers of /watch.", self._feed.watchers),
            ("store_failing", "1 while nothing can be registered.", self._failing),
        ):
            yield GaugeMetricFamily(f"creche_registry_{name}", text, value=value)

    @property
    def _failing(self) -> int:
        return int(self._keeper.store_error is not None)

    def _totals(self) -> Iterator[Metric]:
        counters = self._counters
        refused = CounterMetricFamily(
            "creche_registry_refusals", "Requests refused, by code.", labels=["code"]
        )
        for code, count in counters.refusals.items():
            refused.add_metric([code], count)
        yield refused
        keeper = self._keeper
        for name, text, value in (
            ("beats", "Heartbeats taken.", counters.beats),
            ("registrations", "Registrations acknowledged.", counters.registrations),
            ("watchers_cut", "Consumers of /watch cut for being slow.", self._feed.cut),
            ("commits", "Batches made durable.", keeper.commits),
            ("commit_failures", "Batches the store refused.", keeper.commit_failures),
            ("stalled_seconds", "Time taken out of all leases.", keeper.stalled_s),
        ):
            yield CounterMetricFamily(f"creche_registry_{name}", text, value=value)
