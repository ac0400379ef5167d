"""`creche-babysitter`: is each engine I was given running and ready; if not, what happens next?"""

import sys

from babysitter import app, check, config
from common.cli import Program

PROGRAM = Program(
    "creche-babysitter",
    "Starts engines, keeps them running, and tells the registry what is true of them.",
    config.Config,
    app.main,
    check=check.check,
    describe=check.describe,
)


def main() -> None:
    sys.exit(PROGRAM.run())


if __name__ == "__main__":
    main()
