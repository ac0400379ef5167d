"""Two connections, opaque to each other's bytes, after a 101. Either end closes both.

Limits: nothing either way for `idle_s`, and `lifetime_s` in all. Each side is read only as fast as
the other takes it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from common import clock

if TYPE_CHECKING:
    from router.downstream import Client
    from router.uplink import Uplink


class Tunnel:
    __slots__ = ("_client", "_ended", "_idle_s", "_link", "_over", "_until")

    def __init__(
        self,
        client: "Client",
        link: "Uplink",
        now: float,
        *,
        idle_s: float,
        lifetime_s: float,
        ended: Callable[[], None],
    ) -> None:
        self._client = client
        self._link = link
        self._idle_s = idle_s
        self._until = now + lifetime_s
        self._ended = ended
        self._over = False
        self._moved()

    def _moved(self) -> None:
        self._client.deadline = min(clock.monotonic() + self._idle_s, self._until)

    def from_client(self, data: bytes) -> None:
        if not self._link.transport.is_closing():
            self._link.transport.write(data)
        self._moved()

    def from_upstream(self, data: bytes) -> None:
        if not self._client.transport.is_closing():
            self._client.transport.write(data)
        self._moved()

    def client_paused(self) -> None:
        self._link.transport.pause_reading()

    def client_resumed(self) -> None:
        if not self._over:
            self._link.transport.resume_reading()

    def upstream_paused(self) -> None:
        self._client.transport.pause_reading()

    def upstream_resumed(self) -> None:
        if not self._over:
            self._client.transport.resume_reading()

    def client_lost(self) -> None:
        self._close()

    def upstream_lost(self) -> None:
        self._close()

    def timed_out(self, now: float) -> None:
        self._close()

    def close(self) -> None:
        self._close()

    def _close(self) -> None:
        """`close`, not `abort`: what one side said last still reaches the other."""
        if self._over:
            return
        self._over = True
        self._client.tunnel = None
        self._link.tunnel = None
        self._client.closing = True
        self._link.transport.close()
        self._client.transport.close()
        # A side that takes nothing must not keep its connection for ever.
        self._client.deadline = clock.monotonic() + 5
        self._ended()
