"""[[rules]]: each has a condition that can hold, one place to send to, and can be reached. Pure."""

from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check import words
from router.check.file import File
from router.check.matcher import Matcher
from router.check.mentions import rule_owner
from router.check.patterns import MATCH_ALL, uncompiled
from router.named import Rule, When
from router.names import size

RANGES = (
    ("batch_min", "batch_max", "inputs"),
    ("prompt_tokens_min", "prompt_tokens_max", "tokens"),
)
_NOTHING = When()


def find(file: File) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for at, rule in enumerate(file.config.rules):
        yield from _target(file, at, rule)
        yield from _when(file, at, rule)
        yield from _reached(file, at, rule)
        if rule.name is not None and rule.name in names:
            line = file.line(("rules", names[rule.name]))
            yield file.warning(
                ("rules", at, "name"),
                f'two rules are named "{rule.name}" (the other at line {line})',
                effect="/explain could not tell which of them fired.",
                fix="give one another name",
            )
        names.setdefault(rule.name or "", at)


def _target(file: File, at: int, rule: Rule) -> Iterator[Problem]:
    owner = rule_owner(at, rule)
    if rule.model is None and rule.provider is None:
        yield file.error(
            ("rules", at),
            f"{owner} sends nowhere",
            effect="What it catches would have no model and no provider.",
            fix='add  model = "…"  or  provider = "…"',
        )
    elif rule.model is not None and rule.provider is not None:
        yield file.error(
            ("rules", at, "provider"),
            f"{owner} has a model and a provider",
            effect="A rule sends to a model or to a provider: which is meant cannot be told.",
            fix="keep one; a model at a certain provider gets a [models] entry that names both",
            on_key=True,
        )


def _when(file: File, at: int, rule: Rule) -> Iterator[Problem]:
    owner, when, path = rule_owner(at, rule), rule.when, ("rules", at, "when")
    if when == _NOTHING:
        yield file.error(
            path,
            f"{owner} has no condition",
            effect="It would catch every request, and no name would mean anything.",
            fix="add a condition, like  when = { stream = true }",
        )
    if when.model is not None and (why := Matcher(when.model).why) is not None:
        yield uncompiled(file, (*path, "model"), when.model, why)
    for least, most, what in RANGES:
        low, high = getattr(when, least), getattr(when, most)
        if low is not None and high is not None and low > high:
            yield file.error(
                (*path, least),
                f"{owner} wants at least {low} and at most {high} {what}",
                effect="No request can have both: the rule would never hold.",
                fix=f"{least} = {high}, {most} = {low}",
            )
    if when.model_size is not None:
        yield from _size(file, (*path, "model_size"), when.model_size)


def _size(file: File, path: Path, text: str) -> Iterator[Problem]:
    try:
        size.bounds(text)
    except ValueError as why:
        yield file.error(
            path, str(why), effect="The rule would never hold.", fix='write it like  "8B-13B"'
        )


def _reached(file: File, at: int, rule: Rule) -> Iterator[Problem]:
    if rule.when == _NOTHING:
        return
    for earlier, other in enumerate(file.config.rules[:at]):
        if other.when != _NOTHING and covers(other.when, rule.when):
            line = file.line(("rules", earlier))
            always = "always holds" if covers(other.when, _NOTHING) else "holds whenever it does"
            yield file.warning(
                ("rules", at, "when"),
                f"{rule_owner(at, rule)} can never be reached",
                effect=f"{words.upper(rule_owner(earlier, other))} (line {line}) "
                f"comes first and {always}.",
                fix="put this one before it, or take it out",
                on_key=True,
            )
            return


def covers(earlier: When, later: When) -> bool:
    """Whether every request that `later` holds for is one that `earlier` holds for."""
    return (
        (earlier.model in {None, later.model} or earlier.model in MATCH_ALL)
        and earlier.header.items() <= later.header.items()
        and earlier.stream in {None, later.stream}
        and earlier.model_size in {None, later.model_size}
        and (earlier.batch_min or 1) <= (later.batch_min or 1)
        and _most(later.batch_max) <= _most(earlier.batch_max)
        and (earlier.prompt_tokens_min or 0) <= (later.prompt_tokens_min or 0)
        and _most(later.prompt_tokens_max) <= _most(earlier.prompt_tokens_max)
    )


def _most(bound: int | None) -> float:
    return float("inf") if bound is None else bound
