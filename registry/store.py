"""Where the table is durable: the interface, and the store that forgets.

A store keeps one `Stored` and applies `Batch`es to it, each wholly or not at all. `commit` returns
when the batch survives a kill -9; until then nothing of it may be told to anybody. A store that
several registries share refuses a batch whose `base_revision` is not its own revision.
"""

import secrets
from typing import Protocol

from registry.state import Batch, Stored


class StoreError(Exception):
    """A batch could not be made durable; the store is as it was. The text is for the operator."""


class Store(Protocol):
    async def open(self) -> Stored:
        """Everything, once, at the start. Raises RefusalError where the registry can't start."""

    async def commit(self, batch: Batch) -> None:
        """Make `batch` durable. Raises StoreError; then nothing of it is."""

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
