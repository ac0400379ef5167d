"""The limits of [models] entries, providers, keys and tenants, each counted under its name. Pure.

They outlive configurations: what was used of a limit stays used when a reload changes it, and what
still runs is given back to whoever granted it.
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from router.caller import Caller
from router.config import Config
from router.limits import Decision, Grant, Limiter
from router.named import Limits
from router.names.target import NO_LIMITS, Target

Held = Mapping[str, Grant]


class OfCaller:
    """What one caller's requests are counted by, with the words for who refuses."""

    __slots__ = ("limiters", "meter")

    def __init__(self, limiters: Sequence[tuple[str, Limiter]]) -> None:
        self.limiters = limiters
        #: All that there is, where it is one limit, of requests a minute.
        self.meter = limiters[0][1].requests_alone if len(limiters) == 1 else None


class Limiters:
    def __init__(self) -> None:
        self._keys: dict[str, Limiter] = {}
        self._tenants: dict[str, Limiter] = {}
        self._tenants_limits: dict[str, Limits] = {}
        #: Other than this, what a caller remembers does not hold any more.
        self._mark = object()
        self._models: dict[str, Limiter] = {}
        self._providers: dict[str, Limiter] = {}

    def reconfigure(self, config: Config, now: float) -> None:
        """What is limited no more is forgotten."""
        models = {name: one.limits for name, one in config.models.items()}
        self._models = _changed(self._models, models, now)
        tenants = {name: one.limits for name, one in config.tenants.items()}
        self._tenants = _changed(self._tenants, tenants, now)
        self._tenants_limits = {n: one for n, one in tenants.items() if one != NO_LIMITS}
        self._mark = object()
        providers = {name: one.limits for name, one in config.providers.items()}
        self._providers = _changed(self._providers, providers, now)

    def of_caller(self, caller: Caller) -> OfCaller | None:
        """None: it has no limits."""
        known: OfCaller | None
        mark, known = caller.counted
        if mark is not self._mark:
            found = self._of_caller(caller)
            known = OfCaller(found) if found else None
            caller.counted = self._mark, known
        return known

    def _of_caller(self, caller: Caller) -> Sequence[tuple[str, Limiter]]:
        found = []
        if caller.limits is not None:
            key = self._keys.get(caller.id)
            if key is None:
                key = self._keys[caller.id] = Limiter(caller.limits, f"key:{caller.id}")
            found.append((f"key '{caller.name}'", key))
        tenant = caller.tenant
        if tenant is not None and tenant in self._tenants_limits:
            shared = self._tenants.get(tenant)
            if shared is None:
                limits = self._tenants_limits[tenant]
                shared = self._tenants[tenant] = Limiter(limits, f"tenant:{tenant}")
            found.append((f"tenant '{tenant}'", shared))
        return found

    def keep_keys(self, ids: Set[str]) -> None:
        """Of keys that hold no more nothing is counted."""
        self._keys = {id_: one for id_, one in self._keys.items() if id_ in ids}

    def provider(self, name: str, new: Limiter | None) -> Limiter | None:
        """The one to count by. `new`: as the provider's present configuration makes it."""
        if new is None:
            return None
        new.name = f"provider:{name}"
        return self._providers.setdefault(name, new)

    def of_target(self, target: Target) -> Sequence[tuple[str, Limiter]]:
        """Of the entries on the way to it, by their names."""
        return [(name, self._model(name, limits)) for name, limits in target.limited]

    def refusing(self, target: Target, held: Held, tokens: int, now: float) -> tuple[Decision, ...]:
        """What the entries on the way to `target` say, as far as they refuse. `held`: what the
        request has of them already."""
        return tuple(
            decision
            for name, limits in target.limited
            if name not in held
            for decision in self._refusing(self._model(name, limits), tokens, now)
        )

    def take(self, target: Target, held: Held, tokens: int, now: float) -> dict[str, Grant]:
        """What a request holds that goes to `target`, once for all its tries there. What it held
        for another target alone comes back. Where `refusing` says nothing."""
        names = {name for name, _ in target.limited}
        kept = {}
        for name, grant in held.items():
            if name in names:
                kept[name] = grant
            else:
                grant.settle(None, now)
        for name, limits in target.limited:
            if name not in kept:
                granted = self._model(name, limits).take(tokens, now)
                if granted is not None:
                    kept[name] = granted
        return kept

    def _model(self, name: str, limits: Limits) -> Limiter:
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = Limiter(limits, f"model:{name}")
        return found

    def _refusing(self, limiter: Limiter, tokens: int, now: float) -> Iterable[Decision]:
        return () if limiter.allows(tokens, now) else limiter.decide(tokens, now)


def _changed(
    limiters: Mapping[str, Limiter], limits: Mapping[str, Limits], now: float
) -> dict[str, Limiter]:
    kept = {}
    for name, limiter in limiters.items():
        new = limits.get(name, NO_LIMITS)
        if new == NO_LIMITS:
            continue
        if new != limiter.limits:
            limiter.change(new, now)
        kept[name] = limiter
    return kept
