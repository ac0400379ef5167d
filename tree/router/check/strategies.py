"""Strategies that choose a model have what they choose by, and the others no more than they read.

    complexity_based   levels low, medium, high             thresholds in tokens
    context_based      levels standard, complex, large      threshold in tokens
    quality_based      levels standard, high, and tiers     threshold in characters
    adaptive_weighted  weights, and targets (a capability: models) where no condition holds

Pure.
"""

from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check import words
from router.check.file import File
from router.check.listing import repeats
from router.check.mentions import LEVELS
from router.named import Capability, Levels, Model, WeightWhen

WANTED = {
    "complexity_based": ("low", "medium", "high"),
    "context_based": ("standard", "complex", "large"),
    "quality_based": ("standard", "high"),
}
_COMPLEXITY = ("medium_from_tokens", "high_above_tokens")
#: What else of `levels` each reads. adaptive_weighted has conditions by complexity.
READ = {
    "complexity_based": _COMPLEXITY,
    "context_based": ("large_above_tokens",),
    "quality_based": ("tiers", "high_above_characters"),
    "adaptive_weighted": _COMPLEXITY,
}
THRESHOLDS = (*_COMPLEXITY, "large_above_tokens", "high_above_characters", "tiers")
_NO_LEVELS = Levels()
_ANY = WeightWhen(when="batch", targets={})


def find(file: File) -> Iterator[Problem]:
    for name, model in file.config.models.items():
        yield from _entry(file, ("models", name), name, model)
    for name, capability in file.config.capabilities.items():
        path = ("capabilities", name)
        if not capability.models:
            yield file.error(
                (*path, "models"),
                f'the capability "{name}" names no model',
                effect=f'Every request for "{name}" is answered with 503.',
                fix='models = ["…"]  with the preferred one first',
            )
        yield from _twice(file, (*path, "models"), name, capability.models)
        yield from _entry(file, path, name, capability)


def _twice(file: File, path: Path, name: str, members: tuple[str, ...]) -> Iterator[Problem]:
    for at in repeats(members):
        yield file.error(
            (*path, at),
            f'"{members[at]}" stands twice in the models of "{name}"',
            effect="The order says which is preferred: it cannot be both.",
            fix="take one of the two out",
        )


def _entry(file: File, path: Path, name: str, entry: Model | Capability) -> Iterator[Problem]:
    strategy = entry.strategy
    if strategy in WANTED:
        yield from _missing(file, path, f'"{name}" is {strategy}', strategy, entry.levels)
    if strategy in READ and entry.levels is not None:
        yield from _levels(file, (*path, "levels"), strategy, entry.levels)
    elif entry.levels is not None:
        yield _unread(file, (*path, "levels"), strategy, _meant(entry.levels))
    if strategy == "adaptive_weighted":
        yield from _weights(file, path, name, entry)
    elif entry.weights:
        yield _unread(file, (*path, "weights"), strategy, "adaptive_weighted")


def _unread(file: File, path: Path, strategy: str | None, wanted: str) -> Problem:
    chosen = f'the strategy "{strategy}"' if strategy else "an entry without a strategy"
    return file.warning(
        path,
        f"{path[-1]} are not read by {chosen}",
        effect="No model would be chosen by them.",
        fix=f'strategy = "{wanted}"',
        on_key=True,
    )


def _meant(levels: Levels) -> str:
    """The strategy that reads most of them."""
    said = {one for one in LEVELS if getattr(levels, one) is not None}
    return max(WANTED, key=lambda strategy: len(said & set(WANTED[strategy])))


def _missing(
    file: File, path: Path, who: str, strategy: str, levels: Levels | None
) -> Iterator[Problem]:
    missing = [one for one in WANTED[strategy] if getattr(levels or _NO_LEVELS, one) is None]
    if not missing:
        return
    lines = ", ".join(f'{one} = "…"' for one in missing)
    yield file.error(
        (*path, "strategy" if levels is None else "levels"),
        f"{who} and has no model for {words.listed([words.quoted(one) for one in missing])}",
        effect="A request of that level would go to whatever stands in for it.",
        fix=f"levels = {{ {lines} }}" if levels is None else f"add  {lines}  to its levels",
        on_key=levels is not None,
    )


def _levels(file: File, path: Path, strategy: str, levels: Levels) -> Iterator[Problem]:
    read = (*WANTED.get(strategy, ()), *READ[strategy])
    for key in (*LEVELS, *THRESHOLDS):
        if key not in read and getattr(levels, key) != getattr(_NO_LEVELS, key):
            yield file.warning(
                (*path, key),
                f'"{key}" is not read by {strategy}',
                effect="No model would be chosen by it.",
                fix=f"take it out; read are {words.listed([words.quoted(one) for one in read])}",
                on_key=True,
            )
    medium, high = levels.medium_from_tokens, levels.high_above_tokens
    if "medium_from_tokens" in read and medium > high:
        yield file.error(
            (*path, "medium_from_tokens"),
            f"medium begins at {medium} tokens and high above {high}",
            effect="No request would ever be medium.",
            fix="make medium_from_tokens the smaller of the two",
        )


def _weights(file: File, path: Path, name: str, entry: Model | Capability) -> Iterator[Problem]:
    if not entry.weights:
        yield file.error(
            (*path, "strategy"),
            f'"{name}" is adaptive_weighted and has no weights',
            effect="It would draw by the same shares whatever is asked.",
            fix='weights = [{ when = "batch", targets = { "…" = 1 } }]',
        )
    elif isinstance(entry, Model) and not entry.targets:
        yield file.error(
            (*path, "strategy"),
            f'"{name}" is adaptive_weighted and has no targets',
            effect="They are the shares of what no condition of its weights holds for.",
            fix='targets = { "…" = 1 }',
        )
    for at, weight in enumerate(entry.weights):
        yield from _weight(file, (*path, "weights", at), name, weight)
        if any(_covers(earlier, weight) for earlier in entry.weights[:at]):
            yield file.warning(
                (*path, "weights", at, "when"),
                f'the condition {weight.when} of "{name}" can never be reached',
                effect="An earlier one holds whenever it does, and the first that holds counts.",
                fix="put this one before it, or take it out",
            )


def _weight(file: File, path: Path, name: str, weight: WeightWhen) -> Iterator[Problem]:
    if not weight.targets:
        yield file.error(
            (*path, "targets"),
            f'the weights of "{name}" for {weight.when} name no model',
            effect="Where the condition holds, it would choose among nothing.",
            fix='targets = { "…" = 1 }',
        )
    for key, when in (("saturated_above", "local_saturated"), ("level", "complexity")):
        if when != weight.when and getattr(weight, key) != getattr(_ANY, key):
            yield file.warning(
                (*path, key),
                f'"{key}" is not read by the condition {weight.when}',
                effect="The condition holds whatever it says.",
                fix=f'when = "{when}"',
                on_key=True,
            )


def _covers(earlier: WeightWhen, later: WeightWhen) -> bool:
    if earlier.when != later.when:
        return False
    if later.when == "local_saturated":
        return earlier.saturated_above <= later.saturated_above
    return later.when == "batch" or earlier.level == later.level
