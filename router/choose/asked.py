"""What a strategy is told of a request, beside its candidates. Pure."""

from collections.abc import Callable
from typing import Protocol

from router.choose.rotation import Rotation
from router.envelope import Envelope
from router.needs import Needs
from router.upstream import Upstream

Dice = Callable[[], float]
Candidates = tuple[Upstream, ...]


class Asked(Protocol):
    """One request that waits for a choice; the router's Plan is one.

    `rotation` is the model's own memory and survives table swaps. `dice` returns a float in
    [0, 1). `now` is monotonic seconds. `key` is what keeps requests together, or None.
    """

    @property
    def rotation(self) -> Rotation: ...
    @property
    def dice(self) -> Dice: ...
    @property
    def now(self) -> float: ...
    @property
    def key(self) -> str | None: ...
    @property
    def envelope(self) -> Envelope: ...
    @property
    def needs(self) -> Needs: ...
    @property
    def model(self) -> str | None: ...


class Strategy(Protocol):
    """Which of several equal candidates gets a request.

    `candidates` is never empty and holds only upstreams that may be used.
    """

    #: `took` and `told` want to be called. The others cost nothing.
    learns: bool

    def choose(self, candidates: Candidates, asked: Asked) -> Upstream: ...

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        """For each candidate by name, the numbers that decided, as /explain shows them:
        `11 of 14 blocks cached, 3 in flight`. Changes nothing."""
        ...

    def took(self, upstream: Upstream, asked: Asked) -> None:
        """The request goes to `upstream`."""
        ...

    def told(self, upstream: Upstream, asked: Asked, cached_tokens: int, tokens: int) -> None:
        """The engine said how many of the prompt's `tokens` it had in its cache."""
        ...
