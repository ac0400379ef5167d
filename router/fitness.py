"""Who may be asked, as this router's own traffic and probes show it. Pure: time is given.

Candidates of a pool fall into tiers, each used only where the one before is empty:

    well ─▶ resting (429 said so) ─▶ suspect ─▶ out (set aside, unhealthy) ─▶ out and suspect

Those whose breaker refuses are in none. While a fallback is left, only `well` and `suspect` count
(`first`); the rest when nothing else is. In a panic (most of a model's upstreams out by breaker)
all are used: better a slow answer than none.
"""

from enum import Enum

from router import cooldown
from router.breaker import State
from router.config import Config
from router.nodes import Node
from router.table import Pool
from router.upstream import Upstream

_CLOSED = State.CLOSED
#: What a request holds that was admitted without asking the breaker: its result changes nothing.
NO_PERMIT = -1


class Tier(Enum):
    """In the order in which they are used; OPEN, out by breaker, is not."""

    WELL = "well"
    RESTING = "resting"
    SUSPECT = "suspect"
    OUT = "out"
    LOST = "out and suspect"
    OPEN = "open"


class Fitness:
    """`version` counts up whenever a pool must be ranked anew. `out`: what the prober looks at."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.version = 0
        self.out: set[Node] = set()

    def reconfigure(self, config: Config) -> None:
        self.config = config
        self.version += 1

    # --- what happened ----------------------------------------------------------------------------

    def rest(self, node: Node, retry_after_s: float | None, now: float) -> None:
        """It asked for less, and for some time. Where it says no time and had others in flight, it
        takes fewer at once from now on: that is what it asked for."""
        if self.config.queue.learn and node.refused(now) and retry_after_s is None:
            self.version += 1
            return
        retry = self.config.retry
        seconds = retry.rest_s if retry_after_s is None else min(retry_after_s, retry.rest_max_s)
        node.rest(now + seconds)
        self.version += 1

    def admit(self, node: Node, now: float) -> int:
        """A permit of a breaker that is not closed; NO_PERMIT in a panic."""
        permit = node.breaker.admit(now)
        self.version += 1
        return NO_PERMIT if permit is None else permit

    def failed(self, node: Node, permit: int, now: float, *, connect: bool = False) -> None:
        node.steady = False
        if node.breaker.failed(permit, now):
            self.version += 1
        if self._too_many_errors(node, now):
            self.version += 1
        if node.connect_failed() if connect else node.failed():
            if not node.gone:  # nobody would take it off again
                self.out.add(node)
            self.version += 1

    def succeeded(self, node: Node, permit: int) -> None:
        """For nodes that were not steady: those that were have nothing to gain."""
        trial = node.breaker.state is not _CLOSED
        node.breaker.succeeded(permit)
        if node.succeeded() or trial:
            self._back(node)
        node.steady = node.is_steady

    def abandoned(self, node: Node, permit: int) -> None:
        """An attempt ended without a verdict: its trial goes to the next."""
        if node.breaker.state is not _CLOSED:
            node.breaker.abandoned(permit)
            self.version += 1

    def probed(self, node: Node, *, slow: bool = False) -> None:
        """A probe succeeded: back in choice, on probation."""
        node.came_back(slow=slow)
        node.steady = node.is_steady
        self._back(node)

    def forget(self, node: Node) -> None:
        """Its life is over."""
        node.gone = True
        self.out.discard(node)

    def _back(self, node: Node) -> None:
        self.out.discard(node)
        self.version += 1

    def _too_many_errors(self, node: Node, now: float) -> bool:
        """`error_cooldown`: off by default, then nothing is kept."""
        if not self.config.retry.error_cooldown:
            return False
        errors = node.errors
        if errors is None:
            errors = node.errors = cooldown.of(self.config.retry)
        until = None if errors is None else errors.failed(now)
        if until is None:
            return False
        node.rest(until)
        return True

    # --- who may be asked -------------------------------------------------------------------------

    def rank(self, pool: Pool, now: float) -> None:
        """Sort a pool's candidates into tiers; they hold until something changes or time is up."""
        found: dict[Tier, list[Upstream]] = {tier: [] for tier in Tier}
        until = float("inf")
        for upstream in (*pool.fit, *pool.suspect):
            tier = tier_of(upstream, now)
            found[tier].append(upstream)
            node = upstream.node
            if tier is Tier.OPEN:
                if node.breaker.state is State.OPEN:
                    until = min(until, node.breaker.until)
            elif tier is Tier.RESTING:
                until = min(until, node.rest_until)
        open_ = found.pop(Tier.OPEN)
        pool.tiers = _kept(*found.values())
        pool.first = _kept(found[Tier.WELL], found[Tier.SUSPECT])
        pool.tripped = tuple(open_)
        pool.panic = ()
        if open_ and self._panics(len(open_), len(pool.fit) + len(pool.suspect)):
            found[Tier.WELL] += open_
            pool.panic = _kept(*found.values())
        pool.last = pool.panic or pool.tiers
        pool.sound = sum(bool(found[tier]) for tier in (Tier.WELL, Tier.RESTING, Tier.SUSPECT))
        pool.capped = any(u.node.slots is not None for u in (*pool.fit, *pool.suspect))
        pool.plain = pool.simple and not pool.capped
        pool.version = self.version
        pool.until = until

    def _panics(self, tripped: int, of: int) -> bool:
        breaker = self.config.breaker
        return of >= breaker.panic_upstreams and tripped > of * breaker.panic_percent / 100


def tier_of(upstream: Upstream, now: float) -> Tier:
    node = upstream.node
    breaker = node.breaker
    if breaker.state is not _CLOSED and not breaker.admits(now):
        return Tier.OPEN
    if node.out:
        return Tier.LOST if upstream.suspect else Tier.OUT
    if upstream.suspect:
        return Tier.SUSPECT
    return Tier.RESTING if node.rest_until > now else Tier.WELL


def _kept(*tiers: list[Upstream]) -> tuple[tuple[Upstream, ...], ...]:
    return tuple(tuple(tier) for tier in tiers if tier)
