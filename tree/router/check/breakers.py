"""[breaker.services]: numbers for services that are there. Those of a registry are not known here,
so a name is doubted only where there is none, or where it is much like one of the file. Pure.
"""

from collections.abc import Iterator

from common.config import Problem
from router.check import near, words
from router.check.file import File
from router.named import BreakerOf

_NONE = BreakerOf()


def find(file: File) -> Iterator[Problem]:
    config = file.config
    known = [*config.providers, *(one.name for one in config.static_services)]
    for name in config.breaker.services:
        path = ("breaker", "services", name)
        provider = config.providers.get(name)
        if provider is not None and provider.breaker != _NONE:
            yield file.warning(
                path,
                f'"{name}" has a breaker here and in {file.table("providers", name)}',
                effect="Only one of the two can count.",
                fix=f"keep  {words.table('providers', name, 'breaker')}",
                on_key=True,
            )
        if name in known:
            continue
        meant = near.closest(name, known)
        if meant is not None or not (config.registries or config.static_file):
            yield file.warning(
                path,
                f'[breaker.services] names "{name}", which this file does not have',
                effect="Its numbers hold for nothing.",
                fix=f'did you mean "{meant}"?' if meant else "take it out, or name a service",
                on_key=True,
            )
