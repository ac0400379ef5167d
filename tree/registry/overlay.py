"""Changes to a dict that are not yet true. Pure.

Reads see the changes over the base; the base itself is untouched until `merge`.
"""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Overlay(Generic[K, V]):
    """`top` holds what changed: None for a key that is gone."""

    def __init__(self, base: dict[K, V]) -> None:
        self._base = base
        self._count = len(base)
        self.top: dict[K, V | None] = {}

    def get(self, key: K) -> V | None:
        if key in self.top:
            return self.top[key]
        return self._base.get(key)

    def put(self, key: K, value: V) -> None:
        self._count += self.get(key) is None
        self.top[key] = value

    def drop(self, key: K) -> None:
        self._count -= self.get(key) is not None
        self.top[key] = None

    def items(self) -> list[tuple[K, V]]:
        """All that is there now; what is put or dropped later is not in it."""
        kept = [(key, value) for key, value in self._base.items() if key not in self.top]
        return kept + [(key, value) for key, value in self.top.items() if value is not None]

    def __len__(self) -> int:
        return self._count

    def merge(self) -> None:
        """Make it true."""
        for key, changed in self.top.items():
            if changed is None:
                self._base.pop(key, None)
            else:
                self._base[key] = changed
        self.top = {}
