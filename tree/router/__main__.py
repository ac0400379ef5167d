"""`creche-router`: run the router, or check its configuration files.

With --replaceable this process only holds the ports, and the router is its child: so nothing of
the router is imported before that is known.
"""

import sys

from common import holder


def main() -> int:
    if holder.wanted(sys.argv[1:]):
        return holder.run("router")
    from router.program import PROGRAM

    return PROGRAM.run()


if __name__ == "__main__":
    sys.exit(main())
