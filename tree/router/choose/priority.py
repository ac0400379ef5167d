"""Tiers: the preferred model first, then the lowest `priority`; ties by least requests. Pure.

A later tier is asked where all of an earlier one are out, resting, full or tried. Of a capability's
models the first that an upstream lists counts; for one model, or a provider, all are alike.
"""

from router.choose import least_requests
from router.choose.asked import Asked, Candidates, Forgetful, in_flight
from router.upstream import Upstream


class Priority(Forgetful):
    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        if len(candidates) == 1:
            return candidates[0]
        models = asked.models
        if len(models) > 1:
            ranks = [_rank(upstream, models) for upstream in candidates]
            first = min(ranks)
            candidates = tuple(
                [u for u, rank in zip(candidates, ranks, strict=True) if rank == first]
            )
        lowest = min([upstream.priority for upstream in candidates])
        tier = tuple([u for u in candidates if u.priority == lowest])
        return least_requests.choose(tier, asked.rotation)

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        models = asked.models if len(asked.models) > 1 else ()
        return {
            upstream.name: f"{_model(upstream, models)}priority {upstream.priority}, "
            f"{in_flight(upstream)}"
            for upstream in candidates
        }


def _rank(upstream: Upstream, models: tuple[str, ...]) -> int:
    for rank, model in enumerate(models):
        if model in upstream.models:
            return rank
    return len(models)


def _model(upstream: Upstream, models: tuple[str, ...]) -> str:
    """`model 2 of 3, ` where there is a choice of models."""
    if not models:
        return ""
    rank = _rank(upstream, models)
    return f"model {rank + 1} of {len(models)}, " if rank < len(models) else "none of the models, "
