"""A LiteLLM proxy's config.yaml as a router.toml. Pure.

    a deployment alone in its group    a provider; [models.GROUP] pins it where names differ
    several, one name upstream         providers that all list it; the strategy chooses among them
    several, other names upstream      [models.GROUP] targets by weight
    model_group_alias                  [models.ALIAS] backend_model, with its group's chain
    fallbacks                          of the group; "*" and default_fallbacks: default_fallbacks

What could not be carried over is kept from the catch-alls: it would go to another vendor unsaid.
A group of several whose upstream names mean something else elsewhere gets names of its own,
GROUP@PROVIDER, so that nothing is mixed.
"""

from collections.abc import Callable

from ctl.errors import CtlError, Exit
from ctl.imports import settings, unserved
from ctl.imports.chains import Chains, Link
from ctl.imports.deployments import TIMEOUTS, Deployment, Deployments
from ctl.imports.draft import Draft
from ctl.imports.reading import Yaml
from ctl.imports.table import Table
from router.config import Timeouts

WHY = {
    "callback_settings": "the router has its own log, metrics and traces",
    "guardrails": "bodies are not looked into; a hook may refuse a request",
    "mcp_servers": "tools are no business of the router",
    "include": "import the other file as well",
    "files_settings": "files go where the request's model goes",
    "finetune_settings": "fine-tuning goes where the request's model goes",
    "assistant_settings": "assistants go where the request's model goes",
}


def convert(files: list[Yaml]) -> Draft:
    """Raises CtlError (usage) for more than one file, and for one that is none of LiteLLM's."""
    if len(files) != 1:
        raise CtlError("one config.yaml is wanted", "", "Import them one by one", Exit.USAGE)
    draft = Draft()
    (file,) = files
    top = Table(file.data, "", draft)
    if "model_list" not in top:
        raise CtlError(
            f"{file.name} is no configuration of LiteLLM's proxy", "it has no model_list"
        )
    for key, line in file.twice:
        draft.lose(f"{key} (line {line})", "it stands twice in one table; the last one counts")
    draft.top["registries"] = []
    found = Deployments(top, draft)
    groups = _Groups(found.deployments, draft)
    router = _merged(top)
    settings.strategy(router, draft)
    groups.write(shuffled=settings.shuffles(router))
    _wildcards(found.wildcards, draft)
    aliases = _aliases(router, draft, groups.known)
    found.left_out += (alias for alias in aliases if alias not in draft.models)
    _chains(router, draft, groups.known, aliases)
    settings.numbers(router, draft)
    groups.tell_timeouts()
    settings.general(top.table("general_settings"), draft, groups.known)
    unserved.keep(found.left_out, draft, groups.known)
    if found.variables:
        draft.note(f"the router's environment must have  {'  '.join(sorted(found.variables))}")
    top.take("environment_variables", "credential_list")
    top.rest(WHY)
    draft.settle_listen()
    draft.scrub()
    draft.in_order(top)
    return draft


def _merged(top: Table) -> "settings.Both":
    """LiteLLM reads most router settings in two places; router_settings wins."""
    return settings.Both(top.table("router_settings"), top.table("litellm_settings"))


