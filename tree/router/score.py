"""How well an upstream suits what a request needs: the formula of the strategy `score`. Pure.

The mean of these parts, each with its weight of [score], and with weight 1 what an operator's
policies say of it:

    health     2 x h; h = 1 healthy, 0.5 degraded, 0.3 unknown
    latency    1 - p50 / 5 s                           nothing known: p50 is 1 s
    privacy    1                                       what is not private enough is no candidate
    locality   0.5 + 0.3 x (1 same region, 0.5 unknown, 0 another)
    cost       cost tolerance above 50: tokens/s / 1000, at most 1; else 1 - cost; unknown 0.5

Refused: what is unhealthy (while another is not), slower than 5 s, refused by a policy, or below
0.1. A p50 above 5 s refuses for a minute after the last answer, then it counts as 5 s: what is
never asked again could not show that it is faster now.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from router.config import Score as Weights
from router.nodes import NodeHealth
from router.upstream import Upstream

if TYPE_CHECKING:
    from router.choose.asked import Asked, Policy

#: Stands in the place of a score.
REFUSED = -1.0
#: For so long after its last answer what is too slow is refused.
SLOW_S = 60.0
#: More tokens a second than this count as this.
TOKENS_PER_S_MAX = 1000.0
#: Above it speed counts in the place of cost.
TOLERANT_ABOVE = 50.0
UNKNOWN_COST = 0.5

#: Kinds of requests (clients name regions as they like) whose candidates' lasting parts are kept:
#: with 1,000 candidates 40 KB each.
KEPT_MAX = 64
_Key = tuple[tuple[str, ...], str | None, bool]

_HEALTH = {NodeHealth.HEALTHY: 2.0, NodeHealth.DEGRADED: 1.0, NodeHealth.UNKNOWN: 0.6}
_HEALTHY = NodeHealth.HEALTHY
_DEGRADED = NodeHealth.DEGRADED
_UNKNOWN = NodeHealth.UNKNOWN


class Formula:
    """The weights of one configuration, ready for a thousand candidates."""

    def __init__(self, weights: Weights, policies: Sequence["Policy"] = ()) -> None:
        self._weights = (
            weights.health, weights.latency, weights.privacy, weights.locality, weights.cost
        )  # fmt: skip
        if not any(self._weights):
            self._weights = (1.0,) * 5  # nothing outweighs anything
        self._slowest_s = weights.latency_max_ms / 1000
        self._unknown_s = min(weights.latency_unknown_ms / 1000, self._slowest_s)
        self._least = weights.least
        self._policies = tuple(policies)
        #: By models, region and whether speed counts: the candidates, and what lasts of theirs.
        self._kept: dict[_Key, tuple[Sequence[Upstream], list[float]]] = {}

    def scores(
        self,
        candidates: Sequence[Upstream],
        medians: Sequence[float | None],
        asked: "Asked",
    ) -> list[float]:
        """In the candidates' order, REFUSED among them. `medians` are their p50s in seconds.

        What `parts` says part by part, unrolled: this runs for every candidate of every request.
        """
        whole = sum(self._weights)
        w_health, w_latency, _, _, w_cost = [weight / whole for weight in self._weights]
        healthy, degraded, unknown = 2.0 * w_health, 1.0 * w_health, 0.6 * w_health
        # A latency of 0 is worth all of its weight; each second takes a part of it.
        per_s = w_latency / self._slowest_s
        slowest, unknown_s, least, now = self._slowest_s, self._unknown_s, self._least, asked.now
        tolerant = asked.needs.cost_tolerance > TOLERANT_ABOVE
        all_unhealthy = all_are_unhealthy(candidates)
        policies = self._policies
        found: list[float] = []
        add = found.append
        lasting = self._lasting(candidates, asked)
        for upstream, points, p50 in zip(candidates, lasting, medians, strict=True):
            node = upstream.node
            health = node.health
            score = points
            if health is _HEALTHY:
                score += healthy
            elif health is _UNKNOWN:
                score += unknown
            elif health is _DEGRADED:
                score += degraded
            elif not all_unhealthy:
                add(REFUSED)
                continue
            if p50 is None:
                score -= per_s * unknown_s
            elif p50 <= slowest:
                score -= per_s * p50
            elif now - node.answered_at >= SLOW_S:
                score -= w_latency
            else:
                add(REFUSED)
                continue
            if tolerant:
                pace = node.tokens_per_s
                if pace is None:
                    score += w_cost * UNKNOWN_COST
                else:
                    score += w_cost * min(pace / TOKENS_PER_S_MAX, 1.0)
            if policies:
                score = self._with_policies(score * whole, whole, upstream, asked)
            add(score if score >= least else REFUSED)
        return found

    def _lasting(self, candidates: Sequence[Upstream], asked: "Asked") -> list[float]:
        """What of a score no answer changes: privacy, locality, a full latency, and the cost
        unless speed counts in its place. Kept for as long as the candidates are the same ones."""
        needs = asked.needs
        tolerant = needs.cost_tolerance > TOLERANT_ABOVE
        key = asked.models, needs.region, tolerant
        kept = self._kept.get(key)
        if kept is not None and kept[0] is candidates:
            return kept[1]
        whole = sum(self._weights)
        _, w_latency, w_privacy, w_locality, w_cost = [w / whole for w in self._weights]
        found = []
        for upstream in candidates:
            points = w_latency + w_privacy + w_locality * _locality(needs.region, upstream.region)
            if not tolerant:
                points += w_cost * _cheapness(upstream.cost)
            found.append(points)
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[key] = candidates, found
        return found

    def _with_policies(
        self, points: float, whole: float, upstream: Upstream, asked: "Asked"
    ) -> float:
        for policy in self._policies:
            verdict = policy(upstream, asked)
            if verdict is None:
                continue
            if isinstance(verdict, str):
                return REFUSED
            points += verdict
            whole += 1.0
        return points / whole

    def parts(
        self,
        upstream: Upstream,
        p50: float | None,
        asked: "Asked",
        *,
        all_unhealthy: bool = False,
    ) -> tuple[dict[str, float], str | None]:
        """One candidate's parts by name, and what refuses it, by a part or a policy, if anything.

        A policy's part has the policy's own name. `all_unhealthy`: being so refuses nobody.
        """
        node, needs = upstream.node, asked.needs
        refused = None
        parts = {"health": _HEALTH.get(node.health, 0.0)}
        if node.health is NodeHealth.UNHEALTHY and not all_unhealthy:
            refused = "unhealthy"
        p50 = self._unknown_s if p50 is None else p50
        parts["latency"] = max(1.0 - p50 / self._slowest_s, 0.0)
        if p50 > self._slowest_s and asked.now - node.answered_at < SLOW_S:
            refused = refused or f"slower than {self._slowest_s:g} s: p50 {p50:.1f} s"
        parts["privacy"] = 1.0
        parts["locality"] = _locality(needs.region, upstream.region)
        if needs.cost_tolerance <= TOLERANT_ABOVE:
            parts["cost"] = _cheapness(upstream.cost)
        elif node.tokens_per_s is None:
            parts["cost"] = UNKNOWN_COST
        else:
            parts["cost"] = min(node.tokens_per_s / TOKENS_PER_S_MAX, 1.0)
        for policy in self._policies:
            verdict = policy(upstream, asked)
            name = getattr(policy, "__name__", "policy")
            if isinstance(verdict, str):
                refused = refused or f"{name}: {verdict}"
            elif verdict is not None:
                parts[name] = verdict
        return parts, refused

    def mean(self, parts: dict[str, float]) -> float:
        weights = (*self._weights, *(1.0 for _ in range(len(parts) - len(self._weights))))
        total = sum(weight * part for weight, part in zip(weights, parts.values(), strict=True))
        return total / sum(weights)


def all_are_unhealthy(candidates: Sequence[Upstream]) -> bool:
    """Then being so refuses none of them: they are still tried when nothing else is left."""
    return all(upstream.node.health is NodeHealth.UNHEALTHY for upstream in candidates)


def _locality(wanted: str | None, there: str | None) -> float:
    if wanted is None or there is None:
        return 0.65
    return 0.8 if there == wanted else 0.5


def _cheapness(cost: float | None) -> float:
    return UNKNOWN_COST if cost is None else 1.0 - cost
