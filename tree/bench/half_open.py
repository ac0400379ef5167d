"""Connections on their way, asked of the kernel by sock_diag(7).

/proc/net/tcp tells the same, but after some thousand requests it is long, and reading it would take
more time than what is measured.
"""

import socket
import struct

_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_SYN_SENT = 2
_HEADER = struct.Struct("=IHHII")


def half_open(port: int) -> int:
    """IPv4 connections to `port` that wait for the other side's first word."""
    # inet_diag_req_v2: family, protocol, extensions, pad, states; then ports, addresses and cookie
    what = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 1 << _SYN_SENT)
    where = struct.pack(">HH", 0, port) + bytes(44)
    body = what + where
    head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    found = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as netlink:
        netlink.send(head + body)
        while True:
            data = netlink.recv(1 << 16)
            while data:
                size, kind, *_ = _HEADER.unpack_from(data)
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    raise OSError("the kernel has no sock_diag for TCP")
                found += struct.unpack_from(">H", data, _HEADER.size + 6)[0] == port
                data = data[(size + 3) & ~3 :]
