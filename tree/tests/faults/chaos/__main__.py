"""`python -m tests.faults.chaos --seed 7 --minutes 10`: by hand, as long as you like.

The folder with every log is kept. Exit status 1 where something did not hold.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.chaos.run import by_hand


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every-s", type=float, default=2.0, help="a fault about so often")
    parser.add_argument("--folder", type=Path, help="for logs and state (default: a new one)")
    parser.add_argument("--redis", action="store_true", help="two registries on one Redis")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="creche-chaos-"))
    return 0 if by_hand(folder, given.seed, given.minutes, given.every_s, given.redis) else 1


if __name__ == "__main__":
    sys.exit(main())
