"""Ports for tests that really listen.

A port that was found free is taken only when the process that it is for listens: a second or more
later. So each test run has a block of ports for itself, which no run beside it (scripts/test.sh has
three) is given any of, and hands out first what it has not handed out for longest; the same holds
for a port's neighbours, since a registry asks who is one above an engine.
"""

import random
import socket
from collections.abc import Sequence
from pathlib import Path

BLOCKS = 32
#: What the kernel gives to outgoing connections, its first and its last.
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: The ports of this run, and after how many others each was handed out last. Filled when the first
#: is asked for.
_mine: dict[int, int] = {}


def free_port() -> int:
    """A TCP port that nobody listens on now. Prefer port 0 where the listener can tell its port."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different free ports that stay so while nobody listens: none that outgoing connections get,
    of this test or of one that runs beside it."""
    return [free_port_with((0,)) for _ in range(count)]


def free_port_with(offsets: Sequence[int]) -> int:
    """A port from which all at these distances are free, too, and stay so."""
    if not _mine:
        _mine.update(dict.fromkeys(_block(), 0))
    nearby = {offset + by for offset in offsets for by in (-1, 0, 1)}
    bases = [port for port in _mine if all(port + offset in _mine for offset in offsets)]
    bases.sort(key=lambda port: max(_mine.get(port + by, 0) for by in nearby))
    for base in bases:
        wanted = [base + offset for offset in offsets]
        if all(map(_is_free, wanted)):
            _mine.update(dict.fromkeys(wanted, max(_mine.values()) + 1))
            return base
    raise AssertionError(f"none of {len(bases)} ports is free (with {offsets})")


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _block() -> list[int]:
    """Ports that are this process's until it ends, from a random one on; when all blocks have an
    owner, those of another, too."""
    ports = _not_outgoing()
    size = len(ports) // BLOCKS
    chosen = random.sample(range(BLOCKS), BLOCKS)
    number = next(filter(_claimed, chosen), chosen[0])
    block = ports[number * size : (number + 1) * size]
    start = random.randrange(size)
    return [*block[start:], *block[:start]]


def _claimed(number: int) -> bool:
    """By an abstract address, which the kernel frees when this process ends, however it ends."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        one.bind(f"\0creche-test-ports-{number}")
    except OSError:
        one.close()
        return False
    one.detach()  # stays open
    return True


def _not_outgoing() -> range:
    first, last = map(int, OUTGOING.read_text().split())
    if first > 8_192:
        return range(first // 2, first)
    return range(max(last + 1, 16_384), 65_536) if last < 49_152 else range(16_384, 32_768)
