"""What every test may use. Processes started through `processes` are gone when the test is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import Processes

# CI machines stall; a slow example is no failure. The examples are the same on every run.
settings.register_profile(
    "creche", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("creche")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts processes; at the end none is left, whatever the test did."""
    started = Processes(tmp_path)
    try:
        yield started
    finally:
        started.close()
