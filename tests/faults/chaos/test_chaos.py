"""Everything that can break is broken at random, under load: nothing is lost, stuck or left over.

Longer, and with other seeds: `python -m tests.faults.chaos --seed 7 --minutes 10`, and `--redis`.
"""

from pathlib import Path

import pytest

from tests.faults.chaos.run import run

#: Of each form of the fleet: a minute in all.
SECONDS = 30.0
EVERY_S = 1.6


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("seed", "shared"), [(20, False), (32, True)], ids=["one registry", "two on one Redis"]
)
async def test_half_a_minute_of_everything_at_once(tmp_path: Path, seed: int, shared: bool) -> None:
    report = await run(tmp_path, seed=seed, seconds=SECONDS, every_s=EVERY_S, shared=shared)
    print(report)
    assert report.good, f"\n{report}"
    assert report.account.became["whole"] > 200, "the load was a load"
