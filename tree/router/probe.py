"""Asks upstreams that traffic found unreachable or failing whether they are back.

Set aside by a failed connect: a connect every second, with TLS where it speaks that. Unhealthy by
its answers: a GET of /health, or of what its type of provider answers, every ten seconds; any
answer below 500 counts, since many engines have no such path. Only what is out is asked, so a
healthy fleet sees no probe. A provider's key goes to that provider alone: no redirect is followed.
"""

import asyncio
import socket
import ssl
from urllib.parse import urlunsplit

from aiohttp import ClientError, ClientSession, ClientTimeout

from common import clock, http, logs
from common.address import Address
from common.tasks import cancel, spawn
from router.brain import Brain
from router.config import Health
from router.nodes import Node

#: Probes that run at the same time: a lost rack must not cost thousands of sockets at once.
AT_ONCE_MAX = 64

_log = logs.get("probe")


class Prober:
    def __init__(self, brain: Brain, session: ClientSession) -> None:
        self._brain = brain
        self._session = session
        self._asked: dict[Node, float] = {}
        self._running: dict[Node, asyncio.Task[None]] = {}
        #: Why it could not be reached, as it was last told: once while it lasts.
        self._told: dict[Node, str] = {}

    @property
    def _config(self) -> Health:
        """A reload may change it."""
        return self._brain.config.health

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._ask_due(clock.monotonic())
                await asyncio.sleep(min(self._config.connect_probe_s, self._config.probe_s) / 4)
        finally:
            await cancel(*self._running.values())

    def _ask_due(self, now: float) -> None:
        out = self._brain.fitness.out
        self._asked = {node: at for node, at in self._asked.items() if node in out}
        self._told = {node: why for node, why in self._told.items() if node in out}
        for node in out:
            if node in self._running or len(self._running) >= AT_ONCE_MAX:
                continue
            every_s = self._config.connect_probe_s if node.set_aside else self._config.probe_s
            last = self._asked.setdefault(node, now)
            if now - last >= every_s:
                self._asked[node] = now
                self._running[node] = spawn(self._ask(node), f"probe {node.name}")

    async def _ask(self, node: Node) -> None:
        started = clock.monotonic()
        set_aside = node.set_aside
        try:
            well = await (self._connects(node) if set_aside else self._answers(node))
        finally:
            self._running.pop(node, None)
        if well and node in self._brain.fitness.out:
            slow = clock.monotonic() - started > self._config.probe_slow_s
            self._brain.fitness.probed(node, slow=slow)
            _log.info("upstream back", service=node.name, by="connect" if set_aside else "health")

    async def _connects(self, node: Node) -> bool:
        try:
            async with asyncio.timeout(node.connect_timeout_s):
                _, writer = await asyncio.open_connection(node.host, node.port, ssl=node.tls)
        except OSError as error:  # timeouts and certificates too
            self._tell(node, _why(error))
            return False
        writer.close()
        return True

    async def _answers(self, node: Node) -> bool:
        where = str(Address(node.host, node.port))
        scheme = "https" if node.tls else "http"
        url = urlunsplit((scheme, where, node.probe_path, "", ""))
        timeout = ClientTimeout(total=self._config.probe_timeout_s)
        key = node.key
        try:
            async with self._session.get(
                url,
                headers=None if key is None else {key.header: key.value},
                timeout=timeout,
                allow_redirects=False,
                ssl=node.tls or True,
            ) as answer:
                return answer.status < 500
        except (ClientError, OSError, TimeoutError):
            return False

    def _tell(self, node: Node, why: str) -> None:
        if self._told.get(node) != why:
            self._told[node] = why
            _log.warning("upstream unreachable", service=node.name, why=why)


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'no reason given'}"
    if isinstance(error, socket.gaierror):
        return "the host's name is unknown"
    return http.why_failed(error)
