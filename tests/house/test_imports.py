"""What a process loads that it may never need."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    "name", ["registry.app", "router.program", "babysitter.app", "ctl.__main__"]
)
def test_the_client_of_redis_is_loaded_where_a_redis_is_named(name: str) -> None:
    """It takes 20 MB and a tenth of a second."""
    look = f"import sys, {name}; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=False).returncode == 0
