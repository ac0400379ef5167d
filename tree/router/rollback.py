"""Whether a reload must be undone: what the old file would serve, and the new one does not. Pure.

Both files are held against the same fleet, so what happens to engines can never be the reason:

    the new file serves nothing at all, the old one would serve something  ─▶ undo
    a name that both files still name, served under the old one alone      ─▶ undo
    anything else ─▶ the new file stays: a name that was taken out was meant to be
"""

from collections.abc import Iterable

from msgspec import Struct

from router.config import Config

#: Names told in a reason; a fleet has thousands.
_TOLD_MAX = 5


class Side(Struct, frozen=True):
    """A configuration on the present fleet: names its file has, and names it could serve now."""

    named: frozenset[str]
    served: frozenset[str]


def reason(old: Side, new: Side) -> str | None:
    """Why the old file must come back, in words; None: the new one stays."""
    if not new.served:
        if not old.served:
            return None
        return (
            f"nothing can be served with the new file; the old one would serve {_told(old.served)}"
        )
    lost = (old.named & new.named & old.served) - new.served
    if not lost:
        return None
    return f"{_told(lost)} cannot be served with the new file and could with the old one"


def named(config: Config) -> frozenset[str]:
    """Models that a file says clients, or chains, will ask for."""
    chains = [config.default_fallbacks]
    for entries in (config.models.values(), config.capabilities.values(), config.patterns):
        chains += [one.fallbacks for one in entries if one.fallbacks]
    chains += [rule.fallbacks for rule in config.rules if rule.fallbacks]
    found = {*config.models, *config.capabilities, *config.expect}
    if config.default is not None:
        found.add(config.default)
    return frozenset(found.union(*chains))


def _told(names: Iterable[str]) -> str:
    ordered = sorted(names)
    told = ", ".join(f'"{name}"' for name in ordered[:_TOLD_MAX])
    more = len(ordered) - _TOLD_MAX
    return f"{told} and {more} more" if more > 0 else told
