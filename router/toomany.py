"""What clients are told of limits: the x-ratelimit headers, and 429 in OpenAI's shape. Pure."""

from collections.abc import Iterable, Sequence
from math import ceil, inf

from router import limits
from router.errors import Problem
from router.limits import CONCURRENCY, REQUESTS, TOKENS, Decision, Meter, Told, worst


def fields(told: Iterable[Told]) -> list[tuple[str, str]]:
    """The x-ratelimit headers that clients of OpenAI read. Of several limits, the tightest."""
    found = []
    for kind, limit, remaining, reset_s in _tightest(told):
        found.append((f"x-ratelimit-limit-{kind}", str(limit)))
        found.append((f"x-ratelimit-remaining-{kind}", str(remaining)))
        found.append((f"x-ratelimit-reset-{kind}", duration(reset_s)))
    return found


def headers(told: Sequence[Told]) -> bytes:
    """`fields` as whole header lines, for an answer that passes: made for every one."""
    lines = ""
    for kind, limit, remaining, reset_s in told if len(told) == 1 else _tightest(told):
        if kind != CONCURRENCY:
            lines += (
                f"x-ratelimit-limit-{kind}: {limit}\r\n"
                f"x-ratelimit-remaining-{kind}: {remaining}\r\n"
                f"x-ratelimit-reset-{kind}: {duration(reset_s)}\r\n"
            )
    return lines.encode("latin-1")


def of_requests(meter: Meter) -> bytes:
    """`headers` of one that let a request pass just now, and is all that is limited."""
    _, limit, remaining, reset_s = meter.told()
    return _OF_REQUESTS % (limit, remaining, duration(reset_s).encode())


_OF_REQUESTS = (
    b"x-ratelimit-limit-requests: %d\r\n"
    b"x-ratelimit-remaining-requests: %d\r\n"
    b"x-ratelimit-reset-requests: %b\r\n"
)


def _tightest(told: Iterable[Told]) -> list[Told]:
    """Of requests, and of tokens."""
    requests = tokens = None
    for one in told:
        kind = one[0]
        if kind == REQUESTS:
            if requests is None or one[2] < requests[2]:
                requests = one
        elif kind == TOKENS and (tokens is None or one[2] < tokens[2]):
            tokens = one
    return [one for one in (requests, tokens) if one is not None]


def duration(seconds: float) -> str:
    """As OpenAI writes it: `0s`, `120ms`, `8.64s`, `6m0s`. Rounded up to milliseconds."""
    ms = ceil(round(seconds * 1000, 3))
    if 0 < ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    rest = f"{ms / 1000:g}s"
    return f"{minutes}m{rest}" if minutes else rest


def problem(decisions: Iterable[Decision], who: str) -> Problem:
    """The 429 of a request that `who` ("model 'code'") refused. At least one decision refuses."""
    all_of_them = tuple(decisions)
    refused = worst(all_of_them)
    told = fields(limits.told(all_of_them))
    never = refused.retry_after_s == inf
    after_s = None if never else max(ceil(refused.retry_after_s), 1)
    if not never:
        # SDKs read this one first: they need not wait a whole second for a fraction of it.
        told.append(("retry-after-ms", str(ceil(refused.retry_after_s * 1000))))
    return Problem(
        429,
        _too_large(refused, who)
        if never
        else f"{_reached(refused, who)}. Try again in {after_s} s",
        code="rate_limit_exceeded",
        type=TOKENS if refused.kind == TOKENS else REQUESTS,
        retry_after_s=after_s,
        should_retry=False if never else None,
        headers=tuple(told),
    )


def _too_large(refused: Decision, who: str) -> str:
    return (
        f"The request is too large for {who}: about {refused.cost} {refused.kind}, and"
        f" {refused.limit} a minute are allowed"
    )


def _reached(refused: Decision, who: str) -> str:
    if refused.kind == CONCURRENCY:
        one = refused.limit == 1
        many = "1 request at once is" if one else f"{refused.limit} requests at once are"
        return f"Rate limit reached for {who}: {many} allowed"
    return (
        f"Rate limit reached for {who} on {refused.kind} per minute: limit {refused.limit},"
        f" {refused.remaining} left, {refused.cost} asked for"
    )
