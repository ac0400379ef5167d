"""Which upstream should have this request, and what became of it: the relay's `seam.Desk`.

    begin ─ resolve(name) ─▶ targets ─▶ Plan ─ pick ─▶ candidates of a target ─ strategy ─▶ upstream

Owns all that changes: the table (replaced, never edited), the Nodes, the models' states, the
counts. Pure: time comes with each call, chance as `dice`, and what ended goes to `log`. One
thread, no await: between choosing an upstream and counting it nothing else runs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import quote

from msgspec.structs import replace

from router import hooks, needs, toomany, unserved
from router.cache import question as asking
from router.cache.keeper import Cache
from router.cache.question import Question
from router.cache.ticket import Cached
from router.caller import ANYBODY, Caller, Scope, may_not_ask_for, names_no_model
from router.config import Config
from router.envelope import EMPTY
from router.errors import Problem, RequestError, invalid
from router.hooks import Hooks, Request
from router.known import Dice
from router.limits import Limiter
from router.lives import MakeNode, engine
from router.names.resolve import Names
from router.names.target import Resolution
from router.needs import Needs
from router.outcome import Outcome
from router.picking import Picking
from router.plan import Plan
from router.route import Kind, Route, is_capability
from router.seam import Ask, End, Fields
from router.shares import Shares
from router.sharing import SharedPlan
from router.stats import ModelState
from router.upstream import Upstream
from router.waiting import asked

#: States kept, of models that are gone as well.
STATES_MAX = 10_000
#: Candidates whose refusal a header tells of.
WHYS_MAX = 8

Log = Callable[[Plan, End], None]


def _no_log(plan: Plan, end: End) -> None:
    pass


class Brain(Picking):
    def __init__(
        self,
        config: Config,
        dice: Dice,
        *,
        log: Log = _no_log,
        node: MakeNode = engine,
        names: Names | None = None,
        hooks: Hooks = hooks.NONE,
    ) -> None:
        """`node` makes the Node of a new life of a service; `names` are the configuration's,
        where they are compiled already; `hooks` are an operator's."""
        Picking.__init__(self, config, dice)
        self.log = log
        #: Requests with `stream: true` whose answer began and has not ended.
        self.active_streams = 0
        self.models: dict[str, ModelState] = {}
        #: For requests without a model, and for models that nothing has ever offered.
        self._no_model = ModelState("", config.retry)
        self.cache = Cache(config.cache)
        #: Whether who asks may have the answer explained in its headers.
        self.may_explain: Callable[[Fields | Mapping[str, str]], bool] = _anybody
        #: Keys and tenants whose budget is used up, by ("key", id) and ("tenant", name), and what
        #: they are told.
        self.overspent: Mapping[tuple[str, str], Problem] = {}
        #: Limits that other routers count too. None: each counts its own.
        self.shares: Shares | None = None
        self._make: type[Plan] = Plan
        self._make_cached: type[Cached] = Cached
        self.reconfigure(config, node=node, names=names, hooks=hooks)

    def share(self, shares: Shares) -> None:
        """From the next request on."""
        self.shares = shares
        self._make = SharedPlan
        self._make_cached = _SharedCached

    def reconfigure(
        self,
        config: Config,
        *,
        node: MakeNode = engine,
        names: Names | None = None,
        hooks: Hooks = hooks.NONE,
        now: float = 0.0,
    ) -> None:
        """From the next request on. Those that run keep the targets that they began with.

        `now`: when limits that changed begin to count.
        """
        self._know(config, node, names, now)
        self._prefer(config, hooks.policies)
        self.queues.config = config.queue
        self._hooks = hooks
        self._is_hooked = hooks.before_route is not None or hooks.ended is not None
        self._named = config.models.keys() | config.capabilities.keys()
        self._trusts_tenant = config.needs.trust_tenant_header
        self._session_header = config.affinity.header.lower()
        #: Headers that say something: most requests have none of them.
        self._read = needs.HEADERS | asked.HEADERS
        self._read |= {_CAPABILITY, _EXPLAIN, self._session_header}
        own = [
            one
            for m in config.models.values()
            for one in (m.timeouts.comment_every_s, m.hedge_after_ms)
        ]
        self.impatient = any((config.timeouts.comment_every_s, *own))
        self._fallback_keys = config.affinity.user or config.affinity.client_address
        self._caches = any(one.cache for one in config.models.values())
        self.cache.reconfigure(config.cache, now)
        for state in self.states():
            state.reconfigure(config.retry)

    # --- requests -------------------------------------------------------------------------------

    def begin(self, ask: Ask, now: float) -> Plan:
        """Take a request in. Raises RequestError; then nothing was taken or counted."""
        plan = self.consider(ask)
        state = plan.state
        state.in_flight += 1
        state.requests.count += 1
        if plan.caller is not ANYBODY:
            self._hold_caller(plan, now)
        return plan

    def consider(self, ask: Ask, *, imagined: bool = False) -> Plan:
        """How a request would be routed. Nothing is taken or counted. Raises RequestError.

        `imagined`: nobody sends it, so it leaves no state of its model's behind either.
        """
        envelope = ask.envelope
        headers = ask.headers
        model = envelope.model
        request = None
        if self._is_hooked:
            request = self._hooked(ask)
            model, headers = request.model, request.headers
        capability = ask.route.capability
        key = envelope.affinity_key
        wanted = self._needs
        said = None
        caller = ask.caller
        if caller is not ANYBODY:
            _allow(caller, model, ask)
            wanted = needs.of_caller(caller, wanted)
        if not self._read.isdisjoint(headers):
            capability = _capability(headers) or capability
            key = key or headers.get(self._session_header)
            wanted = needs.read(headers, wanted, trusts_tenant=self._trusts_tenant)
            if caller is not ANYBODY:
                wanted = needs.bounded(wanted, caller)
            explains = headers.get(_EXPLAIN) == "1" and (
                caller.may(Scope.ADMIN) or self.may_explain(ask.headers)
            )
            said = explains, asked.band(headers), asked.patience_s(headers)
        if not key:
            key = self._fallback_key(ask, headers) if self._fallback_keys else None
        resolution = self._resolved.get(model)
        if resolution is None:
            resolution = self._resolve(model, headers, envelope, key)
        state = self.models.get(model)  # type: ignore[arg-type]
        if state is None or not resolution.targets:
            state = self._state(model, resolution, imagined)
        if self._caches and not imagined:
            plan = self._perhaps_cached(ask, capability, key, state, resolution, wanted)
        else:
            plan = self._make(self, ask, envelope, capability, key, state, resolution, wanted)
        if caller is not ANYBODY:
            plan.caller = caller
        if request is not None:
            plan.request = request
        if said is not None:
            plan.explains, plan.band, plan.patience_s = said
            plan.special = plan.special or plan.explains
        return plan

    def _hold_caller(self, plan: Plan, now: float) -> None:
        """Take what its key's and its tenant's limits grant, or have it refused."""
        caller = plan.caller
        if self.overspent:
            over = self.overspent
            plan.problem = over.get(("key", caller.id)) or over.get(("tenant", caller.tenant or ""))
            if plan.problem is not None:
                return
        counted = self.limiters.of_caller(caller)
        if counted is None:
            return
        if isinstance(plan, SharedPlan):
            plan.meet(counted.limiters)
        elif counted.meter is not None and counted.meter.pass_one(now):
            plan.lines = plan.answer_head = toomany.of_requests(counted.meter)
        else:
            self.take_caller(plan, counted.limiters, now)

    def take_caller(self, plan: Plan, limiters: Sequence[tuple[str, Limiter]], now: float) -> None:
        """Of each of this router's own `limiters`, or have it refused."""
        tokens = 1
        for _, limiter in limiters:
            if limiter.counts_tokens:
                tokens = plan.envelope.prompt().tokens
        if len(limiters) > 1:  # of all or of none
            for who, limiter in limiters:
                if not limiter.allows(tokens, now):
                    plan.problem = toomany.problem(limiter.decide(tokens, now), who)
                    return
        grants = []
        for who, limiter in limiters:
            grant = limiter.take(tokens, now)
            if grant is None:
                plan.problem = toomany.problem(limiter.decide(tokens, now), who)
                return
            grants.append(grant)
        plan.hold_caller(grants)

    def _perhaps_cached(
        self,
        ask: Ask,
        capability: str | None,
        key: str | None,
        state: ModelState,
        resolution: Resolution,
        wanted: Needs,
    ) -> Plan:
        """Its plan, where some models' answers are kept."""
        question = self.question(ask, capability, resolution, wanted)
        parts = self, ask, ask.envelope, capability, key, state, resolution, wanted
        if not isinstance(question, Question):
            return self._make(*parts)
        plan = self._make_cached(*parts)
        plan.asks(question, self.cache)
        return plan

    def question(
        self, ask: Ask, capability: str | None, resolution: Resolution, wanted: Needs
    ) -> Question | str | None:
        """What the cache is asked for it, or why it is not. None: its model's answers are not
        kept."""
        first = resolution.first
        if first is None or not first.cache_s:
            return None
        if ask.method != "POST":
            return f"answers to {ask.method} are not kept"
        return asking.read(
            ask.path,
            ask.headers.items(),
            ask.envelope.body(),
            served=(first.key, first.cache_version, capability),
            needs=wanted,
            who=_owner(ask.caller),
        )

    def _hooked(self, ask: Ask) -> Request:
        """The request as an operator's hooks left it. Raises RequestError where one refuses it."""
        headers = ask.headers
        tenant = ask.caller.tenant
        if tenant is None and self._trusts_tenant:
            tenant = headers.get("x-creche-tenant")
        envelope = ask.envelope
        request = Request(ask.id, envelope.model, ask.path, headers, envelope.stream, tenant)
        if self._hooks.before_route is None:
            return request
        found = self._hooks.before_route(request)
        if isinstance(found, Problem):
            raise RequestError(found)
        return found

    def refused(self, id: str, problem: Problem, started: float, now: float) -> None:
        """Count and log a request that ended before `begin` could take it in."""
        ask = Ask(id, "", "", _NOWHERE, {}, EMPTY, "", 0, started)
        self._no_model.in_flight += 1
        plan = Plan(self, ask, EMPTY, None, None, self._no_model, _NOTHING, self._needs)
        plan.problem = problem
        plan.ended(End(Outcome.REFUSED, problem.status, now))

    def nothing_fit(self, plan: Plan, now: float) -> Problem:
        """What a request is told that nothing may serve, or could."""
        return unserved.problem(self, plan, now)

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
        if end.tokens_cached is not None:
            self._told(plan, end)
        self.log(plan, end)
        if plan.request is not None and self._hooks.ended is not None:
            found = hooks.result(end, plan.started, service=plan.service, attempts=plan.attempts)
            self._hooks.ended(plan.request, found)

    def compact(self, plan: Plan, upstream: Upstream) -> str:
        """A choice in one line, for a real answer's header. /explain has the whole of it."""
        target = plan.target
        assert target is not None
        pool = self.pool(target, plan.capability, plan.now)
        said = (
            f"{plan.resolution.how}; target={target.label}; strategy={self.strategy_name(target)}; "
            f"candidates={sum(map(len, pool.tiers))}; open={len(pool.tripped)}; "
            f"refused={len(plan.refusals or ())}; in_flight={upstream.node.in_flight}"
        )
        return _in_header(said)

    def compact_hit(self, plan: Plan) -> str:
        """The same for an answer of the cache."""
        first = plan.resolution.first
        assert first is not None
        return _in_header(f"{plan.resolution.how}; target={first.label}; cache=hit")

    def explained(self, plan: Plan, problem: Problem) -> Problem:
        """A refusal with the header that says who was looked at, and why not."""
        resolution = plan.resolution
        looked_at = [one.label for one in resolution.all]
        whys = [f"{name}: {why}" for name, why in (plan.refusals or {}).items()]
        said = "; ".join((resolution.how, f"targets={','.join(looked_at)}", *whys[:WHYS_MAX]))
        headers = (*problem.headers, ("x-creche-explain", _in_header(said)))
        return replace(problem, headers=headers)

    def tick(self, now: float = 0.0) -> None:
        """Once a second: what paces and budgets are measured by, and what time alone changes."""
        for state in self.states():
            state.tick()
        if self._paces_nodes:
            for upstream in self.table.upstreams.values():
                upstream.node.tokens.tick()
        for upstream in self.table.upstreams.values():
            if upstream.node.forget(now):
                self.fitness.version += 1
        self.freed(now)

    def states(self) -> Iterator[ModelState]:
        """Of every model that was asked for, and last of requests that named none known."""
        yield from self.models.values()
        yield self._no_model

    # --- small parts ----------------------------------------------------------------------------

    def _told(self, plan: Plan, end: End) -> None:
        """The engine said how much of the prompt it had in its cache."""
        target, upstream = plan.target, plan.upstream
        if target is not None and upstream is not None:
            strategy = self.strategy(target)
            if strategy.learns:
                strategy.told(upstream, plan, end.tokens_cached or 0, end.tokens_in or 0)

    def _fallback_key(self, ask: Ask, headers: Fields | Mapping[str, str]) -> str | None:
        affinity_config = self.config.affinity
        if affinity_config.user and ask.envelope.user:
            return ask.envelope.user
        if affinity_config.client_address:
            first = headers.get("x-forwarded-for", "").partition(",")[0].strip() or ask.client
            return f"{first} {headers.get('user-agent', '')}"
        return None

    def _state(
        self, model: str | None, resolution: Resolution, imagined: bool = False
    ) -> ModelState:
        """Counted under the asked name where that is a known one, else under the entry of the file
        that took it.

        A name that nothing offers gets no state of its own: names are endless.
        """
        if model is None or resolution.how == "none":
            return self._no_model
        state = self.models.get(model)
        if state is not None:
            return state
        if resolution.how not in ("exact", "capability"):
            model = self._entry(resolution)
            state = self.models.get(model)
            if state is not None:
                return state
        elif model not in self.table.models and model not in self._named:
            return self._no_model
        state = ModelState(model, self.config.retry)
        if not imagined:
            if len(self.models) >= STATES_MAX:
                self._drop_states()
            self.models[model] = state
        return state

    def _entry(self, resolution: Resolution) -> str:
        """What a pattern, a rule or the default is called in counts."""
        match resolution.path[:2]:
            case ("patterns", int(at)):
                return self.config.patterns[at].match
            case ("rules", int(at)):
                return self.config.rules[at].name or f"rule {at + 1}"
            case _:
                name = resolution.targets[0].name if resolution.targets else None
                known = name in self._named or name in self.table.models
                return name if name and known else self.config.default or ""

    def _drop_states(self) -> None:
        """Of models that are gone. What they counted stays in the totals."""
        known = self.table.models
        gone = [s for name, s in self.models.items() if not s.in_flight and name not in known]
        for state in gone:
            del self.models[state.name]
            self._no_model.absorb(state)


