"""What became of each request, and whether it should have. Pure.

    WHOLE        the right answer, to its end
    TOLD         a stream that began and ended with an error in-band
    CUT          a plain answer that began and was broken off, which HTTP tells the client
    REFUSED      an error status, with a body
    LEFT         the client left, as it had meant to
    ROUTER_LOST  no answer, or the end of it missing: the router itself was killed meanwhile
    LOST         no answer, and no router was killed: always wrong

`judge` joins what clients saw with the routers' access logs, by request id, and with when each
upstream was well.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct, field

#: An access log is written in batches: what a killed router had not written yet is lost. A router
#: may have stood still in between.
UNWRITTEN_S = 4.0


class Became(StrEnum):
    WHOLE = "whole"
    TOLD = "told"
    CUT = "cut"
    REFUSED = "refused"
    LEFT = "left"
    ROUTER_LOST = "router-lost"
    LOST = "lost"


class Entry(Struct):
    """One request as its client knows it. Times are of one monotonic clock, in seconds."""

    id: str
    router: str
    model: str
    stream: bool
    sent: float
    ended: float = 0.0
    became: Became = Became.LOST
    status: int = 0
    detail: str = ""
    right: bool = True


class Line(Struct):
    """One line of a router's access log."""

    id: str
    outcome: str
    status: int | None = None
    service: str | None = None
    attempts: int | None = None
    total_ms: int | None = None
    error: str | None = None
    model: str | None = None


class Spans:
    """When something was so: `since` opens, `until` closes; open ones last for ever.

    One that was closed before it began never was.
    """

    def __init__(self) -> None:
        self.all: list[tuple[float, float]] = []
        self._open: float | None = None

    @property
    def open(self) -> bool:
        return self._open is not None

    def since(self, at: float) -> None:
        if self._open is None or at < self._open:
            self._open = at

    def until(self, at: float) -> None:
        if self._open is not None:
            if self._open <= at:
                self.all.append((self._open, at))
            self._open = None

    def touch(self, start: float, end: float) -> bool:
        """Whether it was so at any moment from `start` to `end`."""
        if self._open is not None and self._open <= end:
            return True
        return any(one <= end and other >= start for one, other in self.all)


class Rules(Struct, frozen=True, kw_only=True):
    """What the routers were told, as far as it decides what a retry may do."""

    #: Upstreams by the model that a client asks for, its chain's included.
    upstreams: Mapping[str, Collection[str]]
    attempts_max: int


class Wrong(Struct, frozen=True):
    what: str
    entry: Entry | None = None
    line: Line | None = None

    def __str__(self) -> str:
        said = [self.what]
        if self.entry is not None:
            said.append(f"    client: {self.entry}")
        if self.line is not None:
            said.append(f"    router: {self.line}")
        return "\n".join(said)


class Account(Struct):
    became: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    #: Answers whose line a killed router took with it.
    unwritten: int = 0
    wrong: list[Wrong] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.became.total()


def judge(
    entries: Sequence[Entry],
    lines: Mapping[str, Sequence[Line]],
    *,
    rules: Rules,
    unwell: Mapping[tuple[str, str], Spans],
    down: Mapping[str, Spans],
) -> Account:
    """Every request, and what is wrong. `unwell` is by router and upstream, `down` by router."""
    account = Account()

    def wrong(what: str, entry: Entry, line: Line | None = None) -> None:
        account.wrong.append(Wrong(what, entry, line))

    for entry in entries:
        away = down[entry.router].touch(entry.sent, entry.ended)
        if entry.became is Became.LOST and away:
            entry.became = Became.ROUTER_LOST
        account.became[entry.became] += 1
        if entry.became is Became.REFUSED:
            account.statuses[str(entry.status)] += 1
        found = lines.get(entry.id, ())
        line = found[-1] if found else None
        if line is not None and (line.attempts or 0) > 1:
            account.retried += 1
        if len(found) > 1:
            wrong("one request, several lines in the access log", entry, line)
        _judge_one(entry, line, rules, unwell, wrong)
        expected = entry.became not in (Became.LEFT, Became.ROUTER_LOST, Became.LOST)
        if line is None and expected:
            lost = down[entry.router].touch(entry.ended - UNWRITTEN_S, entry.ended + UNWRITTEN_S)
            if lost:
                account.unwritten += 1
            else:
                wrong("answered, and no line in the access log says so", entry)
    return account


def _judge_one(
    entry: Entry,
    line: Line | None,
    rules: Rules,
    unwell: Mapping[tuple[str, str], Spans],
    wrong: Callable[[str, Entry, Line | None], None],
) -> None:
    outcome = None if line is None else line.outcome
    match entry.became:
        case Became.LOST:
            wrong("no answer, and no router was killed", entry, line)
        case Became.WHOLE:
            if not entry.right:
                wrong("an answer to something else", entry, line)
            if outcome not in (None, "ok"):
                wrong("answered whole, and the router thinks otherwise", entry, line)
        case Became.TOLD | Became.CUT:
            if outcome not in (None, "cut"):
                wrong("broken off, and the router thinks otherwise", entry, line)
        case Became.REFUSED:
            if entry.status < 500:
                wrong("an error that blames the client", entry, line)
            elif saved := _saved_by(entry, line, rules, unwell):
                wrong(f"a permitted retry would have saved it: {', '.join(saved)}", entry, line)
        case Became.LEFT | Became.ROUTER_LOST:
            pass


def _saved_by(
    entry: Entry, line: Line | None, rules: Rules, unwell: Mapping[tuple[str, str], Spans]
) -> list[str]:
    """Upstreams that were well the whole time and might have been asked, had the router tried."""
    attempts = 0 if line is None else line.attempts or 0
    if attempts >= rules.attempts_max:
        return []
    if line is not None and line.error == "no answer in time" and attempts >= 2:
        return []  # slow is retried once at most: each retry costs a whole time limit
    return [
        one
        for one in sorted(rules.upstreams[entry.model])
        if not unwell[entry.router, one].touch(entry.sent, entry.ended)
    ]
