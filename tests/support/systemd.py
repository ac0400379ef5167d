"""The service manager, as a daemon sees it."""

import socket


class Systemd:
    """What systemd does: a datagram socket that a service tells its state."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(30)

    def next(self) -> str:
        return self._socket.recv(4096).decode()

    def until(self, wanted: str) -> list[str]:
        """Messages up to the wanted one."""
        said = [self.next()]
        while said[-1] != wanted:
            said.append(self.next())
        return said

    def close(self) -> None:
        self._socket.close()
