"""Looks at one running engine until it is cancelled: is it ready, does it work, is it drained?

Posts what it sees as events; judges nothing. `text` says what is in the way, for people who wait.
"""

import asyncio
from collections.abc import Callable

from babysitter import events, readiness
from babysitter import models as model_lists
from babysitter.asking import Asking
from babysitter.models import Model
from babysitter.probe import Prober
from babysitter.readiness import Elsewhere
from babysitter.registrar import Registrar
from babysitter.settings import Settings
from babysitter.shim_client import ShimError, ShimHandle
from babysitter.stall import StallWatch
from common import logs
from common.clock import monotonic
from common.redact import redact

#: How often a starting engine is looked at: its first request should not wait for our next look.
LOOK_STARTING_S = 0.1
#: After so long a start is slow anyway.
LOOK_SLOW_AFTER_S = 30.0
LOOK_SLOW_S = 0.5
LOOK_READY_S = 2.0
#: Whose socket listens is read from every process's entry in /proc: with each good answer it would
#: be the most costly part of a look, and nobody can take a port that is listened on.
SOCKET_KNOWN_S = 15.0
#: After deregistering, requests that routers had sent before are still on their way.
SETTLE_S = 0.25


class Watch:
    """`serves` hears its model list with each good answer."""

    def __init__(
        self,
        handle: ShimHandle,
        settings: Settings,
        prober: Prober,
        elsewhere: Elsewhere | None,
        registrar: Registrar | None,
        *,
        post: Callable[[events.Event], None],
        serves: Callable[[list[Model]], None],
    ) -> None:
        self.text: str | None = None
        #: What it last told of its work; None: nothing.
        self.load: dict[str, float] | None = None
        self._handle = handle
        self._settings = settings
        self._prober = prober
        self._elsewhere = elsewhere
        self._registrar = registrar
        self._post = post
        self._serves = serves
        self._stall = StallWatch(settings.stall_s)
        self._ready = False
        self.asking = Asking(
            handle.instance_id, settings, prober, ready=lambda: self._ready, post=post
        )
        self._mistake: str | None = None
        self._log = logs.get("engine", engine=settings.name)

    async def run(self) -> None:
        """Look again and again. Never ends by itself."""
        began = monotonic()
        socket_seen: float | None = None
        while True:
            now = monotonic()
            known = socket_seen is not None and now - socket_seen < SOCKET_KNOWN_S
            seen = await self.look(socket_known=known)
            self._ready = ready = isinstance(seen.event, events.Answered)
            doubt = self.asking.doubt
            if ready and doubt is not None:
                seen = readiness.not_yet(self._handle.instance_id, doubt)
                self.text = await self._in_the_way(seen)
            elif not ready:
                socket_seen = None
                self.text = await self._in_the_way(seen)
            else:
                socket_seen = socket_seen if known else now
                self.asking.model = next(iter(model_lists.names(seen.models)), None)
                self._serves(seen.models)
            self._post(seen.event)
            await asyncio.sleep(self._pause(ready, monotonic() - began))

    def retune(self, settings: Settings, prober: Prober) -> None:
        """Other settings of the same process, from the next look on."""
        self._settings = settings
        self._prober = prober
        self._stall.stall_s = settings.stall_s
        self.asking.retune(settings, prober)

    async def look(self, *, socket_known: bool = False) -> readiness.Seen:
        """One look, now."""
        return await readiness.look(
            self._handle, self._settings, self._prober, self._elsewhere, socket_known=socket_known
        )

    def _pause(self, ready: bool, since_s: float) -> float:
        if ready:
            return min(LOOK_READY_S, self._settings.stall_s / 4 or LOOK_READY_S)
        return LOOK_STARTING_S if since_s < LOOK_SLOW_AFTER_S else LOOK_SLOW_S

    async def work(self) -> None:
        """Read what it does again and again, while it is ready. Never ends by itself."""
        while True:
            every_s = self._settings.metrics_s
            if self._ready and every_s:
                await self._observe()
            await asyncio.sleep(self._reading_pause(every_s))

    def _reading_pause(self, every_s: float) -> float:
        if not self._ready or not every_s:
            return LOOK_SLOW_S
        return min(every_s, self._settings.stall_s / 4 or every_s)

    async def _observe(self) -> None:
        reading = await self._prober.reading()
        if reading is None:
            self._tell(None)
            return
        self._tell(reading.load)
        text = self._stall.observe(reading, monotonic())
        if text is not None:
            self._post(events.Stalled(self._handle.instance_id, text))

    async def read_load(self) -> None:
        """Ask now; where its kind does not tell, count the connections that are waited for."""
        reading = await self._prober.reading()
        if reading is not None:
            self._tell(reading.load)
            return
        settings = self._settings
        waiting = await asyncio.to_thread(
            readiness.waiting, settings.given.port, settings.drain_idle_s
        )
        self.load = None if waiting is None else {"in_flight": float(waiting)}

    def _tell(self, load: dict[str, float] | None) -> None:
        self.load = load
        if self._registrar is not None:
            self._registrar.book.load = load

    async def _in_the_way(self, seen: readiness.Seen) -> str | None:
        """Why it is not ready yet, and the last line that it said."""
        if seen.mistake and seen.text != self._mistake:
            self._log.error("cannot become ready", why=seen.text)
            self._mistake = seen.text
        try:
            lines = await self._handle.tail(1)
        except ShimError:
            lines = []
        said = redact(lines[-1]).strip()[:200] if lines else ""
        return f"{seen.text} ({said})" if seen.text and said else said or seen.text

    async def drain(self) -> None:
        """Until routers know that it takes no more and nothing is in flight; then Drained."""
        self.asking.stop()
        settle_s = 0.0
        if self._registrar is not None:
            await self._registrar.settled()
            settle_s = SETTLE_S
        await readiness.until_drained(self._prober, self._settings, settle_s)
        self._post(events.Drained(self._handle.instance_id))
