"""Where keys are kept: what a store can do, and how it fails."""

from typing import Protocol

from router.keys.record import Key


class StoreError(Exception):
    """It cannot be read or written now. One sentence, without secrets."""


class TakenError(Exception):
    """Another key that holds has this name."""


class Store(Protocol):
    """One writer at a time for each call; any number of routers."""

    async def open(self) -> None:
        """Raises RefusalError where it can never be used, StoreError where it cannot now."""
        ...

    async def mark(self) -> object:
        """Compared with the last one: another value where anything may have changed. Cheap: asked
        several times a second. Raises StoreError."""
        ...

    async def load(self) -> list[Key]:
        """All, revoked ones too. Raises StoreError."""
        ...

    async def add(self, key: Key) -> None:
        """Durable when it returns. Raises TakenError, StoreError."""
        ...

    async def revoke(self, which: str, at: float) -> Key | None:
        """The key of this name or id that held until now. None: there is none. Raises
        StoreError."""
        ...

    async def close(self) -> None: ...
