"""Asks an idle engine for a token again and again, where `canary_idle_s` says so.

Judges nothing: `canary` does. `doubt` is why the engine is not taken for ready though it answers.
"""

import asyncio
from collections.abc import Callable

from babysitter import canary, events, readiness
from babysitter.canary import Canary, Glance, Said, Verdict
from babysitter.probe import Prober
from babysitter.settings import Settings
from common import logs, tasks
from common.clock import monotonic

#: How often idleness is looked at, at most and at least: a glance reads the engine's metrics.
_GLANCE_MIN_S, _GLANCE_MAX_S = 0.05, 5.0
#: Between two questions to one that is doubted.
_AGAIN_S = 0.5


class Asking:
    """`ready`: whether it answers, apart from any doubt."""

    def __init__(
        self,
        instance_id: str,
        settings: Settings,
        prober: Prober,
        *,
        ready: Callable[[], bool],
        post: Callable[[events.Event], None],
    ) -> None:
        self.doubt: str | None = None
        #: Its first model; None: not known yet.
        self.model: str | None = None
        self._instance_id = instance_id
        self._ready = ready
        self._post = post
        self._prober = prober
        self._settings = settings
        self._canary = Canary(settings.canary_idle_s, settings.canary_failures)
        self._wanted = asyncio.Event()
        self._question: asyncio.Task[Said] | None = None
        self._log = logs.get("engine", engine=settings.name)
        self.retune(settings, prober)

    def retune(self, settings: Settings, prober: Prober) -> None:
        self._settings = settings
        self._prober = prober
        self._canary.idle_s = settings.canary_idle_s
        self._canary.failures_max = settings.canary_failures
        if settings.canary_idle_s > 0 and canary.generates(settings.metadata):
            self._wanted.set()
        else:
            self._wanted.clear()
            self.doubt = None

    def stop(self) -> None:
        """It is to end: our own request must not hold that up."""
        self._wanted.clear()
        if self._question is not None:
            self._question.cancel()

    async def run(self) -> None:
        """Until it is found sick, or is stopped."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(self._pause())
            if not self._ready():
                if self.doubt is None:
                    self._canary.begin_anew()
                continue
            before = await self._glance()
            if before is None or self.model is None or not self._wanted.is_set():
                continue
            if self._canary.due(before, monotonic()) and await self._ask(self.model, before):
                return

    async def _ask(self, model: str, before: Glance) -> bool:
        """True: it is sick, and nothing more is to be asked."""
        seconds = self._settings.canary_timeout_s
        question = self._question = tasks.spawn(self._prober.generate(model, seconds), "canary")
        try:
            await asyncio.wait([question])
        finally:
            self._question = None
            await tasks.cancel(question)
        if question.cancelled():
            return False
        said = question.result()
        after = await self._glance()
        if after is None or not self._wanted.is_set():
            return False
        verdict = self._canary.answered(said, before, after, monotonic())
        text = f"idle, and generates nothing: {said.text}"
        match verdict:
            case Verdict.WELL | Verdict.UNKNOWN:
                self.doubt = None
            case Verdict.UNASKABLE:
                self.doubt = None
                self._log.warning("cannot be asked for a token while idle", why=said.text)
            case Verdict.DOUBTED:
                self.doubt = text
                self._log.warning("not ready any more", why=text)
                self._post(events.Doubted(self._instance_id, text))
            case Verdict.SICK:
                self.doubt = text
                self._post(events.Stalled(self._instance_id, text))
        return verdict is Verdict.SICK

    async def _glance(self) -> Glance | None:
        """By its own count where its kind tells, else by what moves on its connections."""
        reading = await self._prober.reading()
        if reading is not None:
            return Glance(reading.in_flight, reading.work)
        own = self._settings
        waiting = await asyncio.to_thread(readiness.waiting, own.given.port, own.drain_idle_s)
        return None if waiting is None else Glance(float(waiting))

    def _pause(self) -> float:
        if self.doubt is not None:
            return _AGAIN_S
        return min(max(self._settings.canary_idle_s / 4, _GLANCE_MIN_S), _GLANCE_MAX_S)
