"""Which of a virtual model's models should have this request: one small module per way. Pure.

    choosing.order(asked, dice) -> Choice(models, why, place)      the others follow the first

Which upstream of that model then has it is `router.choose`'s.
"""

from collections.abc import Mapping, Sequence

from router.named import Levels, WeightWhen
from router.names.choosing.adaptive_weighted import AdaptiveWeighted
from router.names.choosing.choice import Choice, Choosing, Place
from router.names.choosing.complexity_based import ComplexityBased
from router.names.choosing.context_based import ContextBased
from router.names.choosing.in_order import InOrder
from router.names.choosing.leveled import Leveled
from router.names.choosing.quality_based import QualityBased
from router.names.choosing.weighted import Weighted

__all__ = ["Choice", "Choosing", "InOrder", "Weighted", "make"]

LEVELED: dict[str, type[Leveled]] = {
    "complexity_based": ComplexityBased,
    "context_based": ContextBased,
    "quality_based": QualityBased,
}


def make(
    strategy: str | None,
    targets: Mapping[str, float],
    levels: Levels | None,
    weights: Sequence[WeightWhen],
    *,
    local: tuple[str, ...] = (),
    place: Place = ("targets",),
) -> Choosing:
    """What `strategy` does over `targets`; by their weights where it chooses no model."""
    if strategy in LEVELED:
        return LEVELED[strategy](levels or Levels(), targets)
    if strategy == "adaptive_weighted":
        return AdaptiveWeighted(targets, weights, levels or Levels(), local=local, place=place)
    return Weighted(targets)
