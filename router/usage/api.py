"""`GET /admin/usage`: sums of what was counted, divided as asked.

?by=key,model   &from=2026-01-01 &to=…   &key=NAME &tenant=NAME &model=NAME
"""

from collections.abc import Iterable

from aiohttp import web

from common import clock
from common.http import HttpError, json_response
from common.wire.usage import DIVISIONS, Usage, UsageCounts, UsageRow
from router.usage.meter import Meter
from router.usage.rows import COLUMNS, NANOS
from router.usage.store import BookError, Question, Sums, TooMuchError

#: Two keys can have had one name.
_COLUMNS = {"key": ("key", "key_id")}
_ASKED = frozenset({"by", "from", "to", "key", "tenant", "model"})


class UsageApi:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @property
    def message(self) -> str:
        return self._meter.message

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/admin/usage", self.usage)

    async def usage(self, request: web.Request) -> web.Response:
        asked = request.query
        for name in asked:
            if name not in _ASKED:
                raise HttpError(400, f"{name}: unknown; known are {', '.join(sorted(_ASKED))}")
        by = _by(asked.get("by", "key,model"))
        since = _moment("from", asked.get("from"))
        until = _moment("to", asked.get("to"))
        question = Question(
            by=tuple(one for name in by for one in _COLUMNS.get(name, (name,))),
            start=0.0 if since is None else since,
            end=1e12 if until is None else until,
            key=asked.get("key"),
            tenant=asked.get("tenant"),
            model=asked.get("model"),
        )
        try:
            found = await self._meter.read(question)
        except BookError as why:
            raise HttpError(503, f"usage cannot be read: {why}", "store_away") from why
        except TooMuchError as why:
            text = "more rows than an answer may have: narrow `from`, `to` or `by`"
            raise HttpError(400, text, "too_much") from why
        return json_response(
            Usage(
                by=list(question.by),
                rows=[row(question.by, one) for one in found],
                total=UsageCounts(**counts(total(found))),  # type: ignore[arg-type]
                since=None if since is None else clock.wire_time(since),
                until=None if until is None else clock.wire_time(until),
                of=self._meter.of,
                message=self.message or self._meter.off,
            )
        )


def row(by: Iterable[str], sums: Sums) -> UsageRow:
    names = dict(zip(by, sums.names, strict=True))
    return UsageRow(names=names, **counts(sums.values))  # type: ignore[arg-type]


def total(found: Iterable[Sums]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*(one.values for one in found), strict=True))) or (0,) * len(COLUMNS)


def counts(values: tuple[int, ...]) -> dict[str, float | None]:
    """As the wire names them."""
    found: dict[str, float | None] = dict(zip(COLUMNS, values, strict=True))
    nanos = found.pop("cost_nanos") or 0
    found["failed"] = (found["requests"] or 0) - (found["ok"] or 0)
    # A price of 0 is one as well.
    was_free = (found["tokens_in"] or found["tokens_out"]) and not found["unpriced"]
    found["cost"] = nanos / NANOS if nanos or was_free else None
    return found


def _by(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    for name in found:
        if name not in DIVISIONS:
            raise HttpError(400, f"by: '{name}' is none of {', '.join(DIVISIONS)}")
    return found


def _moment(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return clock.parse_wire_time(text)
    except (ValueError, OverflowError):
        example = "2026-01-31 or 2026-01-31T12:00:00Z"
        raise HttpError(400, f"{name}: '{text[:40]}' is no time like {example}") from None
