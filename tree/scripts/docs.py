"""Writes docs/config-reference.md from the config Structs; `--check` only compares.

usage: python scripts/docs.py [--check]      exit 1: the page on disk is not what would be written
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from babysitter.config import Config as Babysitter  # noqa: E402
from common import reference  # noqa: E402
from registry.config import Config as Registry  # noqa: E402
from router.config import Config as Router  # noqa: E402

PAGE = ROOT / "docs" / "config-reference.md"
DAEMONS = {"registry": Registry, "babysitter": Babysitter, "router": Router}
HEAD = """\
# Configuration: every key

Written from the config Structs by `make docs`: change the comments there. Commented files to
start from are in [`configs/`](../configs). `creche-router check FILE` (and so for each daemon)
tells what is wrong in a file. Unknown keys are errors. Numbers carry their unit in the name:
`_s` seconds, `_ms` milliseconds, `_bytes`.
"""


def page() -> str:
    parts = [HEAD]
    for name, config in DAEMONS.items():
        parts.append(f"## {name}.toml\n\n{reference.markdown(config)}")
    return "\n".join(parts)


def main() -> int:
    text = page()
    if sys.argv[1:] == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == text:
            return 0
        print(f"{PAGE.relative_to(ROOT)} is not what the config Structs say: run  make docs")
        return 1
    PAGE.write_text(text)
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
