"""Ports for tests that really listen."""

import random
import socket
from pathlib import Path


def free_port() -> int:
    """A TCP port that nobody listens on now. Prefer port 0 where the listener can tell its port."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different free ports: all are held until the last is found."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def lasting_ports(count: int) -> list[int]:
    """Different free ports that stay so while nobody listens: none that outgoing connections get.

    For daemons that die and come back on the same port under load.
    """
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
