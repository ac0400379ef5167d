"""model-mappings.yaml: names, weights, patterns, capabilities, chains. Pure."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from ctl.imports import balancing
from ctl.imports.chains import Chains
from ctl.imports.draft import Draft
from ctl.imports.table import Table
from router.named import Strategy

if TYPE_CHECKING:
    from ctl.imports.providers import Known

STRATEGIES = frozenset(one for part in get_args(Strategy) for one in get_args(part))
#: The older backend's other words.
ALSO = {
    "weighted_round_robin": "round_robin",
    "weighted": "weighted_random",
    "simple-shuffle": "weighted_random",
    "latency_based": "least_latency",
}
LEVELS = {
    "complexity_based": ("complexity_thresholds", ("low", "medium", "high")),
    "context_based": ("context_thresholds", ("standard", "complex", "large")),
    "quality_based": ("quality_thresholds", ("standard", "high")),
}
A_MODEL = "a fallback is a model here, never a provider"
QUIET = ("description", "notes", "tier", "comment", "reason")


class Mappings:
    def __init__(self, tops: list[Table], draft: Draft, known: "Known") -> None:
        self._tops = tops
        self._draft = draft
        self._known = known
        #: Names of exact_matches, each with its provider.
        self._exact: dict[str, str] = {}
        #: Those of providers that are not active, each with its provider.
        self.resting: dict[str, str] = {}

    def served(self, name: str) -> bool:
        """Whether somebody will be asked for it."""
        if name in self._draft.capabilities:
            return True
        entry = self._draft.models.get(name, {})
        if "targets" in entry or "levels" in entry:
            return True
        if "provider" in entry:
            return entry["provider"] in self._known.active
        return bool(self._known.listing(name))

    def provider(self, table: Table, key: str = "provider") -> str | None:
        """Ours, of a name of theirs; one that is not there is told."""
        said = table.text(key)
        if said is None:
            return None
        if said not in self._known.names:
            self._draft.lose(table.at(key), f'there is no provider "{said}"')
            return None
        return self._known.names[said]

    def strategy(self, table: Table, key: str) -> str | None:
        said = table.text(key)
        if said is None or said in STRATEGIES:
            return said
        if said not in ALSO:
            self._draft.lose(table.at(key), f'there is no strategy "{said}"')
        return ALSO.get(said)

    # --- exact_matches ------------------------------------------------------------------------

    def exact(self) -> None:
        for name, table in self._all("exact_matches", "model_name"):
            provider = self.provider(table)
            backend = table.text("backend_model")
            fallback = table.text("fallback")
            priority = table.text("priority")
            if priority not in {None, "primary"}:
                self._draft.lose(
                    table.at("priority"), "a provider has a priority here; a chain says its order"
                )
            if fallback in self._known.names:
                self._draft.lose(table.at("fallback"), f"{A_MODEL}: {fallback}")
            elif fallback is not None:
                self._draft.model(name)["#fallback"] = (table.at("fallback"), fallback)
            description = table.peek("description")
            table.rest(quiet=QUIET)
            if provider is None:
                self._draft.lose(table.path, "it has no provider that is there")
                continue
            self._exact[name] = provider
            if provider not in self._known.active:
                self.resting[name] = provider
                self._draft.lose(
                    table.path, f"its provider {provider} is not active: enable it first"
                )
                continue
            if backend or self._known.listing(name) != [provider]:
                entry = self._draft.model(name)
                entry["provider"] = provider
                if backend and backend != name:
                    entry["backend_model"] = backend
                if description:
                    self._draft.comments["models", name] = str(description)

    # --- load_balancing -----------------------------------------------------------------------

    def balanced(self) -> None:
        for name, table in self._all("load_balancing"):
            balancing.balance(name, table, self)

    @property
    def draft(self) -> Draft:
        return self._draft

    @property
    def known(self) -> "Known":
        return self._known

    # --- patterns -----------------------------------------------------------------------------

    def patterns(self) -> None:
        for top in self._tops:
            for row in top.rows("patterns"):
                match = row.text("pattern")
                provider = self.provider(row)
                fallback = row.text("fallback")
                if fallback in self._known.names:
                    self._draft.lose(row.at("fallback"), f"{A_MODEL}: {fallback}")
                elif fallback is not None:
                    self._draft.lose(row.at("fallback"), f'nobody serves "{fallback}"')
                if match is None or provider is None:
                    self._draft.lose(row.path, "it has no pattern, or no provider that is there")
                    row.take(*row)
                    continue
                entry: dict[str, Any] = {"match": whole(match), "provider": provider}
                if text := row.peek("description"):
                    entry["#"] = str(text)
                self._draft.patterns.append(entry)
                row.rest(quiet=QUIET)
        self._everything_else()

    def _everything_else(self) -> None:
        for top in self._tops:
            rules = top.table("routing_rules") if "routing_rules" in top else None
            if rules is None:
                continue
            provider = self.provider(rules, "default_provider")
            if provider is not None:
                comment = "names that nothing else knows"
                self._draft.patterns.append({"#": comment, "match": ".*", "provider": provider})
            rules.lose("default_fallback", A_MODEL)

    # --- capabilities -------------------------------------------------------------------------

    def capabilities(self) -> None:
        for name, table in self._all("capabilities"):
            strategy = self.strategy(table, "routing_strategy") or self.strategy(table, "strategy")
            models = self._preferred(table)
            levels = self._levels(table, strategy)
            models += [one for one in levels.values() if isinstance(one, str) and one not in models]
            description = table.peek("description")
            provider = self.provider(table)
            for path, one in table.names("providers"):
                if one in self._known.names:
                    provider = provider or self._known.names[one]
                else:
                    self._draft.lose(path, f'there is no provider "{one}"')
            if not models and provider:
                models = [*self._known.lists[provider]] or [
                    one for one, at in self._exact.items() if at == provider
                ]
                self._draft.note(f"{name}: it had no models; those of {provider} were taken")
            models = [one for one in models if self.served(one)]
            table.lose("fallback", A_MODEL)
            table.rest(
                {"min_model_size": "name the models", "min_context": "name the models"}, QUIET
            )
            if not models:
                self._draft.lose(table.path, "it names no model that is served")
                continue
            if name in self._draft.models:
                self._draft.lose(table.path, "a model of that name goes before it")
                continue
            entry: dict[str, Any] = {"models": models}
            if strategy in LEVELS and not set(LEVELS[strategy][1]) <= levels.keys():
                self._draft.lose(table.at("routing_strategy"), f"{strategy} wants all its levels")
                strategy, levels = None, {}
            if strategy is not None:
                entry["strategy"] = strategy
            if levels:
                entry["levels"] = levels
            self._draft.capabilities[name] = entry
            if description:
                self._draft.comments["capabilities", name] = str(description)

    def _preferred(self, table: Table) -> list[str]:
        found: list[str] = []
        for key in ("preferred_models", "models"):
            for path, one in table.names(key):
                for model in self._meant(path, one):
                    if model not in found:
                        found.append(model)
        return found

    def _meant(self, path: str, name: str) -> list[str]:
        """A provider's name where a model's belongs stands for what it lists."""
        if self.served(name):
            return [name]
        ours = self._known.names.get(name)
        if ours is None:
            self._draft.lose(path, f'nobody serves "{name}"')
            return []
        models = self._known.lists[ours]
        what = f"its models were taken: {', '.join(models)}" if models else "it lists no models"
        self._draft.lose(path, f"{name} is a provider, no model; {what}")
        return models

    def _levels(self, table: Table, strategy: str | None) -> dict[str, Any]:
        if strategy not in LEVELS:
            return {}
        key, names = LEVELS[strategy]
        thresholds = table.table(key)
        found: dict[str, Any] = {}
        for name in names:
            model = thresholds.text(name)
            if model is None:
                continue
            if self.served(model):
                found[name] = model
            else:
                self._draft.lose(thresholds.at(name), f'nobody serves "{model}"')
        thresholds.rest()
        return found

    # --- fallback_chains ----------------------------------------------------------------------

    def chains(self, chains: Chains) -> None:
        for top in self._tops:
            above = top.table("fallback_chains")
            for owner in filter(str.strip, above):
                if isinstance(above.peek(owner), dict):
                    table = above.table(owner)
                    named = table.names("chain")
                    terminal = table.peek("chain") == [] and "chain" in table
                    table.rest(quiet=QUIET)
                    path = table.path
                else:
                    path, named = above.at(owner), above.names(owner)
                    terminal = above.peek(owner) == []
                self._chain(path, owner, named, terminal, chains)
        for name, entry in self._draft.models.items():
            path, fallback = entry.pop("#fallback", ("", ""))
            if fallback and "fallbacks" not in entry:
                if members := chains.members(name, [(path, fallback)]):
                    entry["fallbacks"] = members
            elif fallback:
                self._draft.lose(path, "the chain of fallback_chains counts")
        self._draft.models = {n: e for n, e in self._draft.models.items() if e}

    def _chain(
        self,
        path: str,
        owner: str,
        named: list[tuple[str, str]],
        terminal: bool,
        chains: Chains,
    ) -> None:
        named = [one for one in named if not self._is_provider(*one)]
        if owner == "default":
            if members := chains.members(None, named):
                self._draft.top["default_fallbacks"] = members
            return
        if not self.served(owner):
            self._draft.lose(path, f'nobody serves "{owner}": its chain has no use')
            return
        members = chains.members(owner, named)
        entry = self._draft.capabilities.get(owner)
        if members or terminal:
            (self._draft.model(owner) if entry is None else entry)["fallbacks"] = members

    def _is_provider(self, path: str, name: str) -> bool:
        if name in self._known.names and not self.served(name):
            self._draft.lose(path, f"{A_MODEL}: {name}")
            return True
        return False

    def _all(self, *keys: str) -> Iterator[tuple[str, Table]]:
        for top in self._tops:
            for key in keys:
                yield from top.tables(key)


def whole(pattern: str) -> str:
    """The older backend matched from the beginning (re.match), the router matches whole names."""
    match = pattern.removeprefix("^")
    if match.endswith("$") and not re.search(r"(?<!\\)(\\\\)*\\\$\Z", match):
        return match[:-1]
    return match if match.endswith(".*") else f"{match}.*"
