"""A configuration ready to be put in force: whatever can fail about it has been done.

    text ─decode─▶ Config ─check─▶ without what only a restart changes
                                     └─▶ names, token, static services, providers' keys ─▶ Loaded

The same steps at the start and at every reload; they read files, so a reload takes them off the
loop.
"""

import os
from collections.abc import Mapping, Set
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from common.config import ConfigError, Problem, checked_text, has_errors, read_text
from common.errors import RefusalError
from common.wire.registry import Service
from router import access, check, difference, plugins, providers, static, versions
from router.config import Config
from router.hooks import Hooks
from router.names.resolve import Names
from router.providers import Providers

#: Where a file is expected when none was given: for messages.
DEFAULT_FILE = "/etc/creche/router.toml"
STATIC = "static"


class Loaded(Struct, frozen=True, kw_only=True):
    """`config` is in force, `asked` is what the file says: they differ in `waiting`."""

    text: str
    digest: str
    asked: Config
    config: Config
    #: Keys of the file that only a restart brings into force.
    waiting: list[str]
    warnings: list[Problem]
    #: What guards the control paths, and is shown to the registry.
    token: str | None
    names: Names
    hooks: Hooks
    providers: Providers
    #: What the file itself names, by source and name.
    services: Mapping[str, Mapping[str, Service]]

    def serves_as(self, other: "Loaded") -> bool:
        """Whether the two differ in nothing but comments, and when they were read."""
        return self.config == other.config and _timeless(self) == _timeless(other)


def _timeless(loaded: Loaded) -> dict[str, dict[str, Service]]:
    return {
        source: {n: replace(one, timestamp="", last_heartbeat="") for n, one in found.items()}
        for source, found in loaded.services.items()
    }


def at_start(path: Path | None) -> tuple[Loaded, Path | None]:
    """The file that a start is made with, and where it is from now on: folders may change."""
    if path is None:
        return load("", DEFAULT_FILE), None
    file = path.absolute()
    return load(read_text(file), str(file)), file


def load(text: str, file: str, running: Config | None = None) -> Loaded:
    """`text` as the router would run it. Raises ConfigError with all that is wrong, RefusalError.

    `running`: what only a restart changes stays as it is there. None: this is the start.
    """
    found = checked_text(text, Config, check.problems, file)
    asked, problems = found
    if asked is None or has_errors(problems):
        raise ConfigError(problems)
    config = asked if running is None else difference.effective(running, asked)
    # Both must hold: the ports that are open now, and those of the next start.
    access.settle(asked, file)
    token = access.settle(config, file)
    settled = providers.settle(config, os.environ, file)
    fixed = _static(config)
    _refuse_twice(fixed.keys() & settled.services.keys())
    return Loaded(
        text=text,
        digest=versions.digest(text),
        asked=asked,
        config=config,
        waiting=[] if running is None else difference.waiting(running, asked),
        warnings=problems,
        names=Names(config),
        hooks=plugins.load(),
        token=token,
        providers=settled,
        services={STATIC: fixed, providers.SOURCE: settled.services},
    )


def _refuse_twice(names: Set[str]) -> None:
    for name in sorted(names):
        raise RefusalError(
            f'a static service and a provider are both named "{name}".\n  Give one another name.'
        )


def _static(config: Config) -> dict[str, Service]:
    items = [
        static.Item(name=s.name, host=s.host, port=s.port, weight=s.weight, metadata=s.metadata)
        for s in config.static_services
    ]
    if config.static_file:
        items += static.load(config.static_file)
    return static.services(items)
