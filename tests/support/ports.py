"""Ports for tests that really listen."""

import random
import socket
from pathlib import Path


def free_port() -> int:
    """A TCP port that nobody listens on now. Prefer port 0 where the listener can tell its port."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different free ports that stay so while nobody listens: none that outgoing connections get,
    of this test or of one that runs beside it."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.sample(range(first // 2, first), min(2_000, first // 2)):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"no {count} free ports below {first}")
