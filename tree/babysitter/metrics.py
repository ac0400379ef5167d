"""`/metrics`: read from the engines at scrape time; between scrapes it costs nothing."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from babysitter.supervisor import Supervisor
from common.wire.babysitter import EngineState


class Exposition:
    def __init__(self, engines: dict[str, Supervisor]) -> None:
        self._engines = engines
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        return []  # nothing to check for duplicates before the first scrape

    def collect(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "creche_babysitter_engine_state",
            "1 for the state that the engine is in.",
            labels=["engine", "state"],
        )
        restarts = CounterMetricFamily(
            "creche_babysitter_engine_restarts", "Automatic restarts.", labels=["engine"]
        )
        exits = CounterMetricFamily(
            "creche_babysitter_engine_failures",
            "Ends that nobody asked for, by cause, since this babysitter started.",
            labels=["engine", "cause"],
        )
        registered = GaugeMetricFamily(
            "creche_babysitter_engine_registered",
            "1 while the registry knows it.",
            labels=["engine"],
        )
        for name, one in self._engines.items():
            view = one.view()
            for each in EngineState:
                state.add_metric([name, each.value], float(view.state is each))
            restarts.add_metric([name], view.restarts)
            registered.add_metric([name], float(view.registered))
            for cause, count in sorted(one.causes.items()):
                exits.add_metric([name, cause], count)
        yield from (state, restarts, exits, registered)
