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
    [0, 1). `now` is monotonic seconds. `key` is what keeps requests together, or None. `models`
    is the target's, as upstreams know them: usually one; several for a capability, the preferred
    first; empty where the request names none.
    """

    #: What a strategy that learns keeps of this request from `choose` to `told`. None at first,
    #: and nobody else's business.
    note: object

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
    @property
    def models(self) -> tuple[str, ...]: ...


#: An operator's say on a candidate, for the strategy `score`: a number (0 to 1) joins the mean,
#: None has nothing to say, a text refuses and is the reason shown. May not change anything.
Policy = Callable[[Upstream, Asked], float | str | None]


class Strategy(Protocol):
    """Which of several equal candidates gets a request.

    `candidates` is never empty and holds only upstreams that may be used. One instance serves a
    whole router: what `prefix` learnt is in it.
    """

    #: `took` and `told` want to be called. The others cost nothing.
    learns: bool

    def choose(self, candidates: Candidates, asked: Asked) -> Upstream | None:
        """None: it refuses them all, as only `score` does.

        Changes the asked rotation and its note, nothing else: with a copy of the rotation it
        shows what would be chosen.
        """
        ...

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


class Forgetful:
    """A strategy that learns nothing from what became of a request."""

    learns = False

    def took(self, upstream: Upstream, asked: Asked) -> None:
        pass

    def told(self, upstream: Upstream, asked: Asked, cached_tokens: int, tokens: int) -> None:
        pass


def in_flight(upstream: Upstream) -> str:
    """`3 in flight`, and `for weight 2` where it weighs other than one: how explanations end."""
    count = f"{upstream.node.in_flight} in flight"
    return count if upstream.weight == 1 else f"{count} for weight {upstream.weight:g}"
