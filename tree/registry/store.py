"""Where the table is durable: the interfaces, and the store that forgets.

A store keeps one `Stored` and applies `Batch`es to it, each wholly or not at all. `commit` returns
when the batch survives a kill -9; until then nothing of it may be told to anybody. A store that
several registries share refuses a batch that another registry's overtook, and tells what that was.
"""

import secrets
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from registry.shared import Clocks, News, Whole
from registry.state import Batch, Stored


class StoreError(Exception):
    """A batch could not be made durable; the store is as it was. The text is for the operator."""


class AwayError(StoreError):
    """A shared store does not answer. What was asked of it may be done all the same."""


class Overtaken(Exception):
    """Another registry was first: take its news, decide again. Nothing of the batch is done.

    `heard` has those that were to expire, but that another registry heard so many seconds ago.
    """

    def __init__(self, heard: dict[str, float] | None = None) -> None:
        super().__init__("another registry was first")
        self.heard = heard or {}


class Store(Protocol):
    async def open(self) -> Stored:
        """Everything, once, at the start. Raises RefusalError where the registry can't start."""

    async def commit(self, batch: Batch) -> None:
        """Make `batch` durable. Raises StoreError; then nothing of it is."""

    async def close(self) -> None:
        """Release it."""


class Heard(Struct, frozen=True):
    """What other registries heard that changes nothing: names, and loads where they came."""

    loads: dict[str, dict[str, float] | None]


class SharedStore(Protocol):
    """One that other registries write too. What it hands out is in order, and taken at once.

    Every method but `close` raises StoreError, AwayError where the store does not answer. A batch
    whose `commit` raised that may be there all the same; then it comes as news.
    """

    async def open(self) -> Whole:
        """Everything, once. Raises RefusalError where the registry can't start."""

    async def commit(self, batch: Batch, at: float) -> None:
        """Make `batch`, decided at lease time `at`, durable. Raises Overtaken."""

    async def news(self, mine: Callable[[], Whole]) -> list[News] | Whole:
        """What others committed since last asked; all there is, where that was too much. Where the
        store lost what it had acknowledged it is given `mine`, and all is of a new epoch."""

    async def wait(self, most_s: float) -> list[Heard]:
        """Wait until there may be news; what was heard meanwhile."""

    async def beats(self, heard: Heard) -> None:
        """Tell the store, and the others, who was heard just now."""

    async def has_duty(self, name: str, for_s: float) -> bool:
        """Whether it is this registry that does what only one of them should."""

    def clocks(self, at: float) -> Clocks:
        """Lease time `at`, which is now, and the store's."""

    async def close(self) -> None:
        """Release it."""


class MemoryStore:
    """For tests and trials: gone on exit, so each start is a new epoch."""

    async def open(self) -> Stored:
        return Stored(epoch=new_epoch())

    async def commit(self, batch: Batch) -> None:
        return None

    async def close(self) -> None:
        return None


def new_epoch() -> str:
    """Names one unbroken count of revisions. No dash: ids are `<epoch>-<revision>`."""
    return secrets.token_hex(8)
