"""`creche-registry`: what runs where, and is it fit to serve?"""

import sys

from common.cli import Program
from registry import app, config

PROGRAM = Program(
    "creche-registry",
    "What runs where, and is it fit to serve?",
    config.Config,
    app.main,
    check=config.problems,
    describe=config.describe,
)


def main() -> None:
    sys.exit(PROGRAM.run())


if __name__ == "__main__":
    main()
