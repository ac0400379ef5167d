"""Requests whose answers may be kept, on their way through a Brain."""

import json
from collections.abc import Callable
from typing import Any

from router.brain import Brain
from router.cache.ticket import Cached
from router.caller import ANYBODY, Caller
from router.config import Cache, Config
from router.envelope import read_json
from router.head import AnswerHead
from router.named import Model
from router.outcome import Outcome
from router.plan import Plan
from router.seam import Attempt, Collector, End, Replay, Step, Wait
from tests.router.making import ask, brain, service

CHAT = "/v1/chat/completions"
GOOD = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
JSON = b"application/json"


def caching(cache: Cache | None = None, places: int | None = None, **more: Any) -> Brain:
    """`m` is kept, `plain` is not. Whom to wake is in `brain.cache.soon`, a Later. `places`: so
    many requests at once may be at their engine, and others wait in the queue."""
    models = {"m": Model(cache=True, fallbacks=("other",)), **more.pop("named", {})}
    config = Config(models=models, cache=cache or Cache(), **more)
    metadata = {} if places is None else {"max_concurrency": places}
    engine = service("a@h", "m", "plain", metadata=metadata)
    found = brain(engine, service("b@h", "other"), config=config)
    found.cache.soon = Later()
    return found


class Later:
    """A loop that does what it was told when it is told to."""

    def __init__(self) -> None:
        self.acts: list[Callable[[], None]] = []

    def __call__(self, act: Callable[[], None]) -> None:
        self.acts.append(act)

    def run(self) -> None:
        while self.acts:
            self.acts.pop(0)()


def head(status: int = 200, *, events: bool = False, **more: object) -> AnswerHead:
    """An upstream's."""
    found = AnswerHead(status)
    found.type = b"text/event-stream" if events else JSON
    found.event_stream = events
    for name, value in more.items():
        setattr(found, name, value)
    return found


class Asked:
    """One request: what it was told last, and whether it was woken since."""

    def __init__(
        self,
        found: Brain,
        text: str = "hi",
        *,
        now: float = 0.0,
        headers: dict[str, str] | None = None,
        caller: Caller = ANYBODY,
        **said: Any,
    ) -> None:
        body = {"model": "m", "temperature": 0, "messages": [text], **said}
        asked = ask(
            headers=headers, envelope=read_json(json.dumps(body).encode()), path=CHAT, now=now
        )
        asked.caller = caller
        self.collector: Collector | None = None
        self.plan: Plan = found.begin(asked, now)
        self.step: Step = self.plan.next(now)
        self._waits()

    def _waits(self) -> None:
        self.woken = False
        self.plan.wake = self._wake if isinstance(self.step, Wait) else None

    def _wake(self) -> None:
        self.plan.wake = None
        self.woken = True

    def goes_on(self, now: float = 1.0) -> Step:
        """It was woken, or has waited long enough."""
        self.step = self.plan.next(now)
        self._waits()
        return self.step

    def answered(
        self,
        body: bytes | None = GOOD,
        *,
        now: float = 1.0,
        status: int = 200,
        events: bool = False,
    ) -> None:
        """It is answered, and ends. `body` None: one that is too long to be collected."""
        self.begins(now=now, status=status, events=events)
        self.says(b"x" * 2_000_000 if body is None else body)
        end = End(Outcome.OK if status < 400 else Outcome.CLIENT, status, now)
        end.first_byte = now
        self.plan.ended(end)

    def begins(self, *, now: float = 1.0, status: int = 200, events: bool = False) -> None:
        """Its answer begins, and is passed on."""
        assert isinstance(self.step, Attempt), self.step
        assert self.plan.answered(status, None, now) is None
        self.collector = self.plan.collect(head(status, events=events))

    def says(self, data: bytes) -> None:
        if self.collector is not None and not self.collector.add(data):
            self.collector = None

    def ends(self, outcome: Outcome = Outcome.OK, status: int = 200, now: float = 1.0) -> None:
        self.plan.ended(End(outcome, status, now))

    @property
    def hit(self) -> bytes | None:
        """What it is answered with, where that comes from the cache."""
        return self.step.body if isinstance(self.step, Replay) else None

    @property
    def waits(self) -> bool:
        return isinstance(self.step, Wait)

    @property
    def asks(self) -> bool:
        """An upstream is asked for it."""
        return isinstance(self.step, Attempt)

    @property
    def may_be_kept(self) -> bool:
        return isinstance(self.plan, Cached)
