"""Who may connect, by address, and how many were turned away. Pure: counts, no sockets.

    connected ─▶ enter ─ as many of this address as may be: False, it is refused
    gone, or handed over ─▶ leave

One IPv6 host has a whole /64 to itself, so those are counted together.
"""

from ipaddress import IPv6Address

#: Why a connection was refused; why a client was closed that was too slow.
REFUSED = ("all", "address")
SLOW = ("head", "body", "answer")


class Crowd:
    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self.refused = dict.fromkeys(REFUSED, 0)
        self.slow = dict.fromkeys(SLOW, 0)

    def enter(self, address: str, most: int) -> bool:
        """One more of this address, unless there are `most`."""
        count = self._of.get(address, 0)
        if count >= most:
            return False
        self._of[address] = count + 1
        return True

    def leave(self, address: str) -> None:
        count = self._of.get(address, 0)
        if count > 1:
            self._of[address] = count - 1
        else:
            self._of.pop(address, None)

    @property
    def addresses(self) -> int:
        return len(self._of)


def household(peer: str) -> str:
    """What counts as one address."""
    if ":" not in peer:
        return peer
    try:
        address = IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()
