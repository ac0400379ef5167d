"""Which target a request is at, and which upstreams it has asked there. Pure.

    target ─▶ fallback ─▶ fallback … then once more, as a last resort: target ─▶ fallback …

The first time round only upstreams that are well count; the second time those that rest or are out
too. Where there is but one target, the first time is the last.
"""

from collections.abc import Mapping

from router.names.target import Resolution, Target
from router.nodes import Node


class Course:
    """Defaults stand on the class: most requests change none, and each costs time."""

    #: Nodes that were asked for the present target, in order.
    tried: tuple[Node, ...] = ()
    resolution: Resolution
    #: The present one. None: nothing resolves.
    target: Target | None
    #: Every target was gone through: what is not well counts too.
    last_resort = True
    #: Those asked for the targets before.
    _visits: dict[Target, tuple[Node, ...]] | None = None
    _at = 0

    @property
    def models(self) -> tuple[str, ...]:
        """Of the present target, the preferred one first."""
        return () if self.target is None else self.target.models

    def advance(self, tries_max: int) -> Target | None:
        """To the next target that was tried less than `tries_max` times. None: there is none."""
        targets = self.resolution.all
        if len(targets) < 2:
            return None
        visits = self._visits
        if visits is None:
            visits = self._visits = {}
        visits[targets[self._at]] = self.tried
        return self._from(self._at + 1, visits, tries_max)

    def restart(self, tries_max: int) -> None:
        """Back to the first target that may be tried still, as a new request looks for one."""
        targets = self.resolution.all
        if len(targets) < 2:
            return
        visits = self._visits
        if visits is None:
            visits = self._visits = {}
        visits[targets[self._at]] = self.tried
        self.last_resort = False
        self._from(0, visits, tries_max)

    def _from(
        self, at: int, visits: Mapping[Target, tuple[Node, ...]], tries_max: int
    ) -> Target | None:
        targets = self.resolution.all
        while True:
            if at >= len(targets):
                if self.last_resort:
                    return None
                self.last_resort = True
                at = 0
            target = targets[at]
            tried = visits.get(target, ())
            if len(tried) < tries_max:
                self._at, self.target, self.tried = at, target, tried
                return target
            at += 1
