"""Listening is exclusive, and its refusals name who has the port."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from common import listen
from common.address import Address
from common.errors import RefusalError
from tests.support.ports import free_port
from tests.support.processes import Processes


@pytest.fixture
def held() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for one in sockets:
        one.close()


def bind(held: list[socket.socket], host: str, port: int = 0) -> int:
    sockets = listen.bind(Address(host, port))
    held += sockets
    return listen.port_of(sockets)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::", ""])
async def test_it_listens(held: list[socket.socket], host: str) -> None:
    port = bind(held, host)
    _, writer = await asyncio.open_connection("::1" if ":" in host else "127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


def test_a_name_with_two_addresses_gets_one_port(held: list[socket.socket]) -> None:
    port = bind(held, "localhost")
    assert {one.getsockname()[1] for one in held} == {port}


def test_a_taken_port_names_its_owner(held: list[socket.socket]) -> None:
    port = bind(held, "127.0.0.1")
    with pytest.raises(RefusalError) as refusal:
        bind(held, "127.0.0.1", port)
    assert str(refusal.value).startswith(f"port {port} is taken by ")
    assert f"(pid {os.getpid()}, user " in str(refusal.value)
    assert '\n  Stop it, or set  listen = "…"' in str(refusal.value)


@pytest.mark.real
async def test_a_port_taken_by_another_process_names_that_process(
    processes: Processes, held: list[socket.socket]
) -> None:
    code = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0));"
        "print('port', s.getsockname()[1], '.', flush=True); time.sleep(60)"
    )
    other = processes.start([sys.executable, "-c", code], name="other")
    port = int((await other.said(" .")).split()[1])
    with pytest.raises(
        RefusalError, match=rf"port {port} is taken by python\S* \(pid {other.pid},"
    ):
        bind(held, "127.0.0.1", port)
    with pytest.raises(RefusalError, match="is taken by"):
        bind(held, "0.0.0.0", port)


def test_sharing_a_port_is_not_possible_even_with_so_reuseport(held: list[socket.socket]) -> None:
    port = bind(held, "127.0.0.1")
    assert held[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) != 0
    assert held[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    with socket.socket() as intruder:
        intruder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        intruder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            intruder.bind(("127.0.0.1", port))
            intruder.listen()


async def test_a_port_is_free_again_at_once_after_use(held: list[socket.socket]) -> None:
    """TIME_WAIT of the last connections must not stop a restart."""
    port = bind(held, "127.0.0.1", free_port())  # no outgoing connection gets it in between
    client = socket.create_connection(("127.0.0.1", port))
    held[0].setblocking(True)
    served, _ = held[0].accept()
    served.close()  # the server closes first: it keeps the TIME_WAIT
    client.recv(1)
    client.close()
    held.pop().close()
    assert bind(held, "127.0.0.1", port) == port


def test_an_address_of_another_machine_is_refused_clearly(held: list[socket.socket]) -> None:
    with pytest.raises(RefusalError, match=r"192\.0\.2\.1 is not an address of this machine"):
        bind(held, "192.0.2.1", 1234)


def test_a_name_that_is_none_is_refused_clearly(held: list[socket.socket]) -> None:
    with pytest.raises(RefusalError, match="cannot be resolved"):
        bind(held, "nobody.invalid", 1234)


def test_nothing_stays_bound_after_a_refusal(held: list[socket.socket]) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(RefusalError):
        bind(held, "localhost", port)
    assert bind(held, "localhost", port) == port


def test_the_config_key_can_be_another(held: list[socket.socket]) -> None:
    port = bind(held, "127.0.0.1")
    with pytest.raises(RefusalError, match="set  control_listen = "):
        listen.bind(Address("127.0.0.1", port), key="control_listen")


def test_the_address_towards_loopback_is_loopback() -> None:
    assert listen.address_towards("127.0.0.1", 80) == "127.0.0.1"
    assert listen.address_towards("nobody.invalid", 80) is None
