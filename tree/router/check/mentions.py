"""Every place of the file that names a model, and what follows if nobody lists it. Pure."""

from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct

from common.positions import Path
from router.check import words
from router.config import Config
from router.named import Capability, Levels, Model, Pattern, Rule

LEVELS = ("low", "medium", "high", "standard", "complex", "large")


class Kind(StrEnum):
    DEFAULT = "default"
    CHAIN = "chain"
    TARGET = "target"
    ALIAS = "alias"
    MEMBER = "member"
    LEVEL = "level"
    WEIGHT = "weight"
    RULE = "rule"


class Mention(Struct, frozen=True, kw_only=True):
    """`says` reads on with the model's name. `beside`: all that the same list names."""

    path: Path
    name: str
    kind: Kind
    says: str
    owner: str
    #: What is asked before a chain is.
    first: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    on_key: bool = False

    def effect(self, alone: bool) -> str:
        """What follows if nobody lists it; `alone`: nor anything beside it."""
        match self.kind:
            case Kind.CHAIN if not alone:
                return f"{words.upper(self.owner)} would fall back on the rest of the chain alone."
            case Kind.CHAIN if not self.first:
                return "A model that is down is answered with 503 instead of falling back."
            case Kind.CHAIN:
                are = "is" if len(self.first) == 1 else "are"
                down = f"If {words.listed(self.first)} {are} down"
                return f"{down}, {self.owner} is answered with 503 instead of falling back."
            case Kind.DEFAULT:
                return "A name that resolves to nothing is answered with 503."
            case Kind.TARGET | Kind.ALIAS | Kind.MEMBER if alone:
                return f"Every request for {self.owner} falls back, or is answered with 503."
            case Kind.TARGET | Kind.MEMBER:
                return "Its share of the requests would always go to the others."
            case Kind.LEVEL | Kind.WEIGHT:
                return "What it would get always goes to the others."
            case _:
                return "What the rule catches is answered with 503, or falls back."


def mentions(config: Config) -> Iterator[Mention]:
    if config.default is not None:
        yield Mention(
            path=("default",), name=config.default, kind=Kind.DEFAULT,
            says="default is", owner="default",
        )  # fmt: skip
    yield from _chain(("default_fallbacks",), config.default_fallbacks, "every model", ())
    for name, model in config.models.items():
        yield from _of_model(("models", name), words.quoted(name), name, model)
    for name, capability in config.capabilities.items():
        yield from _of_capability(("capabilities", name), words.quoted(name), capability)
    for at, pattern in enumerate(config.patterns):
        path = ("patterns", at, "fallbacks")
        first = (pattern.provider,)
        of = pattern_owner(pattern)
        yield from _chain(path, pattern.fallbacks, of, first, f"what {of} matches")
    for at, rule in enumerate(config.rules):
        yield from _of_rule(at, rule)


def pattern_owner(pattern: Pattern) -> str:
    return f"the pattern {words.quoted(pattern.match)}"


def rule_owner(at: int, rule: Rule) -> str:
    return f"rule {words.quoted(rule.name) if rule.name else at + 1}"


def _of_model(path: Path, owner: str, name: str, model: Model) -> Iterator[Mention]:
    targets = tuple(model.targets)
    for target in targets:
        yield Mention(
            path=(*path, "targets", target), name=target, kind=Kind.TARGET, on_key=True,
            says=f"{owner} has the target", owner=owner, beside=targets,
        )  # fmt: skip
    if model.backend_model is not None and model.provider is None:
        yield Mention(
            path=(*path, "backend_model"), name=model.backend_model, kind=Kind.ALIAS,
            says=f"{owner} stands for", owner=owner,
        )  # fmt: skip
    yield from _choosing(path, owner, model)
    first = targets or (model.backend_model or model.provider or name,)
    yield from _chain((*path, "fallbacks"), model.fallbacks, owner, first)


def _of_capability(path: Path, owner: str, capability: Capability) -> Iterator[Mention]:
    for at, member in enumerate(capability.models):
        yield Mention(
            path=(*path, "models", at), name=member, kind=Kind.MEMBER,
            says=f"the capability {owner} names", owner=owner, beside=capability.models,
        )  # fmt: skip
    yield from _choosing(path, owner, capability)
    yield from _chain((*path, "fallbacks"), capability.fallbacks, owner, capability.models)


def _of_rule(at: int, rule: Rule) -> Iterator[Mention]:
    owner = rule_owner(at, rule)
    if rule.model is not None and rule.provider is None:
        yield Mention(
            path=("rules", at, "model"), name=rule.model, kind=Kind.RULE,
            says=f"{owner} sends to", owner=owner,
        )  # fmt: skip
    first = (rule.model or rule.provider or owner,)
    path = ("rules", at, "fallbacks")
    yield from _chain(path, rule.fallbacks, owner, first, f"what {owner} catches")


def _chain(
    path: Path,
    members: tuple[str, ...] | None,
    of: str,
    first: tuple[str, ...],
    served: str | None = None,
) -> Iterator[Mention]:
    """`of`: whose chain it is; `served`: what goes that way, where that is something else."""
    says = f"the fallbacks of {of} name" if len(path) > 1 else "default_fallbacks names"
    for at, member in enumerate(members or ()):
        yield Mention(
            path=(*path, at), name=member, kind=Kind.CHAIN, says=says,
            owner=served or of, first=first, beside=members or (),
        )  # fmt: skip


def _choosing(path: Path, owner: str, entry: Model | Capability) -> Iterator[Mention]:
    for where, level, name in levels(entry.levels):
        yield Mention(
            path=(*path, "levels", *where), name=name, kind=Kind.LEVEL,
            says=f'the level "{level}" of {owner} is', owner=owner,
        )  # fmt: skip
    for at, weight in enumerate(entry.weights):
        for target in weight.targets:
            yield Mention(
                path=(*path, "weights", at, "targets", target), name=target, on_key=True,
                kind=Kind.WEIGHT, says=f"the weights of {owner} name", owner=owner,
            )  # fmt: skip


def levels(entry: Levels | None) -> Iterator[tuple[Path, str, str]]:
    """Where, level and model of each level that names one."""
    if entry is None:
        return
    for level in LEVELS:
        name = getattr(entry, level)
        if name is not None:
            yield (level,), level, name
    for tier, name in entry.tiers.items():
        yield ("tiers", tier), tier, name
