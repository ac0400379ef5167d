"""The public port: accepts clients, times everything out, drains on shutdown.

start ─▶ serving ─ drain ─▶ still accepting, every answer says `Connection: close`
                             └─ nothing in flight, or drain_s over ─▶ listeners close, then all
serving ─ hand on ─▶ accepts no more, idle connections go to the successor
                             └─ nobody left, or replaced_drain_s over ─▶ all close
"""

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from common import clock, http, logs
from common.errors import RefusalError
from common.tasks import cancel, spawn
from router.body import Bodies
from router.config import Config
from router.crowd import Crowd
from router.downstream import Client
from router.errors import Problem, invalid
from router.gateway import Gateway
from router.handover import Control, hand_over, request_bytes
from router.inbound import Incoming
from router.keys.ring import KeyRing
from router.passing import Adopting, Heir
from router.reading import INLINE_BYTES_MAX
from router.request_id import RequestIds
from router.seam import Desk
from router.sweep import Sweep
from router.uplink import Pool

#: How often it is looked who has become idle and may go to the successor.
_PASS_EVERY_S = 0.02
#: How long a close waits for last words to leave.
_CLOSE_S = 1.0
#: What the kernel takes for a client before it has gone out. Else it would be megabytes of an
#: answer that a slow client may never take.
_UNSENT_BYTES = 128 << 10
#: A control request's body: admin calls and configurations.
_CONTROL_BODY_BYTES_MAX = 1 << 20

_log = logs.get("relay")


