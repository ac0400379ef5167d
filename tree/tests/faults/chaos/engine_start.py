"""What each engine is started through: a witness of its own, which asks the product nothing.

Runs under `python -I -S` (a copy of this file, made executable). It writes down every start, and
who of this engine's processes lived at that moment: there must be none. It also crashes on demand:
a file `NAME.crash` that holds `once` or `loop`. Then it becomes the engine.
"""

import os
import sys
import time

NAME, FOLDER = "CHAOS_ENGINE", "CHAOS_FOLDER"


def others(name: str, folder: str) -> list[int]:
    """Living processes of this engine, besides this one."""
    wanted = {f"{NAME}={name}".encode(), f"{FOLDER}={folder}".encode()}
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as environ:
                marks = set(environ.read().split(b"\0"))
            with open(f"/proc/{entry}/stat") as stat:
                state = stat.read().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if wanted <= marks and state not in "ZX":
            found.append(int(entry))
    return found


def main() -> None:
    name, folder = os.environ[NAME], os.environ[FOLDER]
    alive = ",".join(map(str, others(name, folder))) or "-"
    with open(f"{folder}/starts", "a") as starts:
        starts.write(f"{time.monotonic():.3f} {name} {os.getpid()} {alive}\n")
    crash = f"{folder}/{name}.crash"
    try:
        with open(crash) as asked:
            once = asked.read() == "once"
        if once:
            os.unlink(crash)
        print(f"{name} crashes in its start, as it was told", flush=True)
        os._exit(3)
    except FileNotFoundError:
        pass
    python = os.environ["CHAOS_PYTHON"]
    os.execv(python, [python, *sys.argv[1:]])


if __name__ == "__main__":
    main()
