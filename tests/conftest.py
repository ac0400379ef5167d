"""What every test may use. Processes started through `processes` are gone when the test is."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import Processes

# CI machines stall; a slow example is no failure. The examples are the same on every run.
settings.register_profile(
    "creche", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("creche"), max_examples=20)
settings.load_profile("creche")


def pytest_configure(config: pytest.Config) -> None:
    """`make test-quick` takes a fifth of the examples; `make test` has all."""
    # Under nohup a hang-up is ignored, and whatever is started would ignore it too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # So is Ctrl-C in what a script starts beside itself.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.markexpr == "not real" and not config.option.hypothesis_profile:
        settings.load_profile("quick")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts processes; at the end none is left, whatever the test did."""
    started = Processes(tmp_path)
    try:
        yield started
    finally:
        started.close()
