"""Where deciding meets the relay: what the relay asks, what it is told, what it reports.

    Desk.begin(ask) ─▶ Ticket (or raises RequestError: the caller is told, nothing was taken)
    Ticket.next ─▶ Attempt ─ sockets ─┬─ answered(status) ─▶ None: pass this answer on
                   ▲                  │                  └▶ Step: leave it, take the next
                   │                  ├─ failed(failure) ─▶ Step
                   │                  └─ lost, resume ─▶ Step: a stream that broke off goes on
                   ├── Wait (a place in a queue, or a backoff), then `next` again
                   └── Replay: an answer that is there already
    Ticket.ended(End): once, on every path, also after a Problem.

A Step is an Attempt (its upstream's load is taken from this moment), a Wait, a Replay or a Problem
(the last word: the relay answers it). Load and permits of an attempt come back in `answered` with
a Step, `failed`, `lost`, `declined` or `ended`, whichever comes first. No method awaits, blocks or
raises but as said.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from ssl import SSLContext
from typing import TYPE_CHECKING, Protocol, overload

from router.caller import ANYBODY, Caller
from router.edit import Edit
from router.endpoint import Paths
from router.envelope import Envelope
from router.errors import Problem
from router.named import Resume
from router.outcome import Failure, Outcome
from router.route import Route

if TYPE_CHECKING:
    from router.head import AnswerHead


class Upstream(Protocol):
    """One life of an engine, or a provider, at one address. The relay pools connections by it.

    Hashed by identity: the same object while a life lasts, another one for a new life.
    """

    #: What `x-creche-service` says.
    name: str
    host: str
    port: int
    tls: SSLContext | None
    #: How a request's target becomes its own; None: it is.
    paths: Paths | None
    #: Whole header lines for every request to it: its Host, its own key (never the client's).
    head: bytes
    connect_timeout_s: float


class Fields(Protocol):
    """Headers by lower-case name; the first of several."""

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...
    def __iter__(self) -> Iterator[str]:
        """The names."""
        ...

    def items(self) -> Iterable[tuple[str, str]]:
        """All of them, also the second of one name."""
        ...


class Ask:
    """One request, as far as deciding may see it."""

    __slots__ = (
        "caller",
        "client",
        "envelope",
        "headers",
        "id",
        "method",
        "path",
        "route",
        "size",
        "started",
    )

    def __init__(
        self,
        id: str,
        method: str,
        path: str,
        route: Route,
        headers: Fields | Mapping[str, str],
        envelope: Envelope,
        client: str,
        size: int,
        started: float,
        caller: Caller = ANYBODY,
    ) -> None:
        self.id = id
        self.caller = caller
        self.method = method
        #: Raw, with its query.
        self.path = path
        self.route = route
        self.headers = headers
        self.envelope = envelope
        #: The peer's address, without port.
        self.client = client
        #: Bytes of the body.
        self.size = size
        #: Monotonic seconds when the head was complete.
        self.started = started


class Attempt:
    """Try this upstream. Times in seconds; None is no limit."""

    __slots__ = ("chunk_s", "edit", "first_event_s", "number", "resume", "total_s", "upstream")

    def __init__(
        self,
        upstream: Upstream,
        number: int = 1,
        edit: Edit | None = None,
        *,
        first_event_s: float | None = None,
        chunk_s: float | None = None,
        total_s: float | None = None,
        resume: Resume = False,
    ) -> None:
        self.upstream = upstream
        self.number = number
        self.edit = edit
        #: Its stream may go on elsewhere when it breaks off.
        self.resume: Resume = resume
        #: None: the relay's own limits.
        self.first_event_s = first_event_s
        self.chunk_s = chunk_s
        self.total_s = total_s


class Wait:
    """Nothing yet. The relay calls `next` after `seconds`, or when `Ticket.wake` is called."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Beside:
    """Go on with the attempt that was begun beside the one that has just failed."""

    __slots__ = ()


class Replay:
    """Answer with this, status 200. `body` of an event stream is its events, without framing."""

    __slots__ = ("body", "events", "type")

    def __init__(self, type: bytes, body: bytes, *, events: bool) -> None:
        #: Its Content-Type.
        self.type = type
        self.body = body
        self.events = events


