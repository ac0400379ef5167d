"""Which cores, and what a process used of them, from the kernel's own accounting."""

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def two_cores() -> tuple[int, int]:
    """The core of the server under test and that of all else. Raises RuntimeError with one core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError(
            f"this needs two cores and may use {len(cores)}: the server under test would compete "
            "with its own load"
        )
    return cores[-1], cores[-2]


def used_s(pid: int) -> float:
    """Seconds of CPU that `pid` and its living descendants have used, user and system.

    From schedstat, in nanoseconds; where the kernel keeps none, from stat, in ticks of 10 ms.
    Raises ProcessLookupError.
    """
    return sum(_used_alone_s(one) for one in family(pid))


def family(pid: int) -> list[int]:
    """`pid` and its living descendants, forked but not exec'ed workers included."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def _used_alone_s(pid: int) -> float:
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    if not tasks:
        raise ProcessLookupError(pid)
    try:
        on_cpu_ns = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    except FileNotFoundError:
        on_cpu_ns = 0
    if on_cpu_ns:
        return on_cpu_ns / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mb(pid: int) -> float:
    """Memory of `pid` and its descendants. Pages they share count in each."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def core_busy_s(core: int) -> float:
    """Seconds that `core` has worked for anybody, or was withheld from this virtual machine."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
    raise RuntimeError(f"/proc/stat does not tell of core {core}")


def machine_is_busy() -> str | None:
    """A sentence when others had this machine's cores in the last minute: ratios then wander."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < 0.5 * cores:
        return None
    return f"load average {load:.1f} on {cores} cores before the start: others are at work"
