"""Where usage is kept: what can be asked of it, how it is answered, how it fails. Pure."""

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from router.usage.rows import Row, Rows

#: The longest answer: whoever gets more than this cannot read it.
ANSWER_ROWS_MAX = 50_000


class BookError(Exception):
    """It cannot be read or written now. One sentence."""


class KeptError(BookError):
    """What was to be added may have been, or not: the store has it, and will see to it."""


class TooMuchError(Exception):
    """More rows than an answer may have."""


class Question(Struct, frozen=True, kw_only=True):
    """`start` counts, `end` does not: unix seconds. A row that is cut by either counts whole."""

    by: tuple[str, ...]
    start: float = 0.0
    end: float = 1e12
    #: A key's name or id.
    key: str | None = None
    tenant: str | None = None
    model: str | None = None

    def wants(self, row: Row, span: int) -> bool:
        """`span`: how many seconds the row is of."""
        return (
            row.start + span > self.start
            and row.start < self.end
            and self.key in (None, row.key, row.key_id)
            and self.tenant in (None, row.tenant)
            and self.model in (None, row.model)
        )


class Sums(Struct, frozen=True):
    """One row of an answer: a name for each of `by`, a sum for each of COLUMNS."""

    names: tuple[str, ...]
    values: tuple[int, ...]


class Store(Protocol):
    #: Whose requests it has: "this router" or "all routers".
    of: str

    @property
    def set_aside(self) -> str:
        """A damaged file that was set aside; empty: none was."""
        ...

    async def add(self, rows: Rows) -> None:
        """All of them or none, durable when it returns. Raises BookError, KeptError."""
        ...

    async def retain(self, now: float, *, hourly_days: int, keep_days: int) -> None:
        """Fold what is older into days, and forget what is older still. Raises BookError."""
        ...

    async def read(self, question: Question) -> list[Sums]:
        """Sorted by their names. Raises BookError, TooMuchError."""
        ...

    async def close(self) -> None: ...


def bounded(found: Iterable[Sums]) -> list[Sums]:
    """Raises TooMuchError."""
    rows = list(found)
    if len(rows) > ANSWER_ROWS_MAX:
        raise TooMuchError
    return rows
