"""Ports for tests that really listen."""

import socket


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