class Relay:
    """`control` makes aiohttp's protocols; None: this port serves no control path at all.

    `chance` (0 to 1) tells this process's request ids from others'.
    """

    def __init__(
        self, config: Config, desk: Desk, *, control: Control | None, chance: float
    ) -> None:
        loop = asyncio.get_running_loop()
        limits, timeouts = config.limits, config.timeouts
        self.limits = limits
        self.timeouts = timeouts
        self.half_close = config.half_close
        self.plain_errors = config.error_shape == "plain"
        self.control = control
        #: Operator paths live on a port of their own: here they are 404.
        self.control_elsewhere = config.control_listen is not None
        #: Of `listen`. None: it speaks plain HTTP.
        self.tls: ssl.SSLContext | None = None
        #: For HTTP/1.0 without a Host.
        self.host = b"localhost"
        self.clients: set[Client] = set()
        self.crowd = Crowd()
        self.draining = False
        #: Who takes this one's place. Asked for only while draining.
        self.heir: Heir | None = None
        #: Clients' keys. None: nobody is asked for one.
        self.ring: KeyRing | None = None
        self.now: Callable[[], float] = clock.monotonic
        self.bodies = Bodies(
            loop,
            body_bytes_max=limits.body_bytes_max,
            body_memory_bytes=limits.body_memory_bytes,
            memory_bytes_max=limits.bodies_memory_bytes_max,
            disk_bytes_max=limits.bodies_disk_bytes_max,
        )
        self.pool = Pool(
            loop,
            idle_s=timeouts.upstream_idle_s,
            kept_max=limits.upstream_connections_kept,
            head_bytes_max=limits.head_bytes_max,
        )
        self.pool.let_cors(config.cors == "upstream")
        self._ids = RequestIds(chance)
        self.gateway = Gateway(
            loop,
            desk,
            self.pool,
            self.bodies,
            limits,
            timeouts,
            self._ids,
            plain_errors=self.plain_errors,
        )
        self.start: Callable[[Client, Incoming], None] = self.gateway.start
        self._trusted = [_network(text) for text in config.trusted_proxies]
        self._desk = desk
        self._loop = loop
        self._listeners: list[asyncio.Server] = []
        self._sweep = Sweep(loop, self._sweep_clients, self.pool.sweep)
        #: Set while draining, when nothing is in flight; while closing, when nobody is left.
        self._quiet: asyncio.Event | None = None
        self._gone: asyncio.Event | None = None
        self._closed = False
        self._adopting: list[Adopting] = []

    def reconfigure(self, config: Config) -> None:
        """From the next request on: those that run keep what they began with."""
        limits, timeouts = config.limits, config.timeouts
        self.limits = self.gateway.limits = limits
        self.timeouts = self.gateway.timeouts = timeouts
        self.half_close = config.half_close
        self.plain_errors = self.gateway.plain_errors = config.error_shape == "plain"
        # What is in memory of a body that arrives now is settled: body_memory_bytes stays.
        memory_bytes = self.bodies.body_memory_bytes
        self.gateway.inline_bytes = min(INLINE_BYTES_MAX, memory_bytes, limits.json_bytes_max)
        self.pool.head_bytes_max = limits.head_bytes_max
        self.pool.let_cors(config.cors == "upstream")
        self.bodies.body_bytes_max = limits.body_bytes_max
        self.bodies.memory_bytes_max = limits.bodies_memory_bytes_max
        self.bodies.disk_bytes_max = limits.bodies_disk_bytes_max
        self._trusted = [_network(text) for text in config.trusted_proxies]

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Serve on listening sockets, bound by the caller."""
        for one in sockets:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                # What is accepted inherits it.
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
            self._listeners.append(
                await self._loop.create_server(
                    lambda: Client(self),
                    sock=one,
                    start_serving=True,
                    ssl=self.tls,
                    ssl_handshake_timeout=self.timeouts.head_s if self.tls else None,
                    ssl_shutdown_timeout=_CLOSE_S if self.tls else None,
                )
            )
        self._sweep.start()

    def trusts(self, peer: str) -> bool:
        """Whether `peer` is one of trusted_proxies."""
        if not self._trusted:
            return False
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    @property
    def scheme(self) -> str:
        """As X-Forwarded-Proto says it."""
        return "http" if self.tls is None else "https"

    @property
    def in_flight(self) -> int:
        """Requests that have begun and were not answered."""
        return self.gateway.active

    def _sweep_clients(self, now: float) -> None:
        late = [client for client in self.clients if client.deadline <= now]
        for client in late:
            client.timed_out(now)
        if self._quiet is not None:
            self.client_gone()

    def refused(self, problem: Problem, started: float, id_: bytes | None) -> bytes:
        """A request that never became an exchange ended with this. Its id: the client's, or new."""
        id_ = id_ or self._ids.next(clock.wall())
        self._desk.refused(id_.decode("latin-1"), problem, started, self.now())
        return id_

    def hand_over(self, client: Client, incoming: Incoming, rest: bytes) -> None:
        body = incoming.body
        if body.on_disk or body.size > _CONTROL_BODY_BYTES_MAX:
            client.answer_problem(incoming, invalid("the body is too large here", status=413))
            return
        head = incoming.head
        data = request_bytes(head.method, head.target, head.http10, incoming.headers, body.whole())
        body.release()
        control = self.control
        assert control is not None
        client.closed = True
        client.forget()
        hand_over(client.transport, control, data + rest)
        self.client_gone()

    # --- ending ---------------------------------------------------------------------------------

    def client_gone(self) -> None:
        if self._quiet is not None and all(client.idle for client in self.clients):
            self._quiet.set()
        if self._gone is not None and not self.clients:
            self._gone.set()

    async def drain(self, timeout_s: float, hurry: asyncio.Event | None = None) -> None:
        """Answer what is in flight and what still comes; for `timeout_s` or until `hurry`.

        A listener with a queue is never closed early: what stands in it would be reset.
        """
        self.draining = True
        quiet = self._quiet = asyncio.Event()
        self.client_gone()
        waits = [spawn(one.wait(), "relay.drain") for one in (quiet, hurry) if one is not None]
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        await cancel(*waits)

    def stop_accepting(self) -> None:
        """Where others hold the sockets, too: what stands in their queue waits for those."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def adopt(self, channel: socket.socket) -> None:
        """Take over the connections that a predecessor sends through `channel`. Those are plain:
        where TLS is spoken now, the predecessor keeps them until it has answered."""
        if self.tls is not None:
            channel.close()
            return
        self._adopting = [one for one in self._adopting if one.open]
        self._adopting.append(Adopting(channel, lambda: Client(self)))

    async def hand_on(self, heir: Heir, timeout_s: float, *ends: asyncio.Event) -> None:
        """A successor serves on the same sockets. Until all have gone there or ended; for
        `timeout_s`, or until one of `ends`.

        What predecessors still send is passed on, too: they are told of the new successor when
        this one is.
        """
        self.heir = heir
        self.draining = True
        self.stop_accepting()
        until = self.now() + timeout_s
        waits = [spawn(one.wait(), "relay.hand_on") for one in ends]
        left = True
        while left and self.now() < until and not any(one.is_set() for one in ends):
            heir.take(list(self.clients))
            # At least once: an accepted connection is made one turn later.
            await asyncio.wait(waits, timeout=_PASS_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            left = bool(self.clients) or any(one.open for one in self._adopting)
        await cancel(*waits)
        heir.close()
        self.heir = None
        _log.info("handed on", connections=heir.passed, left=len(self.clients))

    async def close(self) -> None:
        """Close at once. What is in flight is told, where it can be."""
        if self._closed:
            return
        self._closed = True
        for listener in self._listeners:
            listener.close()
        gone = self._gone = asyncio.Event()
        for client in list(self.clients):
            client.shut_down()
        if self.clients:
            # What was written last leaves with the transports' next turns.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), _CLOSE_S)
        for client in list(self.clients):
            client.abort()
        self._sweep.close()
        for one in self._adopting:
            one.close()
        self.pool.close()
        await asyncio.sleep(0)
        self.bodies.close()
        self._listeners.clear()


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as why:
        raise RefusalError(
            f'trusted_proxies has "{text}", which is neither an address nor a network: {why}.\n'
            '  Write them like  trusted_proxies = ["10.0.0.5", "10.1.0.0/16"]'
        ) from why


async def serve_relay(
    sockets: list[socket.socket],
    desk: Desk,
    config: Config,
    control: http.Server | None,
    *,
    ring: KeyRing | None = None,
    tls: ssl.SSLContext | None = None,
) -> Relay:
    """A relay that serves on `sockets`, over TLS where there is `tls`. `control` takes the control
    requests, `ring` has the clients' keys."""
    relay = Relay(
        config,
        desk,
        control=None if control is None else control.protocol,
        chance=random.random(),
    )
    relay.ring = ring
    relay.tls = tls
    await relay.listen(sockets)
    return relay
