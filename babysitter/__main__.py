"""`creche-babysitter`: is each engine I was given running and ready; if not, what happens next?"""

import sys

from babysitter import app, config
from common.cli import Program

PROGRAM = Program(
    "creche-babysitter",
    "Starts engines, keeps them running, and tells the registry what is true of them.",
    config.Config,
    app.main,
    check=config.check,
    describe=config.describe,
)


def main() -> None:
    sys.exit(PROGRAM.run())


if __name__ == "__main__":
    main()
