"""/proc tells who listens."""

import os
import socket
import struct
from pathlib import Path

import pytest

from common import procnet
from tests.support.ports import free_port

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  inode\n"
LITTLE = struct.pack("=I", 1) == b"\x01\0\0\0"


def fake_proc(folder: Path, tcp: str, tcp6: str = "") -> Path:
    net = folder / "self" / "net"
    net.mkdir(parents=True)
    (net / "tcp").write_text(HEAD + tcp)
    (net / "tcp6").write_text(HEAD + tcp6)
    return folder


def line(local: str, state: str = "0A", uid: int = 0, inode: int = 7) -> str:
    queues = "00000000:00000000 00:00000000 00000000"
    return f"   0: {local} 00000000:0000 {state} {queues}  {uid}        0 {inode} 1 0 100 0\n"


def test_our_own_listener_is_found_with_its_inode() -> None:
    port = free_port()  # nobody else's, at no address
    with socket.create_server(("127.0.0.1", port)) as one:
        inode = os.fstat(one.fileno()).st_ino
        assert procnet.port_inodes(port) == {inode}
        assert inode in procnet.socket_inodes(os.getpid())
        assert procnet.holders({inode}) == [os.getpid()]
        owner = procnet.owner_of(port)
        assert owner is not None
        assert (owner.pid, owner.name) == (os.getpid(), procnet.process_name(os.getpid()))
    assert procnet.owner_of(port) is None


def test_ipv6_listeners_are_found_too() -> None:
    port = free_port()
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        assert [x.host for x in procnet.listeners() if x.port == port] == ["::1"]


def test_a_connection_is_no_listener() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_connection(one.getsockname()) as client,
    ):
        assert procnet.port_inodes(client.getsockname()[1]) == set()


@pytest.mark.skipif(not LITTLE, reason="the sample is from a little-endian machine")
def test_kernel_tables_are_read(tmp_path: Path) -> None:
    proc = fake_proc(
        tmp_path,
        line("0100007F:1F40", uid=1000, inode=42) + line("00000000:0050", "01") + "\n  garbage\n",
        line("00000000000000000000000001000000:1F41", inode=43),
    )
    assert procnet.listeners(proc) == [
        procnet.Listener("127.0.0.1", 8000, 42, 1000),
        procnet.Listener("::1", 8001, 43, 0),
    ]


def test_an_owner_that_cannot_be_seen_is_told_by_its_user(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, line("0100007F:1F40", uid=4_000_000, inode=42))
    assert str(procnet.owner_of(8000, proc)) == "a process of user uid 4000000"
    assert procnet.owner_of(8001, proc) is None


def test_an_owner_is_told_in_full() -> None:
    assert str(procnet.Owner("ml", 4121, "vllm")) == "vllm (pid 4121, user ml)"


def test_a_machine_without_proc_tells_nothing(tmp_path: Path) -> None:
    assert procnet.listeners(tmp_path) == []
    assert procnet.owner_of(8000, tmp_path) is None
    assert procnet.socket_inodes(1, tmp_path) == set()
    assert procnet.process_name(1, tmp_path) is None
