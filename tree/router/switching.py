"""How a WebSocket's answer becomes a tunnel: both heads written anew, then bytes pass unread.

What the client sent ahead of the 101 waited and goes first.
"""

from router.answering import TUNNEL
from router.ending import Ending
from router.head import AnswerHead, status_line
from router.outcome import Outcome
from router.tunnel import Tunnel
from router.uplink import Uplink


class Switching(Ending):
    def _open_tunnel(self, link: Uplink, head: AnswerHead, now: float) -> None:
        client = self._client
        client.closing = True
        self._phase = TUNNEL
        self._first_byte = now
        self._status = 101
        attempt = self._attempt
        assert attempt is not None
        timeouts = self._gateway.timeouts
        self._write(
            b"%b%bconnection: Upgrade\r\nupgrade: websocket\r\nx-request-id: %b\r\n"
            b"x-creche-service: %b\r\n\r\n%b"
            % (
                status_line(101),
                head.lines,
                self._id,
                attempt.upstream.name.encode("latin-1", "replace"),
                link.rest,
            )
        )
        self._body.release()
        tunnel = Tunnel(
            client,
            link,
            now,
            idle_s=timeouts.upgrade_idle_s,
            lifetime_s=timeouts.upgrade_lifetime_s,
            ended=self._tunnel_ended,
        )
        link.owner = None
        link.tunnel = client.tunnel = tunnel
        early = client.take_pending()
        if early:
            tunnel.from_client(early)

    def _tunnel_ended(self) -> None:
        self._link = None
        self._client.current = None
        self._end(Outcome.OK, None)
