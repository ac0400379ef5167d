"""What a new file changes for a babysitter that runs. Pure.

named no more ──▶ stopped        named anew ──▶ started
its process would be another (command line, folder, environment, GPUs, address) ──▶ restarted
any other key ──▶ holds from now on
who the babysitter is, where it listens, whom it tells ──▶ only a restart of the babysitter
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from babysitter.config import Config
from babysitter.place import Place
from babysitter.settings import Settings, own_address

#: Keys that are read once, at the start.
AT_START = ("name", "listen", "registries", "advertise", "token_file", "auth", "state_dir", "host")


class Wanted(Struct, frozen=True):
    """One engine as a file wants it."""

    settings: Settings
    place: Place
    argv: tuple[str, ...]


class Difference(Struct, frozen=True, kw_only=True):
    """Names of engines, in the file's order; `stopped` in that of the file before."""

    started: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def between(before: Mapping[str, Wanted], after: Mapping[str, Wanted]) -> Difference:
    both = [name for name in after if name in before]
    renewed = tuple(name for name in both if is_other(before[name], after[name]))
    return Difference(
        started=tuple(name for name in after if name not in before),
        stopped=tuple(name for name in before if name not in after),
        restarted=renewed,
        changed=tuple(
            name
            for name in both
            if name not in renewed and before[name].settings != after[name].settings
        ),
    )


def is_other(one: Wanted, other: Wanted) -> bool:
    """Whether the process of `other` would be another than that of `one`."""
    return (
        one.argv != other.argv
        or one.place.digest != other.place.digest
        or one.settings.kind != other.settings.kind
        or address_of(one.settings) != address_of(other.settings)
    )


def address_of(settings: Settings) -> tuple[str, int]:
    return settings.given.host, settings.given.port


def waiting(before: Config, after: Config, engine_host: str) -> list[str]:
    """Keys whose new values only a restart of the babysitter brings into force."""
    found = [key for key in AT_START if getattr(before, key) != getattr(after, key)]
    moved = own_address(before, engine_host) != own_address(after, engine_host)
    if moved and "listen" not in found:  # it goes by the first engine's port
        found.append("listen")
    return found


def taken(after: Sequence[Settings], own_port: int) -> Settings | None:
    """An engine that wants the port that the babysitter itself listens on."""
    return next((one for one in after if one.given.port == own_port), None)
