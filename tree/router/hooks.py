"""What an operator's own code has a say in, and what it may not do to a request. Pure.

    before_route(request) ─▶ None, {"model": …, "headers": {…}}, or (status, message): refused
    policy(upstream, asked) ─▶ a part of the score (0 to 1), None, or a text: refused
    the request ends ─┬─ after_response(request, result)   it was answered, or the client left
                      └─ on_error(request, result)         it failed

A hook that raises or answers nonsense is passed over, as if it had said nothing; that and a hook
that takes longer than 1 ms are reported, once a minute for each, with how often it went unsaid.
Where no hook is installed each of these is None, and costs a look at that. The clock is given.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, overload

from msgspec import Struct
from msgspec.structs import replace

from router.envelope import MODEL_LENGTH_MAX
from router.errors import Problem
from router.outcome import WORDS, Outcome
from router.seam import End, Fields

if TYPE_CHECKING:
    from router.choose.asked import Asked
    from router.upstream import Upstream

POLICIES = "creche.policies"
BEFORE_ROUTE = "creche.before_route"
AFTER_RESPONSE = "creche.after_response"
ON_ERROR = "creche.on_error"
GROUPS = (POLICIES, BEFORE_ROUTE, AFTER_RESPONSE, ON_ERROR)

#: What all hooks of one kind are expected to take together; a slower one is reported.
SLOW_S = 0.001
REPORT_EVERY_S = 60.0
#: Of an error's text, and of a refusal's.
_TEXT_MAX = 300


class Request(Struct, frozen=True):
    """As hooks see it. `headers.get(name)` takes lower-case names; iterating gives them."""

    id: str
    #: As asked for, or as a hook before changed it.
    model: str | None
    #: Raw, with its query.
    path: str
    headers: Fields | Mapping[str, str]
    stream: bool
    tenant: str | None


class Result(Struct, frozen=True, kw_only=True):
    """What became of a request, whatever its attempts. Times in milliseconds."""

    #: ok, client, backpressure, unreachable, slow, broken, cut, cancelled or refused.
    outcome: str
    #: What the client was sent; 499 where it left before anything was.
    status: int
    failed: bool
    #: Who was asked last; None where nobody was.
    service: str | None
    attempts: int
    #: None: nothing was sent, or it tells nothing.
    first_byte_ms: float | None
    total_ms: float
    #: None: nobody said.
    tokens_in: int | None
    tokens_out: int | None


def result(end: End, started: float, *, service: str | None, attempts: int) -> Result:
    """It has `failed` where /stats says so: neither answered, nor the caller's fault or wish."""
    outcome = end.outcome
    if outcome is Outcome.REFUSED:
        failed = end.status >= 500
    else:
        failed = outcome not in (Outcome.OK, Outcome.CLIENT, Outcome.CANCELLED)
    return Result(
        outcome=WORDS[outcome],
        status=end.status,
        failed=failed,
        service=service,
        attempts=attempts,
        first_byte_ms=(end.first_byte - started) * 1000 if end.first_byte else None,
        total_ms=(end.ended - started) * 1000,
        tokens_in=end.tokens_in,
        tokens_out=end.tokens_out,
    )


class Overlay:
    """Headers as a hook wants them decided by: its own first. Nothing of it is sent anywhere."""

    __slots__ = ("_over", "_under")

    def __init__(self, over: Mapping[str, str], under: Fields | Mapping[str, str]) -> None:
        self._over = over
        self._under = under

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...
    def get(self, name: str, default: str | None = None, /) -> str | None:
        found = self._over.get(name)
        if found is None:
            found = self._under.get(name)
        return default if found is None else found

    def __iter__(self) -> Iterator[str]:
        yield from self._over
        yield from (name for name in self._under if name not in self._over)


class Report(Struct, frozen=True):
    """`what`: raised, slow, or nonsense. `unsaid`: how often since the last report of the kind."""

    group: str
    hook: str
    what: str
    why: str
    unsaid: int


class Hook:
    """One function of an operator's: called, timed and reported on."""

    __slots__ = ("_clock", "_function", "_report", "_said_at", "_unsaid", "group", "name")

    def __init__(
        self,
        group: str,
        name: str,
        function: Callable[..., object],
        clock: Callable[[], float],
        report: Callable[[Report], None],
    ) -> None:
        self.group = group
        self.name = name
        self._function = function
        self._clock = clock
        self._report = report
        self._said_at: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def call(self, *args: object) -> tuple[object, float]:
        """What it returned, or None where it raised; and the seconds that it took."""
        started = self._clock()
        try:
            found = self._function(*args)
        except (Exception, SystemExit) as error:  # an exit would take the router with it
            found = None
            self.tell("raised", _said(error))
        return found, self._clock() - started

    def __call__(self, *args: object) -> object:
        found, took_s = self.call(*args)
        if took_s > SLOW_S:
            self.tell_slow(took_s)
        return found

    def tell_slow(self, took_s: float) -> None:
        self.tell("slow", f"took {took_s * 1000:.1f} ms; requests wait for it")

    def tell(self, what: str, why: str) -> None:
        now = self._clock()
        said_at = self._said_at.get(what)
        if said_at is not None and now - said_at < REPORT_EVERY_S:
            self._unsaid[what] = self._unsaid.get(what, 0) + 1
            return
        self._said_at[what] = now
        self._report(Report(self.group, self.name, what, why, self._unsaid.pop(what, 0)))


