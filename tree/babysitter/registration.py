"""What must the registry be told about one service, and when? Pure: answers in, requests out.

    wanted, unknown ──▶ POST     404 to anything ──▶ unknown, POST at once
    life changed    ──▶ POST     409 stale_instance ──▶ a new instance_id, POST at once
    record changed  ──▶ PUT      409 name or address conflict ──▶ once more, then told, then slowly
    status changed  ──▶ beat at once          otherwise ──▶ beat every beat_s
    no longer wanted ──▶ DELETE  no answer ──▶ again after 0.2 s, 0.4, … one beat at most
    PUT refused      ──▶ told, then slowly; what was last accepted goes on to be beaten

A POST without an answer may have arrived: what is then no longer wanted is removed all the same.
Nothing here knows whether the engine is well: `want` says what the record should be.
"""

from dataclasses import dataclass, field

from msgspec import structs

from common.wire.registry import BEAT_S_DEFAULT, Beat, ErrorCode, Registration

RETRY_FIRST_S = 0.2
#: How often a refused registration (a conflict, a bad token) is tried again.
REFUSED_RETRY_S = 15.0


@dataclass(frozen=True, slots=True)
class Register:
    body: Registration


@dataclass(frozen=True, slots=True)
class Update:
    body: Registration


@dataclass(frozen=True, slots=True)
class SendBeat:
    name: str
    body: Beat


@dataclass(frozen=True, slots=True)
class Remove:
    name: str
    instance_id: str | None