Step = Attempt | Wait | Beside | Problem | Replay


class Collector(Protocol):
    """Takes an answer as it passes on."""

    def add(self, data: bytes) -> bool:
        """The next piece, without framing. False: nothing more is wanted."""
        ...


class End:
    """What became of a request. Times are monotonic seconds, 0 when it did not come to that.

    Defaults stand on the class: most requests set few of them, and each costs time.
    """

    #: When the first byte went to the client.
    first_byte: float = 0.0
    bytes_out: int = 0
    #: SSE events relayed; 0 for plain answers.
    events: int = 0
    #: The stream's terminal marker was seen ([DONE], response.completed, message_stop).
    done_marker: bool = False
    failure: Failure | None = None
    #: How long nothing came, where that was the failure.
    stalled_s: float = 0.0
    tokens_in: int | None = None
    tokens_out: int | None = None
    #: Of tokens_in, what the engine had in its cache, where it says so.
    tokens_cached: int | None = None
    #: It broke off and could not be resumed, for what was asked or how it was answered.
    unresumable: bool = False
    #: False: the router answered for itself.
    upstream_spoke: bool = False

    def __init__(self, outcome: Outcome, status: int, ended: float) -> None:
        self.outcome = outcome
        #: What the client was sent (499 when it left before anything was).
        self.status = status
        self.ended = ended


class Ticket(Protocol):
    #: Set by the relay while it waits: call it (from the loop) when a place has come free.
    wake: Callable[[], None] | None
    #: Headers of the answer that only deciding knows: what `x-creche-model` says, or None.
    answer_model: str | None
    #: Extra whole header lines of the answer (`x-creche-fallback: 1`), usually empty.
    answer_head: bytes
    #: Its answer may be wanted: `collect` says whether.
    keeps: bool

    @property
    def comment_every_s(self) -> float:
        """How often the client hears a comment until its stream begins; 0: never."""
        ...

    def next(self, now: float) -> Step: ...

    def answered(self, status: int, retry_after_s: float | None, now: float) -> Step | None:
        """A well-formed head came. None: pass the answer on, whatever its status."""
        ...

    def hedge_after(self) -> float:
        """Once per stream. After so many seconds `hedge` should be called; 0: never."""
        ...

    def hedge(self, now: float) -> Attempt | Wait | None:
        """No event has come. An attempt to make beside the one that runs (its load is taken), or
        when to ask again. Until it ended in one of the four ways below, or in `ended`, steps may
        be a Beside."""
        ...

    def hedge_won(self, now: float) -> None:
        """The second began first: it answers, and the first is cancelled."""
        ...

    def hedge_lost(self, now: float) -> None:
        """The first began: the second is cancelled."""
        ...

    def hedge_failed(self, failure: Failure, now: float) -> None:
        """The second gave no answer that could be passed on."""
        ...

    def hedge_declined(self, status: int, retry_after_s: float | None, now: float) -> None:
        """The second answered this, and no stream."""
        ...

    def failed(self, failure: Failure, sent: bool, now: float) -> Step:
        """No answer that could be passed on. `sent`: bytes of the request had gone out."""
        ...

    def lost(self, now: float) -> None:
        """A stream that may be resumed broke off, or stalled, after its first byte."""
        ...

    def resume(self, now: float) -> Attempt | Problem:
        """Who may say the rest, after `lost`. Its `failed` leads to another, or a Problem."""
        ...

    def declined(self, status: int, now: float) -> None:
        """Asked for the rest, an upstream answered this, and no stream."""
        ...

    def collect(self, head: "AnswerHead") -> Collector | None:
        """An answer begins that is passed on. Who wants it as well; None: nobody."""
        ...

    def ended(self, end: End) -> None: ...


class Desk(Protocol):
    #: Tickets of streams may have a `comment_every_s` or a `hedge_after`.
    impatient: bool

    def begin(self, ask: Ask, now: float) -> Ticket:
        """Take a request in. Raises RequestError; then nothing was taken or counted."""
        ...

    def refused(self, id: str, problem: Problem, started: float, now: float) -> None:
        """Count and log a request that ended before `begin` could take it in."""
        ...
