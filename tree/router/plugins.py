"""Finds the hooks that are installed beside the router (docs/hooks.md), at start and at reload.

A package names its functions as entry points, in the groups of router.hooks.GROUPS. One that cannot
be used is said loudly and left out: an operator's typing error stops no router.
"""

import importlib
import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points

from common import logs
from router.hooks import (
    AFTER_RESPONSE,
    BEFORE_ROUTE,
    GROUPS,
    NONE,
    ON_ERROR,
    POLICIES,
    Hook,
    Hooks,
    Report,
)

#: Of one group. Each request calls them all.
HOOKS_MAX = 16
#: Parts of the score (router.score): a policy of that name would stand in the place of one.
_TAKEN = {POLICIES: frozenset({"health", "latency", "privacy", "locality", "cost"})}

_log = logs.get("hooks")


def load() -> Hooks:
    """Imports others' code: seconds, if that is what it takes. Raises nothing."""
    importlib.invalidate_caches()  # a package may have come since
    try:
        found = {group: tuple(entry_points(group=group)) for group in GROUPS}
    except Exception as error:  # somebody's metadata is broken
        _log.error("hooks not loaded", why=f"{type(error).__name__}: {error}")
        return NONE
    if not any(found.values()):
        return NONE
    hooks = Hooks(
        policies=_hooks(POLICIES, found[POLICIES]),
        before_route=_hooks(BEFORE_ROUTE, found[BEFORE_ROUTE]),
        after_response=_hooks(AFTER_RESPONSE, found[AFTER_RESPONSE]),
        on_error=_hooks(ON_ERROR, found[ON_ERROR]),
    )
    _log.info("hooks loaded", **_by_short_name(hooks))
    return hooks


def _by_short_name(hooks: Hooks) -> dict[str, list[str]]:
    return {group.partition(".")[2]: names for group, names in hooks.names().items()}


def _hooks(group: str, points: Iterable[EntryPoint]) -> tuple[Hook, ...]:
    return tuple(
        Hook(group, point.name, function, time.monotonic, _report)
        for point, function in _usable(group, sorted(points, key=_order))
    )


def _order(point: EntryPoint) -> tuple[str, str]:
    return point.name, point.value


def _usable(
    group: str, points: Iterable[EntryPoint]
) -> Iterator[tuple[EntryPoint, Callable[..., object]]]:
    seen: set[str] = set()
    for point in points:
        try:
            if point.name in seen:
                raise ValueError("another hook of this group has its name")
            if point.name in _TAKEN.get(group, ()):
                raise ValueError("the score has a part of this name")
            if len(seen) >= HOOKS_MAX:
                raise ValueError(f"at most {HOOKS_MAX} hooks of a group are called")
            function = _checked(point.load())
        except (Exception, SystemExit) as error:
            why = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            _log.error("hook not loaded", group=group, hook=point.name, value=point.value, why=why)
            continue
        seen.add(point.name)
        yield point, function


def _checked(function: object) -> Callable[..., object]:
    if not callable(function):
        raise ValueError("is no function")
    if inspect.iscoroutinefunction(function):
        raise ValueError("is async: a hook is called between two steps of a request, not awaited")
    return function


def _report(report: Report) -> None:
    # `unsaid`: since the last such line of this hook.
    _log.warning(
        f"hook {_WORDS[report.what]}",
        group=report.group,
        hook=report.hook,
        why=report.why,
        unsaid=report.unsaid,
    )


_WORDS = {"raised": "raised", "slow": "is slow", "nonsense": "returned nonsense"}
