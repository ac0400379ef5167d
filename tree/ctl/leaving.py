"""Whom a drain or a restart means, and which models it would leave without an engine. Pure.

coder@gpu-07   that service        gpu-07   every service of that host
coder          the one engine of that name
"""

import difflib
from collections.abc import Collection, Iterable

from msgspec import Struct

from common.wire.registry import TYPE_BABYSITTER, TYPE_OPENAI, Service
from common.wire.router import RouterService
from ctl.errors import CtlError, Exit
from ctl.fleet import Fleet
from ctl.views import EngineView, engine_views


class Meant(Struct, frozen=True, kw_only=True):
    """`services` have a record, which can bear a mark; `unregistered` engines have none."""

    name: str
    services: tuple[str, ...]
    unregistered: tuple[str, ...] = ()


def records(fleet: Fleet) -> list[Service]:
    """The registry's records of engines. Raises CtlError where no registry answers."""
    if fleet.registry is None or fleet.registry_url is None:
        silent = fleet.registry_silent
        raise CtlError(
            f"the registry does not answer at {silent.url}"
            if silent
            else "the router follows no registry",
            silent.why if silent else "drain marks are kept there",
            "A drain mark is the registry's: it must run" if silent else "",
        )
    every = fleet.registry.services
    return [one for one in every if one.metadata.get("type", TYPE_OPENAI) != TYPE_BABYSITTER]


def meant(fleet: Fleet, name: str) -> Meant:
    """Raises CtlError for a name that means none, or several."""
    known = records(fleet)
    names = {one.name for one in known}
    if name in names:
        return Meant(name=name, services=(name,))
    views = engine_views(fleet)
    here = sorted(
        one.name
        for one in known
        if one.name.endswith(f"@{name}") or name in (one.hostname, one.host)
    )
    others = sorted(
        one.service
        for one in views
        if name in (one.host, one.service) and one.service not in names and _has_babysitter(one)
    )
    if here or others:
        return Meant(name=name, services=tuple(here), unregistered=tuple(others))
    short = sorted(one for one in names if one.partition("@")[0] == name)
    if len(short) == 1:
        return Meant(name=name, services=(short[0],))
    if short:
        raise CtlError(
            f"{name} runs on {len(short)} hosts",
            f"name one of:  {'  '.join(short)}",
            code=Exit.USAGE,
        )
    raise _nobody(fleet, name, views, names)


def _has_babysitter(view: EngineView) -> bool:
    return view.told_by != "router"


def _nobody(fleet: Fleet, name: str, views: list[EngineView], names: set[str]) -> CtlError:
    if any(one.name == name for one in fleet.services.services):
        return CtlError(
            f"{name} has no record in the registry",
            "it stands in the router's own file",
            f"Take it out there:  creche provider disable {name}   or its static_services entry",
        )
    serving = sorted(one.service for one in views if name in one.models)
    if serving:
        why = f"it is a model; these engines serve it:  {'  '.join(serving[:8])}"
    else:
        hosts = {one.host for one in views}
        near = difflib.get_close_matches(name, sorted(names | hosts), n=3, cutoff=0.5)
        why = f"did you mean  {'  '.join(near)}?" if near else ""
    return CtlError(f"no service and no host is called {name}", why, "All:  creche engines")


def serves(one: RouterService) -> bool:
    """Whether the router may send it a request now."""
    out = one.set_aside or one.breaker == "open"
    return one.healthy and not one.draining and not out


def served(services: Iterable[RouterService], leaving: Collection[str]) -> set[str]:
    """The models that `leaving` serve now."""
    return {
        model for one in services if one.name in leaving and serves(one) for model in one.models
    }


def stranded(
    services: Iterable[RouterService], leaving: Collection[str], models: Collection[str]
) -> list[str]:
    """Those of `models` that nobody serves but `leaving`."""
    rest = {
        model for one in services if one.name not in leaving and serves(one) for model in one.models
    }
    return sorted(set(models) - rest)


def others_ready(services: Iterable[RouterService], service: str, model: str) -> int:
    """How many besides `service` serve `model` now."""
    return sum(one.name != service and serves(one) and model in one.models for one in services)