class _Groups:
    """Deployments by the name that clients ask for."""

    def __init__(self, deployments: list[Deployment], draft: Draft) -> None:
        self._draft = draft
        self._groups: dict[str, list[Deployment]] = {}
        for one in deployments:
            self._groups.setdefault(one.group, []).append(one)
        #: Upstream name to the providers that will list it.
        self._claims: dict[str, set[str]] = {}
        #: Deployments whose timeouts could not be carried over, and why.
        self._timed: list[tuple[Deployment, str]] = []

    def known(self, name: str) -> bool:
        draft = self._draft
        return name in self._groups or name in draft.models or name in draft.capabilities

    def write(self, *, shuffled: bool) -> None:
        # First those whose name is the same upstream: it must mean nothing else.
        for name, group in self._groups.items():
            if {one.backend for one in group} == {name}:
                self._list(name, group)
        for name, group in self._groups.items():
            if {one.backend for one in group} != {name}:
                self._place(name, group, shuffled=shuffled)
            self._settings(name, group)

    def _list(self, backend: str, group: list[Deployment]) -> None:
        self._claims[backend] = {one.provider for one in group}
        for one in group:
            models = self._draft.providers[one.provider].setdefault("models", [])
            if backend not in models:
                models.append(backend)

    def _place(self, name: str, group: list[Deployment], *, shuffled: bool) -> None:
        if len(group) == 1:
            (one,) = group
            self._draft.models[name] = {"provider": one.provider, "backend_model": one.backend}
            return
        backends = list(dict.fromkeys(one.backend for one in group))
        free = all(self._free(backend, group) for backend in backends)
        if free:
            for backend in backends:
                self._list(backend, [one for one in group if one.backend == backend])
        if free and len(backends) == 1:
            self._draft.models[name] = {"backend_model": backends[0]}
        elif free and not shuffled:
            self._draft.capabilities[name] = {"models": backends, "strategy": self._strategy(group)}
        elif free:
            shares = {b: sum(one.weight for one in group if one.backend == b) for b in backends}
            self._draft.models[name] = {"targets": shares}
        else:
            self._targets(name, group, shuffled=shuffled)

    def _free(self, backend: str, group: list[Deployment]) -> bool:
        """Whether an upstream's name can stand for this group's deployments and nobody else's."""
        if backend in self._groups:
            return False
        mine = {one.provider for one in group if one.backend == backend}
        return self._claims.get(backend, mine) == mine

    def _targets(self, name: str, group: list[Deployment], *, shuffled: bool) -> None:
        shares: dict[str, float] = {}
        for one in group:
            own = f"{name}@{one.provider}"
            while own in shares or own in self._groups:
                own += "+"
            self._draft.models[own] = {"provider": one.provider, "backend_model": one.backend}
            shares[own] = one.weight
        self._draft.models[name] = {"targets": shares}
        if not shuffled:
            self._draft.lose(
                group[0].path,
                f'the strategy for "{name}": its deployments have other names upstream, which mean '
                "something else here; they are drawn by weight",
            )

    def _strategy(self, group: list[Deployment]) -> str:
        if any(one.order is not None for one in group):
            return "priority"
        return str(self._draft.top.get("strategy", "least_requests"))

    def _settings(self, name: str, group: list[Deployment]) -> None:
        """What holds for a whole group; single ones have their limits here, too."""
        first = group[0]
        if name in self._draft.capabilities:
            why = f'"{name}" stands for several models here, and has no timeouts of its own'
            self._timed += [(one, why) for one in group]
            return
        entry: dict[str, object] = {}
        if all(one.timeouts == first.timeouts for one in group):
            if first.timeouts:
                entry["timeouts"] = first.timeouts
        else:
            why = f'timeouts are of a model here, and the deployments of "{name}" differ'
            self._timed += [(one, why) for one in group]
        if len(group) == 1 and first.limits:
            entry["limits"] = first.limits
        if len(group) > 1 and any(one.order is not None for one in group):
            if "targets" in self._draft.models.get(name, {}):
                self._draft.lose(f"{first.path}.litellm_params.order", "targets have no order")
            else:
                entry["strategy"] = "priority"
        if entry:
            self._draft.model(name).update(entry)

    def tell_timeouts(self) -> None:
        """Once it is known what holds in their place."""
        hold = {key: getattr(Timeouts(), key) for key in TIMEOUTS.values()}
        hold.update(self._draft.tables.get("timeouts", {}))
        for one, why in self._timed:
            for key, ours in TIMEOUTS.items():
                if ours in one.timeouts:
                    self._draft.lose(
                        f"{one.path}.litellm_params.{key}",
                        f"{why}: {ours} = {hold[ours]:g} of [timeouts] holds",
                    )


def _wildcards(wildcards: list[tuple[str, str, str]], draft: Draft) -> None:
    """The longer one first: the first that matches counts."""
    for match, provider, rewrite in sorted(wildcards, key=lambda one: -len(one[0])):
        entry = {"match": match, "provider": provider}
        if rewrite != r"\1" or match != "(.*)":
            entry["rewrite"] = rewrite
        draft.patterns.append(entry)


def _aliases(router: "settings.Both", draft: Draft, known: Callable[[str], bool]) -> dict[str, str]:
    """Each with its path, also those that lead nowhere."""
    found = {}
    table = router.table("model_group_alias")
    for alias in filter(str.strip, table):
        value = table.raw(alias)
        if isinstance(value, dict):
            if value.get("hidden"):
                draft.lose(
                    table.at(alias) + ".hidden", "every name that can be asked for is listed"
                )
            value = value.get("model")
        if not isinstance(value, str) or not known(value):
            draft.lose(table.at(alias), "it stands for a group that is not there")
            found[alias] = table.at(alias)
        elif known(alias):
            draft.lose(table.at(alias), f'"{alias}" is a group as well, and stays one')
        else:
            draft.models[alias] = {"backend_model": value}
            found[alias] = table.at(alias)
    return found


def _chains(
    router: "settings.Both",
    draft: Draft,
    known: Callable[[str], bool],
    aliases: dict[str, str],
) -> None:
    chains = Chains(draft, known)
    everybody: list[Link] = []
    for path, owner, named in _links(router, draft):
        if owner == "*":
            everybody += named
        elif not known(owner):
            draft.lose(path, f'nobody serves "{owner}"')
        elif members := chains.members(owner, named):
            entry = draft.capabilities.get(owner)
            (draft.model(owner) if entry is None else entry)["fallbacks"] = members
    for alias, path in aliases.items():
        # Here a chain is of the name that was asked for.
        entry = draft.models.get(alias, {})
        group = str(entry.get("backend_model"))
        chain = (draft.capabilities.get(group) or draft.models.get(group, {})).get("fallbacks", [])
        if "fallbacks" not in entry and (
            members := chains.members(alias, [(path, one) for one in chain])
        ):
            entry["fallbacks"] = members
    everybody += router.names("default_fallbacks")
    if members := chains.members(None, everybody):
        draft.top["default_fallbacks"] = members


def _links(router: "settings.Both", draft: Draft) -> list[tuple[str, str, list[Link]]]:
    """`fallbacks` as they are written: a list of tables, or one table."""
    found = []
    for _, table in router.pieces("fallbacks"):
        for owner in filter(str.strip, table):
            links: list[Link] = []
            for at, one in table.items(owner):
                if isinstance(one, str):
                    links.append((at, one))
                else:
                    draft.lose(at, "a fallback is a model's name here, without parameters")
            found.append((table.at(owner), owner, links))
    return found
