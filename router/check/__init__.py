"""What must agree across the keys of router.toml, before it runs. Pure.

    problems   faults of the file, in its order: what, where, what would happen, one fix
    live       the file against the fleet as it is now: warnings
    summary    what there is, where nothing is wrong

Each module has one theme and a `find(file)`. A fault is told once, at its cause: what only follows
from it is left out.
"""

from collections.abc import Callable, Iterator

from common.config import Document, Problem
from router.check import (
    addresses,
    breakers,
    cache,
    chains,
    headers,
    limits,
    names,
    numbers,
    patterns,
    providers,
    references,
    rules,
    secrets,
    shared,
    sources,
    strategies,
    tls,
    usage,
    virtual,
)
from router.check.file import File
from router.check.fleet import compare as live
from router.check.listing import Listing
from router.check.mentions import Kind, rule_owner
from router.check.mentions import mentions as every_mention
from router.check.overview import summary
from router.config import Config

__all__ = ["Kind", "Listing", "every_mention", "live", "problems", "rule_owner", "summary"]

THEMES: tuple[Callable[[File], Iterator[Problem]], ...] = (
    addresses.find,
    shared.find,
    sources.find,
    providers.find,
    secrets.find,
    names.find,
    references.find,
    chains.find,
    virtual.find,
    strategies.find,
    patterns.find,
    rules.find,
    headers.find,
    limits.find,
    numbers.find,
    cache.find,
    breakers.find,
    tls.find,
    usage.find,
)


def problems(config: Config, document: Document) -> list[Problem]:
    """Every fault and warning across fields, in the file's order."""
    file = File(config, document)
    found = [one for find in THEMES for one in find(file)]
    return sorted(found, key=lambda one: (one.line, one.column))
