"""Does anybody wait for this engine? By what the kernel knows of its connections (Linux sock_diag).

    nothing ever came                      ──▶ idle: opened ahead of a request
    bytes came last, or at the same tick   ──▶ busy: a request that is not answered yet
    bytes wait in the socket               ──▶ busy: unread, or not delivered
    bytes went last, less than idle_s ago  ──▶ busy: an answer may go on
    bytes went last, idle_s ago or more    ──▶ idle: a pool keeps it open

Pooled connections stay open for as long as their client likes: counting them would make each stop
wait for that. Numbers are from `struct inet_diag_msg` and `struct tcp_info` of the kernel.
"""

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_ESTABLISHED = 1
_INFO = 2  # INET_DIAG_INFO
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_MESSAGE_BYTES = 72
_QUEUES = struct.Struct("=II")
_QUEUES_AT = 56
_TIMES = struct.Struct("=III")  # last_data_sent, last_ack_sent, last_data_recv
_TIMES_AT = 8 + 9 * 4
_BYTES_RECEIVED = struct.Struct("=Q")
_BYTES_RECEIVED_AT = 8 + 24 * 4 + 3 * 8
_READ_BYTES = 1 << 16
#: The kernel answers from memory.
_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Connection:
    """How long ago bytes went out and came in, in milliseconds (by the kernel's tick, up to 10);
    `queued` bytes wait in it. `received`: whether any ever came."""

    sent_ms: int
    received_ms: int
    queued: int = 0
    received: bool = True


def busy(connections: Iterable[Connection], idle_s: float) -> bool:
    """Whether any of these has, or may have, a request on it."""
    return any(
        one.queued > 0 or one.received_ms <= one.sent_ms or one.sent_ms < idle_s * 1000
        for one in connections
        if one.received
    )


def connections(port: int) -> list[Connection]:
    """Established connections to local `port`. Raises OSError where the kernel does not tell."""
    found: list[Connection] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT_S)
        for family in (socket.AF_INET, socket.AF_INET6):
            kernel.send(_question(family, port))
            over = False
            while not over:
                seen, over = parse(kernel.recv(_READ_BYTES))
                found += seen
    return found


def _question(family: int, port: int) -> bytes:
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, 1 << _ESTABLISHED)
    body += struct.pack(">H", port) + bytes(46)
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _DUMP, 1, 0) + body


def parse(raw: bytes) -> tuple[list[Connection], bool]:
    """One datagram of the kernel's, and whether the list ends with it. Raises OSError."""
    found: list[Connection] = []
    while len(raw) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(raw)
        if kind == _DONE:
            return found, True
        if kind == _ERROR or length < _HEADER.size:
            raise OSError("the kernel does not list connections")
        if (one := _connection(raw[_HEADER.size : length])) is not None:
            found.append(one)
        raw = raw[(length + 3) & ~3 :]
    return found, False


def _connection(message: bytes) -> Connection | None:
    unread, unsent = _QUEUES.unpack_from(message, _QUEUES_AT)
    for kind, value in _attributes(message[_MESSAGE_BYTES:]):
        if kind == _INFO and len(value) >= _BYTES_RECEIVED_AT + _BYTES_RECEIVED.size:
            sent_ms, _, received_ms = _TIMES.unpack_from(value, _TIMES_AT)
            [count] = _BYTES_RECEIVED.unpack_from(value, _BYTES_RECEIVED_AT)
            return Connection(sent_ms, received_ms, unread + unsent, count > 0)
    return None


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    while len(raw) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(raw)
        if length < _ATTRIBUTE.size:
            return
        yield kind, raw[_ATTRIBUTE.size : length]
        raw = raw[(length + 3) & ~3 :]
