"""Sockets that a service manager opened: used where they match, refused where they do not."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common import inherit, listen
from common.address import Address
from common.errors import RefusalError
from tests.support.ports import free_port
from tests.support.processes import Processes

Give = Callable[..., list[socket.socket]]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Iterator[Give]:
    """Has sockets inherited by this very process, under descriptors in a row."""
    kept: list[socket.socket] = []

    def given(*sockets: socket.socket, names: str = "", pid: int = 0) -> list[socket.socket]:
        kept.extend(sockets)
        first = 200
        for number, one in enumerate(sockets):
            os.dup2(one.fileno(), first + number)
        monkeypatch.setattr(inherit, "FIRST_FD", first)
        monkeypatch.setenv("LISTEN_PID", str(pid or os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", str(len(sockets)))
        monkeypatch.setenv("LISTEN_FDNAMES", names)
        return kept

    yield given
    for one in kept:
        one.close()


def listening(host: str = "127.0.0.1", *, dual: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family, dualstack_ipv6=dual)


def port_of(one: socket.socket) -> int:
    return int(one.getsockname()[1])


def test_the_given_socket_is_used_and_the_variables_are_taken_away(give: Give) -> None:
    held = listening()
    give(held, names="creche-registry.socket")
    opened = listen.open_all({"listen": Address("127.0.0.1", port_of(held))})
    (one,) = opened.sockets["listen"]
    assert os.fstat(one.fileno()).st_ino == os.fstat(held.fileno()).st_ino
    assert opened.given == {"listen"}
    assert not one.get_inheritable()
    assert not one.getblocking()
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    opened.close()


def test_what_is_not_given_is_bound(give: Give) -> None:
    held = listening()
    give(held)
    wanted = {
        "listen": Address("127.0.0.1", port_of(held)),
        "control_listen": Address("127.0.0.1", 0),
    }
    opened = listen.open_all(wanted)
    assert opened.given == {"listen"}
    assert port_of(opened.sockets["control_listen"][0]) != port_of(held)
    opened.close()


def test_each_key_gets_its_own(give: Give) -> None:
    public, operator = listening(), listening()
    give(operator, public)
    opened = listen.open_all(
        {
            "listen": Address("localhost", port_of(public)),
            "control_listen": Address("127.0.0.1", port_of(operator)),
        }
    )
    assert [port_of(one) for one in opened.sockets["listen"]] == [port_of(public)]
    assert [port_of(one) for one in opened.sockets["control_listen"]] == [port_of(operator)]
    opened.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])
def test_the_wildcard_that_systemd_binds_for_a_bare_port_is_every_interface(
    give: Give, host: str
) -> None:
    held = listening("::", dual=True)
    give(held)
    opened = listen.open_all({"listen": Address(host, port_of(held))})
    assert opened.given == {"listen"}
    opened.close()


def test_another_address_is_refused_with_both_ways_to_mend_it(give: Give) -> None:
    held = listening()
    give(held, names="creche-router.socket")
    other = free_port()
    with pytest.raises(RefusalError) as refusal:
        listen.open_all({"listen": Address("127.0.0.1", other)})
    port = port_of(held)
    assert str(refusal.value) == (
        f'the service manager holds 127.0.0.1:{port} ("creche-router.socket"), and the '
        f'configuration says listen = "127.0.0.1:{other}".\n'
        f"  Make them agree: ListenStream=127.0.0.1:{other} in the .socket unit, "
        f'or  listen = "127.0.0.1:{port}"'
    )


def test_a_holder_may_hold_what_is_no_longer_wanted(give: Give) -> None:
    give(listening())
    opened = listen.open_all({"listen": Address("127.0.0.1", 0)}, must_match=False)
    assert opened.given == {"listen"}
    opened.close()
    give(listening())
    opened = listen.open_all({"listen": Address("127.0.0.1", free_port())}, must_match=False)
    assert opened.given == frozenset()
    opened.close()


def test_variables_that_mean_another_process_are_ignored(give: Give) -> None:
    (held,) = give(listening(), pid=os.getpid() + 1)
    assert inherit.take() == []
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    with pytest.raises(RefusalError, match="is taken by"):
        listen.open_all({"listen": Address("127.0.0.1", port_of(held))})
    os.close(200)


def test_a_socket_that_does_not_listen_is_refused(give: Give) -> None:
    give(socket.socket(), names="odd")
    with pytest.raises(RefusalError, match='gave "odd" as descriptor 200, which listens on'):
        inherit.take()


def test_so_many_sockets_are_a_mistake() -> None:
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "17"}
    with pytest.raises(RefusalError, match="gave 17 sockets; 16 are the most"):
        inherit.take(environ, 7)


@pytest.mark.real
@pytest.mark.parametrize("module", ["registry", "router"])
async def test_a_daemon_serves_on_what_systemd_holds(
    processes: Processes, tmp_path: Path, module: str
) -> None:
    """systemd-socket-activate opens the socket, and starts the daemon with the first client."""
    activate = shutil.which("systemd-socket-activate")
    assert activate is not None, "install systemd: make test does"
    port = free_port()
    config = tmp_path / "daemon.toml"
    config.write_text(f'listen = "127.0.0.1:{port}"\nstate_dir = "{tmp_path / "state"}"\n')
    daemon = processes.start(
        [
            activate,
            "-l",
            f"127.0.0.1:{port}",
            "-E",
            "PYTHONPATH",
            "-E",
            "CRECHE_TEST_RUN",
            sys.executable,
            "-m",
            module,
            "--config",
            config,
        ],
        name=module,
    )
    await daemon.ready(f"http://127.0.0.1:{port}/health")
    daemon.terminate()
    assert await daemon.ended() == 0
