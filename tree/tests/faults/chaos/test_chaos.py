"""Everything that can break is broken at random, under load: nothing is lost, stuck or left over.

Longer, and with other seeds: `python -m tests.faults.chaos --seed 7 --minutes 10`.
"""

from pathlib import Path

import pytest

from tests.faults.chaos.run import run

SEED = 20
SECONDS = 20.0
EVERY_S = 1.6


@pytest.mark.real
@pytest.mark.timeout(300)
async def test_twenty_seconds_of_everything_at_once(tmp_path: Path) -> None:
    report = await run(tmp_path, seed=SEED, seconds=SECONDS, every_s=EVERY_S)
    print(report)
    assert report.good, f"\n{report}"
    assert report.account.became["whole"] > 200, "the load was a load"
