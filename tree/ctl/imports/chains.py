"""Fallback chains of other products, made ones that `check` accepts. Pure.

Theirs may name what nobody serves, and may lead round (a → b, b → a). Ours may not: who is left out
is told. Chains are flat, so a cycle in them is only a wish: the later of the two gives way.
"""

from collections.abc import Callable

from ctl.imports.draft import Draft

Link = tuple[str, str]


class Chains:
    """`served`: who can be asked for a name. Owners come in the order of their files."""

    def __init__(self, draft: Draft, served: Callable[[str], bool]) -> None:
        self._draft = draft
        self._served = served
        self._after: dict[str, list[str]] = {}

    def members(self, owner: str | None, named: list[Link]) -> list[str]:
        """Of `(path, name)` pairs those that stay. `owner` None: the chain of everybody."""
        kept: list[str] = []
        for path, name in named:
            why = self._why_not(owner, name, kept)
            if why:
                self._draft.lose(path, why)
                continue
            kept.append(name)
            if owner is not None:
                self._after.setdefault(owner, []).append(name)
        return kept

    def _why_not(self, owner: str | None, name: str, kept: list[str]) -> str:
        if name in kept:
            return f"{name} stands twice in that chain"
        if name == owner:
            return f"{name} would fall back on itself"
        if not self._served(name):
            return f"nobody serves {name}: a chain that names it would never end there"
        if owner is not None and (way := self._way(name, owner)):
            return f"chains would go round: {' → '.join([owner, *way])}; the other one stays"
        return ""

    def _way(self, start: str, end: str) -> list[str]:
        """How chains lead from `start` to `end`; empty: they do not."""
        came: dict[str, str | None] = {start: None}
        queue = [start]
        for name in queue:
            if name == end:
                way: list[str] = []
                at: str | None = name
                while at is not None:
                    way.append(at)
                    at = came[at]
                return way[::-1]
            for after in self._after.get(name, []):
                if after not in came:
                    came[after] = name
                    queue.append(after)
        return []
