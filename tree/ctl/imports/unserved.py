"""Names that could not be carried over, kept from what would catch them. Pure.

    left out ─┬─ no pattern matches it, there is no default ─▶ nothing: it is answered with 503
              └─ else ─▶ the first [[patterns]], for a provider that is not there yet: 503 as well

A model of another vendor would answer in its place, unsaid, and get a prompt that was not meant for
it. Whoever adds the provider puts its name there, and is done.
"""

import re
from collections.abc import Callable

from ctl.imports.draft import NOWHERE, Draft, escaped

PROVIDER = "not-imported"


def keep(left_out: list[str], draft: Draft, known: Callable[[str], bool]) -> None:
    """`left_out`: names, and others' wildcards (`gemini/*`), of which nothing may be served."""
    taken = {str(one["match"]) for one in draft.patterns}
    caught = {
        name: _match(name)
        for name in left_out
        if name.strip("*") and not known(name) and _match(name) not in taken
        if _is_caught(name, draft)
    }
    if not caught:
        return
    wild = [_nobody(match) for name, match in caught.items() if "*" in name]
    plain = [match for name, match in caught.items() if "*" not in name]
    draft.patterns = [
        *([_nobody("|".join(plain))] if plain else []),
        *sorted([*wild, *draft.patterns], key=lambda one: -len(str(one["match"]))),
    ]
    draft.providers[PROVIDER] = {
        "type": "openai_compatible",
        "base_url": NOWHERE,
        "status": "template",
    }
    names = ", ".join(caught)
    draft.comments["providers", PROVIDER] = "Nobody: keeps names unserved, see the patterns."
    draft.note(
        f"{names}: nobody serves them yet, and what takes every name would have sent them to "
        f"another vendor; [[patterns]] of the provider {PROVIDER} keep them unserved (503) until "
        "they name one that has them"
    )


def wait(resting: dict[str, str], draft: Draft, known: Callable[[str], bool]) -> None:
    """`resting`: names of providers that are there and not active: these serve them, or nobody."""
    caught = [name for name in resting if not known(name) and _is_caught(name, draft)]
    draft.patterns[:0] = [_nobody(_match(name), resting[name]) for name in caught]
    if caught:
        draft.note(
            f"{', '.join(caught)}: kept unserved (503) by [[patterns]] until the provider is "
            "active: what takes every name would have sent them to another one"
        )


def _match(name: str) -> str:
    return "(.*)".join(map(escaped, name.split("*")))


def _is_caught(name: str, draft: Draft) -> bool:
    """By what was not meant for it. A wildcard is tried by an example."""
    example = name.replace("*", "x")
    return "default" in draft.top or any(
        re.fullmatch(str(one["match"]), example, re.DOTALL) for one in draft.patterns
    )


def _nobody(match: str, provider: str = PROVIDER) -> dict[str, object]:
    return {"match": match, "provider": provider, "fallbacks": []}
