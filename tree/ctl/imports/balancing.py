"""load_balancing: one name on several providers, by weights. Pure.

    one model name on all of them       they list it, and the strategy chooses among them; where
                                        weights decide, NAME@PROVIDER with its share in `targets`
    a name that nobody lists            each serves its preferred_model, else the first it lists
    adaptive_weighted                   the weights of what has no condition, then `weights` by
                                        condition: batch, local_saturated, complexity
    quality_based                       the first is standard, the one with a condition high

Weights must be at least two and sum to 1 ± 0.01; others are told, and taken as they are.
"""

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ctl.imports.table import Table

if TYPE_CHECKING:
    from ctl.imports.mappings import Mappings

SUM_TOLERANCE = 0.01
#: Where shares decide: they are drawn.
BY_WEIGHT = frozenset({"round_robin", "weighted_random", "random", "load_balance", None})
_LEVEL = re.compile(r"complexity\s*==\s*['\"]?(low|medium|high)")


class Share(Struct, frozen=True, kw_only=True):
    provider: str
    model: str
    weight: float
    condition: str
    path: str


def balance(name: str, table: Table, of: "Mappings") -> None:
    draft = of.draft
    strategy = of.strategy(table, "strategy")
    shares = [one for row in table.rows("providers") if (one := _share(name, row, of)) is not None]
    parameters = table.table("parameters")
    saturated = parameters.number("saturation_threshold")
    parameters.take("complexity_detection")  # by the prompt's length, as ours
    parameters.rest()
    description = table.peek("description")
    table.rest(quiet=("description", "notes"))
    _weigh(table, shares, of)
    if not shares:
        draft.lose(table.path, "none of its providers is there and active")
        return
    if description:
        draft.comments["models", name] = str(description)
    entry = draft.models.get(name, {})
    for key in ("provider", "backend_model"):
        entry.pop(key, None)
    draft.models[name] = entry
    if strategy == "adaptive_weighted":
        entry.update(_adaptive(name, shares, saturated, of))
    elif strategy == "quality_based":
        entry.update(_quality(name, table, shares, of))
    elif strategy in BY_WEIGHT:
        entry["targets"] = _targets(name, shares, of)
    else:
        _listed(name, shares, strategy, table, of)


def _share(name: str, row: Table, of: "Mappings") -> Share | None:
    provider = of.provider(row)
    weight = row.number("weight")
    model = row.text("preferred_model") or row.text("model")
    condition = row.text("condition") or ""
    row.rest(quiet=("description", "notes"))
    if provider is None:
        return None
    if provider not in of.known.active:
        of.draft.lose(row.path, f"{provider} is not active")
        return None
    lists = of.known.lists[provider]
    if model is None and lists and not of.known.listing(name):
        backend = of.draft.models.get(name, {}).get("backend_model")
        model = str(backend) if backend in lists else lists[0]
        if len(lists) > 1:
            of.draft.lose(
                row.path,
                f'which of {provider}\'s models serves "{name}" is not said: {model}, its first',
            )
    return Share(
        provider=provider,
        model=model or name,
        weight=1 if weight is None else weight,
        condition=condition,
        path=row.path,
    )


def _weigh(table: Table, shares: list[Share], of: "Mappings") -> None:
    total = sum(one.weight for one in shares)
    if len(shares) < 2:
        of.draft.lose(table.at("providers"), "weights want at least two providers")
    elif abs(total - 1) > SUM_TOLERANCE:
        of.draft.lose(
            table.at("providers"),
            f"the weights sum to {round(total, 4):g}, not to 1: they are taken as shares of that",
        )


def _own(name: str, share: Share, of: "Mappings") -> str:
    """A name for this share alone: the model at that provider."""
    if share.model != name and of.known.listing(share.model) == [share.provider]:
        return share.model
    own = f"{share.model}@{share.provider}"
    entry = of.draft.model(own)
    entry["provider"] = share.provider
    entry["backend_model"] = share.model
    return own


def _targets(name: str, shares: list[Share], of: "Mappings") -> dict[str, float]:
    found: dict[str, float] = {}
    for one in shares:
        if one.condition:
            of.draft.lose(
                f"{one.path}.condition", "only adaptive_weighted and quality_based have any"
            )
        own = _own(name, one, of)
        found[own] = found.get(own, 0) + one.weight
    return found


def _listed(
    name: str, shares: list[Share], strategy: str | None, table: Table, of: "Mappings"
) -> None:
    """The strategy chooses among the providers: all of them list one name."""
    draft = of.draft
    models = {one.model for one in shares}
    if len(models) > 1:
        draft.lose(
            table.at("strategy"),
            f"{strategy} among other models of each provider; they are drawn by weight",
        )
        draft.models[name]["targets"] = _targets(name, shares, of)
        return
    (model,) = models
    for one in shares:
        provider = draft.providers[one.provider]
        listed = provider.setdefault("models", [])
        if model not in listed:
            listed.append(model)
            of.known.lists[one.provider] = listed
    entry = draft.models[name]
    if model == name:
        entry["strategy"] = strategy
    else:
        entry["backend_model"] = model
        draft.model(model)["strategy"] = strategy
    if len({one.weight for one in shares}) > 1:
        draft.lose(table.at("providers"), f"weights: {strategy} goes by what is measured")


def _adaptive(
    name: str, shares: list[Share], saturated: float | None, of: "Mappings"
) -> dict[str, Any]:
    targets: dict[str, float] = {}
    weights: list[dict[str, Any]] = []
    for one in shares:
        own = _own(name, one, of)
        targets[own] = targets.get(own, 0) + one.weight
        for condition in _conditions(one, of):
            if condition["when"] == "local_saturated" and saturated is not None:
                condition["saturated_above"] = saturated
            if not any(_same(condition, known) for known in weights):
                weights.append({**condition, "targets": {own: 1}})
    if not weights:
        of.draft.lose(f"{shares[0].path}.condition", "no condition could be read: drawn by weight")
        return {"targets": targets}
    return {"strategy": "adaptive_weighted", "targets": targets, "weights": weights}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("when", "level"))


def _conditions(share: Share, of: "Mappings") -> list[dict[str, Any]]:
    """`local_saturated OR complexity == 'high'`: one of ours for each part that is one."""
    found: list[dict[str, Any]] = []
    for part in re.split(r"\s+(?:OR|or|\|\|)\s+", share.condition) if share.condition else []:
        if level := _LEVEL.search(part):
            found.append({"when": "complexity", "level": level[1]})
        elif "saturated" in part:
            found.append({"when": "local_saturated"})
        elif "batch" in part:
            found.append({"when": "batch"})
        else:
            of.draft.lose(f"{share.path}.condition", f"nothing like  {part}  can be a condition")
    return found


def _quality(name: str, table: Table, shares: list[Share], of: "Mappings") -> dict[str, Any]:
    plain = next((one for one in shares if not one.condition), shares[0])
    high = next((one for one in shares if one.condition), None)
    targets = _targets(
        name,
        [
            Share(
                provider=one.provider,
                model=one.model,
                weight=one.weight,
                condition="",
                path=one.path,
            )
            for one in shares
        ],
        of,
    )
    if high is None:
        of.draft.lose(table.at("strategy"), "no provider has a condition: drawn by weight")
        return {"targets": targets}
    levels: dict[str, Any] = {"standard": _own(name, plain, of), "high": _own(name, high, of)}
    if length := re.search(r"length\s*>\s*(\d+)", high.condition):
        levels["high_above_characters"] = int(length[1])
    return {"strategy": "quality_based", "targets": targets, "levels": levels}