def _said(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:  # it is somebody else's class
        text = ""
    return f"{kind}: {text[:_TEXT_MAX]}" if text else kind


class Policy:
    """A choose.asked.Policy. Its time is that of one choice: it is asked of every candidate."""

    def __init__(self, hook: Hook) -> None:
        self.__name__ = hook.name
        self._hook = hook
        self._asked: Asked | None = None
        self._spent_s = 0.0

    def __call__(self, upstream: "Upstream", asked: "Asked") -> float | str | None:
        if asked is not self._asked:
            self._asked, self._spent_s = asked, 0.0
        found, took_s = self._hook.call(upstream, asked)
        before_s = self._spent_s
        self._spent_s = before_s + took_s
        if before_s <= SLOW_S < self._spent_s:
            self._hook.tell_slow(self._spent_s)
        if found is None or (isinstance(found, str) and found):
            return found
        if isinstance(found, float | int) and not isinstance(found, bool) and 0 <= found <= 1:
            return float(found)
        self._hook.tell("nonsense", f"returned {_shown(found)}: neither 0 to 1, None nor a text")
        return None


class Hooks:
    """Those that are installed, in the order of their names. None: none of that kind."""

    __slots__ = ("_after", "_before", "_errors", "before_route", "ended", "policies")

    def __init__(
        self,
        policies: tuple[Hook, ...] = (),
        before_route: tuple[Hook, ...] = (),
        after_response: tuple[Hook, ...] = (),
        on_error: tuple[Hook, ...] = (),
    ) -> None:
        self.policies = tuple(map(Policy, policies))
        self._before = before_route
        self._after = after_response
        self._errors = on_error
        #: Before anything is decided: the request as the hooks left it (itself, where they changed
        #: nothing), or the refusal of one of them.
        self.before_route = self._route if before_route else None
        #: Once for every request, on every path.
        self.ended = self._end if after_response or on_error else None

    def names(self) -> dict[str, list[str]]:
        """By group, for the log."""
        groups = {
            POLICIES: tuple(policy.__name__ for policy in self.policies),
            BEFORE_ROUTE: tuple(hook.name for hook in self._before),
            AFTER_RESPONSE: tuple(hook.name for hook in self._after),
            ON_ERROR: tuple(hook.name for hook in self._errors),
        }
        return {group: list(names) for group, names in groups.items() if names}

    def _route(self, request: Request) -> Request | Problem:
        for hook in self._before:
            said = hook(request)
            if said is None:
                continue
            try:
                found = _changed(request, said)
            except Exception as error:
                hook.tell("nonsense", str(error) if type(error) is ValueError else _said(error))
                continue
            if isinstance(found, Problem):
                return found
            request = found
        return request

    def _end(self, request: Request, result: Result) -> None:
        for hook in self._errors if result.failed else self._after:
            hook(request, result)


NONE = Hooks()


def _changed(request: Request, said: object) -> Request | Problem:
    """Raises ValueError for what no before_route may return."""
    if isinstance(said, dict):
        return _with(request, said)
    if isinstance(said, tuple) and len(said) == 2:
        return _refusal(*said)
    raise ValueError(f"returned {_shown(said)}: neither None, a dict nor (status, message)")


def _with(request: Request, changes: Mapping[object, object]) -> Request:
    unknown = [key for key in changes if key not in ("model", "headers")]
    if unknown:
        raise ValueError(f"returned the key {_shown(unknown[0])}: only model and headers change")
    if "model" in changes:
        model = changes["model"]
        if not isinstance(model, str) or not 0 < len(model) <= MODEL_LENGTH_MAX:
            raise ValueError(f"returned {_shown(model)} for a model's name")
        request = replace(request, model=model)
    if "headers" in changes:
        headers = changes["headers"]
        if not isinstance(headers, dict):
            raise ValueError(f"returned {_shown(headers)} for headers: not a dict")
        over = {_text(name).lower(): _text(value) for name, value in headers.items()}
        request = replace(request, headers=Overlay(over, request.headers))
    return request


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"returned {_shown(value)} in headers: not a text")
    return value


def _refusal(status: object, message: object) -> Problem:
    if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
        raise ValueError(f"returned the status {_shown(status)}: not 400 to 599")
    if not isinstance(message, str) or not message:
        raise ValueError(f"returned {_shown(message)} for a message")
    kind = "invalid_request_error" if status < 500 else "server_error"
    return Problem(status, message[:_TEXT_MAX], code="refused_by_hook", type=kind)


def _shown(value: object) -> str:
    """Only simple values, and short: another's repr may do anything."""
    if type(value) is str:
        return repr(value[:80])
    if (
        value is None
        or type(value) in (bool, float)
        or (type(value) is int and abs(value) < 1 << 64)
    ):
        return repr(value)
    return type(value).__name__