Request = Register | Update | SendBeat | Remove


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: an HTTP status, and from the body what matters."""

    status: int
    code: str | None = None
    text: str = ""
    beat_s: float | None = None


@dataclass(slots=True)
class Book:
    """One record. The shell sends what `next` gives and tells what became of it."""

    beat_s: float = BEAT_S_DEFAULT
    wanted: Registration | None = None
    known: Registration | None = None
    conflict: str | None = None
    #: (the life's own instance_id, what it is registered as since that one was retired)
    alias: tuple[str | None, str] | None = None
    load: dict[str, float] | None = None
    _next_at: float = 0.0
    _tries: int = 0
    _conflicts: int = 0
    _sent: Registration | None = field(default=None)
    #: (name, instance_id) of a POST whose answer never came: the registry may know it
    _unsure: tuple[str, str | None] | None = None
    #: (the record of a refused PUT, when it is tried again)
    _kept_out: tuple[Registration, float] | None = None

    @property
    def registered(self) -> bool:
        return self.known is not None

    @property
    def done(self) -> bool:
        """Whether the registry knows all that it should."""
        return self.known == self.wanted and (self.wanted is not None or self._unsure is None)

    def want(self, record: Registration | None) -> None:
        """What the record should be from now on (None: there should be none)."""
        if record is not None and self.alias and self.alias[0] == record.instance_id:
            record = structs.replace(record, instance_id=self.alias[1])
        changed = record != self.wanted
        if record is None or (self.wanted and record.instance_id != self.wanted.instance_id):
            self.conflict = None
            self._conflicts = 0
        self.wanted = record
        # A removal is asked at once even of a registry that was away: a daemon's end waits for it.
        if changed and (record is None or (self._tries == 0 and self._conflicts == 0)):
            self._next_at = 0.0

    def next(self, now: float) -> Request | None:
        """What to send now; None before `wake_at`."""
        if now < self._next_at:
            return None
        request = self._due(now)
        self._sent = self.wanted
        return request

    @property
    def wake_at(self) -> float | None:
        """When `next` has something to say if nothing changes; None: never."""
        if self.wanted is None and self.done:
            return None
        return self._next_at

    def _due(self, now: float) -> Request | None:
        wanted, known = self.wanted, self.known
        if wanted is None:
            if self._unsure is not None:
                return Remove(*self._unsure)
            return Remove(known.name, known.instance_id) if known else None
        if known is None or known.instance_id != wanted.instance_id:
            return Register(wanted)
        if not _same(known, wanted) and not self._waits(wanted, now):
            return Update(wanted)
        return SendBeat(
            wanted.name,
            Beat(status=wanted.status, instance_id=wanted.instance_id, load=self.load),
        )

    def _waits(self, wanted: Registration, now: float) -> bool:
        """Whether `wanted` was refused a while ago, and its next trial is not due."""
        return (
            self._kept_out is not None
            and now < self._kept_out[1]
            and _same(self._kept_out[0], wanted)
        )

    def answered(self, request: Request, answer: Answer, now: float, fresh_id: str) -> None:
        """Take the answer to `request`. `fresh_id` becomes the instance_id where one is wanted."""
        self._tries = 0
        if answer.status < 300:
            self._accepted(request, answer, now)
        elif isinstance(request, Remove):
            if answer.status in (404, 409):  # gone, or no longer ours
                self._forget(request)
            else:
                self._next_at = now + REFUSED_RETRY_S
        elif answer.status == 404 and not isinstance(request, Register):
            self.known = None
            self._next_at = 0.0
        elif answer.status == 409:
            self._refused(request, answer, now, fresh_id)
        else:
            self.conflict = f"the registry refuses it: {answer.status} {answer.text}".strip()
            self._next_at = now + REFUSED_RETRY_S
            if isinstance(request, Update):  # its lease needs a beat all the same
                self._kept_out = (request.body, now + REFUSED_RETRY_S)
                self._next_at = 0.0
            elif isinstance(request, SendBeat):
                self._next_at = now + self.beat_s

    def _accepted(self, request: Request, answer: Answer, now: float) -> None:
        if isinstance(request, Remove):
            self._forget(request)
            return
        if isinstance(request, Register):
            self._unsure = None
            self.beat_s = answer.beat_s or BEAT_S_DEFAULT
        if isinstance(request, SendBeat) and self.known is not None:
            self.known = structs.replace(
                self.known, status=request.body.status or self.known.status
            )
        else:
            self.known = self._sent
        told = self.known == self.wanted
        if self.wanted is not None and self._waits(self.wanted, now):
            told = self.known is not None and self.known.status == self.wanted.status
        else:
            self._kept_out = None
            self.conflict = None
        self._conflicts = 0
        self._next_at = now + self.beat_s if told else 0.0

    def _forget(self, request: Remove) -> None:
        if self._unsure == (request.name, request.instance_id):
            self._unsure = None
        if self.known is not None and self.known.instance_id == request.instance_id:
            self.known = None
        self._next_at = 0.0

    def _refused(self, request: Request, answer: Answer, now: float, fresh_id: str) -> None:
        self.known = None
        self._conflicts += 1
        if answer.code == ErrorCode.STALE_INSTANCE and self._conflicts == 1:
            # This engine lives: it was mistaken for gone. A new name for the same life.
            if self.wanted is not None:
                own = self.wanted.instance_id
                if self.alias is not None and self.alias[1] == own:
                    own = self.alias[0]
                self.alias = (own, fresh_id)
                self.wanted = structs.replace(self.wanted, instance_id=fresh_id)
            self._next_at = 0.0
        elif self._conflicts == 1 or (
            self._conflicts == 2 and answer.code == ErrorCode.STALE_INSTANCE
        ):
            self._next_at = now + self.beat_s / 2
        else:
            self.conflict = answer.text or "the registry holds another service of this name"
            self._next_at = now + REFUSED_RETRY_S

    def unanswered(self, request: Request, now: float, dice: float) -> None:
        """No registry answered. `dice` in [0, 1) spreads the retries of a fleet."""
        if isinstance(request, Register):
            self._unsure = (request.body.name, request.body.instance_id)
        wait_s = min(self.beat_s, RETRY_FIRST_S * 2.0 ** min(self._tries, 10))
        self._tries += 1
        self._next_at = now + wait_s * (1.0 - 0.25 * dice)


def _same(one: Registration, other: Registration) -> bool:
    """Whether they differ in their status at most."""
    return structs.replace(one, status=other.status) == other