class _SharedCached(Cached, SharedPlan):
    """It looks in the cache first, then asks for its limits."""


def _allow(caller: Caller, model: str | None, ask: Ask) -> None:
    """Raises RequestError where its key does not name the model that is asked for."""
    if caller.models is None:
        return
    if model is None:
        if ask.route.takes_model or ask.path.partition("?")[0].endswith("/realtime"):
            raise RequestError(names_no_model(caller))
    elif not caller.may_ask_for(model):
        raise RequestError(may_not_ask_for(caller, model))
    elif ask.envelope.names_otherwise():
        raise RequestError(invalid("the body names 'model' in two ways", param="model"))


def _owner(caller: Caller) -> tuple[str, str] | None:
    """Whose answers the cache keeps apart: a tenant's, or those of a key that is in none."""
    if caller is ANYBODY:
        return None
    return ("key", caller.id) if caller.tenant is None else ("tenant", caller.tenant)


def _capability(headers: Fields | Mapping[str, str]) -> str | None:
    said = headers.get(_CAPABILITY)
    if said is None or is_capability(said):
        return said
    raise RequestError(invalid(f"{_CAPABILITY}: unknown capability '{said}'"))


def _in_header(said: str) -> str:
    """Names come from outside, and may hold what would end a header."""
    return said if said.isascii() and said.isprintable() else quote(said, safe=" /:@+,;=|")


def _anybody(_: Fields | Mapping[str, str]) -> bool:
    return True


_CAPABILITY = "x-creche-capability"
_EXPLAIN = "x-creche-explain"
_REFUSED = Outcome.REFUSED
_NOWHERE = Route(Kind.RELAY)
_NOTHING = Resolution("", "none", ())
