"""`creche-router`: run the router, or check its configuration files."""

import sys

from common.cli import Program
from router import app, check
from router.config import Config

PROGRAM = Program(
    "creche-router",
    "Sends each request to the engine that will serve it best.",
    Config,
    app.main,
    check=check.problems,
    describe=check.summary,
)


def main() -> int:
    return PROGRAM.run()


if __name__ == "__main__":
    sys.exit(main())
