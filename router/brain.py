"""Which upstream should have this request, and what became of it: the relay's `seam.Desk`.

Owns all that changes: the table (replaced, never edited), the Nodes, the models' states, the
counts. Pure: time comes with each call, chance as `dice`, and what ended goes to `log`. One
thread, no await: between choosing an upstream and counting it nothing else runs.

Who is chosen, in tiers, each only where the one before is empty:

    well ─▶ resting (429 said so) ─▶ suspect ─▶ out (set aside, unhealthy) ─▶ out and suspect
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from ssl import SSLContext

from common.wire.registry import Service
from router import affinity, choose, table
from router.config import Config
from router.envelope import EMPTY, Envelope
from router.errors import Problem, RequestError, invalid, no_service
from router.nodes import Node
from router.outcome import Outcome
from router.plan import Plan
from router.route import Kind, Route, is_capability
from router.seam import Ask, End
from router.stats import ModelState
from router.table import Pool, Table, Upstreams
from router.upstream import Identity, Upstream, address, identity

#: What a client that got 503 is told to wait: by then a lost engine has usually been replaced.
RETRY_AFTER_S = 5
#: Names remembered as once offered, and states kept for models that are gone.
NAMES_MAX = 10_000

Dice = Callable[[], float]
Log = Callable[[Plan, End], None]


def _no_log(plan: Plan, end: End) -> None:
    pass


class Brain:
    def __init__(
        self,
        config: Config,
        dice: Dice,
        *,
        log: Log = _no_log,
        tls: Callable[[], SSLContext] | None = None,
    ) -> None:
        """`tls` makes the context for upstreams with an https URL, when the first one appears."""
        self.config = config
        self.dice = dice
        self.log = log
        self.table: Table = table.EMPTY
        #: Requests with `stream: true` whose answer began and has not ended.
        self.active_streams = 0
        self.models: dict[str, ModelState] = {}
        #: Nodes out of choice: what the prober looks at.
        self.out: set[Node] = set()
        self._tls = tls
        self._identities: dict[str, Identity] = {}
        self._offered: dict[str, None] = {}
        #: For requests without a model, and for models that nothing has ever offered.
        self._no_model = self._new_state("")
        self._version = 0
        self._strategy = choose.strategy(config.strategy)
        self._session_header = config.affinity.header.lower()
        self._fallback_keys = config.affinity.user or config.affinity.client_address
        self._load_factor = config.affinity.load_factor

    # --- requests -------------------------------------------------------------------------------

    def begin(self, ask: Ask, now: float) -> Plan:
        """Take a request in. Raises RequestError; then nothing was taken or counted."""
        envelope = ask.envelope
        capability = ask.headers.get("x-creche-capability")
        if capability is None:
            capability = ask.route.capability
        elif not is_capability(capability):
            raise RequestError(invalid(f"x-creche-capability: unknown capability '{capability}'"))
        key = envelope.affinity_key or ask.headers.get(self._session_header)
        if not key:
            key = self._fallback_key(ask) if self._fallback_keys else None
        model = envelope.model
        state = self._no_model if model is None else self._state(model)
        state.in_flight += 1
        state.requests.count += 1
        return Plan(self, ask, envelope, capability, key, state)

    def refused(self, id: str, problem: Problem, started: float, now: float) -> None:
        """Count and log a request that ended before `begin` could take it in."""
        ask = Ask(id, "", "", _NOWHERE, {}, EMPTY, "", 0, started)
        self._no_model.in_flight += 1
        plan = Plan(self, ask, EMPTY, None, None, self._no_model)
        plan.problem = problem
        plan.ended(End(Outcome.REFUSED, problem.status, now))

    def pick(self, plan: Plan, now: float) -> Node | None:
        """The upstream that `plan` should ask now. None: there is none at all."""
        pool = self.table.pools.get((plan.model, plan.capability))
        if pool is None:
            pool = self.table.pool(plan.model, plan.capability)
        if pool.version != self._version or now >= pool.until:
            self._rank(pool, now)
        tiers = pool.tiers
        if not tiers:
            return None
        group = _untried(tiers, plan.tried) if plan.tried else tiers[0]
        if len(group) == 1:
            return group[0].node
        if plan.affinity_key is not None:
            return affinity.choose(group, plan.affinity_key, self._load_factor).node
        if pool.cache_types:
            group = self._by_cache_type(group, plan.envelope)
        return self._strategy(group, plan.state.rotation, self.dice).node

    def nothing_fit(self, model: str | None) -> Problem:
        ever = model is None or model in self._offered
        return no_service(model, ever_offered=ever, retry_after_s=RETRY_AFTER_S)

    def count(self, plan: Plan, end: End) -> None:
        """An ended request, once: its model's counts, and the log."""
        state = plan.state
        outcome = end.outcome
        state.in_flight -= 1
        state.outcomes[outcome] += 1
        state.durations.add(end.ended - plan.started)
        if outcome is _REFUSED:
            if end.status < 500:
                state.refused_client += 1
        elif end.first_byte:
            first = end.first_byte - plan.started
            state.first_byte.add(first)
            if end.events:  # a plain answer's first byte tells nothing of its first token
                state.first_bytes.append(first)
        if end.tokens_in is not None:
            state.tokens_in += end.tokens_in
        if end.tokens_out is not None:
            state.tokens_out.count += end.tokens_out
        self.log(plan, end)

    def tick(self) -> None:
        """Once a second: what paces and budgets are measured by."""
        for state in self.states():
            state.tick()

    def states(self) -> Iterator[ModelState]:
        """Of every model that was asked for, and last of requests that named none known."""
        yield from self.models.values()
        yield self._no_model

    # --- upstreams ------------------------------------------------------------------------------

    def rest(self, node: Node, retry_after_s: float | None, now: float) -> None:
        retry = self.config.retry
        seconds = retry.rest_s if retry_after_s is None else min(retry_after_s, retry.rest_max_s)
        node.rest(now + seconds)
        self._version += 1

    def node_failed(self, node: Node, *, connect: bool = False) -> None:
        if node.connect_failed() if connect else node.failed():
            self.out.add(node)
            self._version += 1

    def node_succeeded(self, node: Node) -> None:
        if node.succeeded():
            self._back(node)

    def node_probed(self, node: Node, *, slow: bool = False) -> None:
        """A probe succeeded: back in choice, on probation."""
        node.came_back(slow=slow)
        self._back(node)

    def _back(self, node: Node) -> None:
        self.out.discard(node)
        self._version += 1

    # --- the table ------------------------------------------------------------------------------

    def apply(
        self,
        changes: Mapping[str, Service | None],
        *,
        source: str = "registry",
        suspect: Iterable[str] = (),
        fresh: bool = False,
    ) -> None:
        """Replace records (None: gone). Routable when this returns.

        Names in `suspect` are used only where nothing fit is left. `fresh`: a live `put` vouches
        for the service, so what a failed connect set aside gets another chance.
        """
        held_back = frozenset(suspect)
        new: dict[str, Upstream | None] = {}
        for name, service in changes.items():
            if service is None:
                self._forget(name)
                new[name] = None
                continue
            node = self._node(service)
            if fresh and node.set_aside and service.is_healthy:
                self.node_probed(node)
            upstream = Upstream(service, node, source=source, suspect=name in held_back)
            new[name] = upstream
            if upstream.openai:
                for model in upstream.models:
                    self._offered[model] = None
        while len(self._offered) > NAMES_MAX:
            del self._offered[next(iter(self._offered))]
        self.table = self.table.apply(new)

    def _node(self, service: Service) -> Node:
        """The name's Node, or a new one for a new life or address."""
        name = service.name
        mark = identity(service)
        old = self.table.upstreams.get(name)
        if old is not None and self._identities.get(name) == mark:
            return old.node
        self._forget(name)
        self._identities[name] = mark
        where = address(service)
        return Node(
            name,
            where.host,
            where.port,
            path_prefix=where.path_prefix,
            tls=self._tls() if where.tls and self._tls is not None else None,
            connect_timeout_s=self.config.timeouts.connect_s,
        )

    def reported(self, loads: Mapping[str, dict[str, float]]) -> None:
        """What engines say of their own load, by service name: shown in /stats, decides nothing."""
        for name, load in loads.items():
            upstream = self.table.upstreams.get(name)
            if upstream is not None:
                upstream.node.load = load

    def _forget(self, name: str) -> None:
        self._identities.pop(name, None)
        old = self.table.upstreams.get(name)
        if old is not None:
            self.out.discard(old.node)

    def _rank(self, pool: Pool, now: float) -> None:
        """Sort a pool's candidates into tiers; hold until something changes or a rest ends."""
        well: list[Upstream] = []
        resting: list[Upstream] = []
        out: list[Upstream] = []
        until = float("inf")
        for upstream in pool.fit:
            node = upstream.node
            if node.out:
                out.append(upstream)
            elif node.rest_until > now:
                resting.append(upstream)
                until = min(until, node.rest_until)
            else:
                well.append(upstream)
        suspect = [u for u in pool.suspect if not u.node.out]
        lost = [u for u in pool.suspect if u.node.out]
        tiers = (well, resting, suspect, out, lost)
        pool.tiers = tuple(tuple(tier) for tier in tiers if tier)
        pool.version = self._version
        pool.until = until

    # --- small parts ----------------------------------------------------------------------------

    def _fallback_key(self, ask: Ask) -> str | None:
        headers = ask.headers
        affinity_config = self.config.affinity
        if affinity_config.user and ask.envelope.user:
            return ask.envelope.user
        if affinity_config.client_address:
            first = headers.get("x-forwarded-for", "").partition(",")[0].strip() or ask.client
            return f"{first} {headers.get('user-agent', '')}"
        return None

    def _by_cache_type(self, group: Upstreams, envelope: Envelope) -> Upstreams:
        """Long texts prefer a static cache, short ones a paged one; nobody is left without."""
        large = envelope.text_bytes() > self.config.static_cache_above_bytes
        wanted = "static" if large else "paged"
        return tuple(u for u in group if u.cache_type == wanted) or group

    def _state(self, model: str) -> ModelState:
        """A name that nothing offers gets no state of its own: names are endless."""
        state = self.models.get(model)
        if state is None:
            if model not in self.table.models:
                return self._no_model
            if len(self.models) >= NAMES_MAX:
                self._drop_states()
            state = self.models[model] = self._new_state(model)
        return state

    def _drop_states(self) -> None:
        """Of models that are gone. What they counted stays in the totals."""
        known = self.table.models
        gone = [s for name, s in self.models.items() if not s.in_flight and name not in known]
        for state in gone:
            del self.models[state.name]
            self._no_model.absorb(state)

    def _new_state(self, name: str) -> ModelState:
        retry = self.config.retry
        return ModelState(name, retry.budget_percent, retry.budget_floor_per_s)


_REFUSED = Outcome.REFUSED
_NOWHERE = Route(Kind.RELAY)


def _untried(tiers: tuple[Upstreams, ...], tried: tuple[Node, ...]) -> Upstreams:
    """The best tier's candidates that were not asked; all of the best tier when all were."""
    for tier in tiers:
        left = tuple(upstream for upstream in tier if upstream.node not in tried)
        if left:
            return left
    return tiers[0]
