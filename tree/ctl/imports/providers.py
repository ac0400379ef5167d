"""The older unified backend's providers.yaml and model-mappings.yaml as a router.toml. Pure.

    providers                 [providers.NAME], their limits and costs
    exact_matches             [models.NAME] provider, backend_model, where the provider lists it not
    load_balancing            [models.NAME] targets, strategy, levels and weights
    patterns, default_provider  [[patterns]]
    capabilities              [capabilities.NAME]
    fallback_chains           fallbacks of the model or capability; default: default_fallbacks
    routing_rules             [[rules]], kept to the names that their provider lists

Whoever has which key tells the files apart; they may be one. In the older backend a fallback could
be a provider: here it is a model, so such ones are told and left out.
"""

import math

from ctl.errors import CtlError
from ctl.imports import mappings, routing, unserved
from ctl.imports.chains import Chains
from ctl.imports.draft import NOWHERE, Draft, slug, words
from ctl.imports.endpoints import clean_url, is_variable
from ctl.imports.limits import Limits
from ctl.imports.reading import Yaml
from ctl.imports.table import Table

TYPES = ("ollama", "vllm", "llama_cpp", "openai", "anthropic", "openai_compatible", "infinilm")
STATUSES = ("active", "disabled", "pending_integration", "template")
#: Words for people, and what an engine's own start says.
QUIET = words(
    """description features docs location notes service_file hardware_requirements specialty
    api_format metadata mcp_integration mcp_tools requires_api_key display_name homepage version
    tags"""
)
ENGINE = "it is the engine's own setting: it belongs to its start, or to babysitter.toml"
WHY = {
    "health_endpoint": "the router knows where each type tells its health",
    "configuration": ENGINE,
    "options": ENGINE,
    "gpu_memory_utilization": ENGINE,
    "max_model_len": ENGINE,
    "timeout": "timeouts are the router's ([timeouts]) or a model's",
    "timeout_seconds": "timeouts are the router's ([timeouts]) or a model's",
    "headers": "no header of a provider but its key is set",
}
#: What stands at the top of either file for people or for other programs.
TOP_QUIET = ("metadata", "notes", "version", "schema_version", "changelog")


class Known:
    """What is known of providers by now. `lists`: what each says it has."""

    def __init__(self) -> None:
        self.lists: dict[str, list[str]] = {}
        self.types: dict[str, str] = {}
        #: The older file's name to ours.
        self.names: dict[str, str] = {}
        self.active: set[str] = set()

    def listing(self, model: str) -> list[str]:
        """Active providers that list it."""
        return [
            name for name, models in self.lists.items() if name in self.active and model in models
        ]


def convert(files: list[Yaml]) -> Draft:
    """Raises CtlError where there are no providers."""
    draft = Draft()
    draft.top["registries"] = []
    tops = []
    for file in files:
        path = f"{file.name}: " if len(files) > 1 else ""
        tops.append(Table(file.data, path, draft))
        for key, line in file.twice:
            draft.lose(
                f"{path}{key} (line {line})", "it stands twice in one table; the last counts"
            )
    known = _providers(tops, draft)
    _health(tops, draft)
    found = mappings.Mappings(tops, draft, known)
    found.exact()
    found.balanced()
    found.patterns()
    found.capabilities()
    found.chains(Chains(draft, found.served))
    routing.rules(tops, draft, known)
    routing.special(tops, draft)
    unserved.wait(found.resting, draft, found.served)
    for top in tops:
        top.rest(quiet=TOP_QUIET)
    draft.settle_listen()
    draft.scrub()
    draft.in_order(*tops)
    return draft


def _providers(tops: list[Table], draft: Draft) -> Known:
    known = Known()
    if not any("providers" in top for top in tops):
        raise CtlError(
            "no file has  providers", "providers.yaml is wanted, with model-mappings.yaml beside it"
        )
    limits = Limits(tops, draft)
    for top in tops:
        for name, table in top.tables("providers"):
            ours = slug(name)
            if ours in draft.providers:
                draft.lose(table.path, "a provider of that name is there already")
                continue
            known.names[name] = ours
            if ours != name:
                draft.note(f'provider "{name}" is called {ours}: letters, digits and . _ @ - alone')
            _provider(ours, table, draft, known, limits)
    return known


def _provider(name: str, table: Table, draft: Draft, known: Known, limits: Limits) -> None:
    said, url = table.text("type"), table.text("base_url")
    status = table.text("status") or "active"
    kind = said if said in TYPES else "openai_compatible"
    if kind != said:
        draft.lose(table.at("type"), f'"{said}" is no type; it became {kind}')
    if status not in STATUSES:
        draft.lose(table.at("status"), f'"{status}" is no status; it became disabled')
        status = "disabled"
    if url is None:
        draft.lose(table.at("base_url"), "there is none: the provider is a template")
    else:
        url = _url(url, table, draft)
    provider: dict[str, object] = {"type": kind, "base_url": url or NOWHERE}
    status = status if url else "template"
    if status != "active":
        provider["status"] = status
    models, context = _models(table, draft)
    if models:
        provider["models"] = models
    _key(provider, name, kind, table, draft)
    if (weight := table.number("weight")) is not None:
        provider["weight"] = weight
    if (priority := table.whole("priority", 0)) is not None:
        provider["priority"] = priority
    if (region := table.text("region")) is not None:
        provider["region"] = region
    if context:
        provider["context_tokens"] = context
    if found := limits.of(table, kind):
        provider["limits"] = found
    if cost := _cost(table, draft):
        provider["cost"] = cost
    if (text := table.peek("description")) is not None:
        draft.comments["providers", name] = str(text)
    table.rest(WHY, QUIET)
    draft.providers[name] = provider
    known.lists[name], known.types[name] = models, kind
    known.active |= {name} if status == "active" else set()


def _url(url: str, table: Table, draft: Draft) -> str | None:
    """What is no address yet (`http://localhost:CUSTOM_PORT`) may only stand in a template."""
    clean, secret = clean_url(url)
    if secret:
        draft.lose(table.at("base_url"), "what stood in the URL beside its address is left out")
    if not clean:
        draft.lose(table.at("base_url"), "it is no address: the provider is a template")
    return clean or None


def _models(table: Table, draft: Draft) -> tuple[list[str], int | None]:
    """Names, and the smallest context window of them."""
    names: list[str] = []
    windows: list[int] = []
    for path, one in table.items("models"):
        name = one
        if isinstance(one, dict):
            row = Table(one, path, draft)
            name = row.text("name") or row.text("id")
            window = row.whole("context_length")
            windows += [window] if window else []
            row.rest({"options": ENGINE}, (*QUIET, *MODEL_QUIET))
        if not isinstance(name, str) or not name:
            draft.lose(path, "it has no name")
        elif name not in names:
            names.append(name)
    if len(set(windows)) > 1:
        draft.lose(
            table.at("models"),
            f"context_length: a provider has one here; the smallest, {min(windows)}, was taken",
        )
    return names, min(windows) if windows else None


MODEL_QUIET = (
    "size",
    "quantization",
    "pulled_at",
    "use_case",
    "model_size_gb",
    "kv_cache_available_gb",
    "family",
    "parameters",
)


def _key(provider: dict[str, object], name: str, kind: str, table: Table, draft: Draft) -> None:
    variable = table.text("env_var") or table.text("api_key_env")
    table.take("env_var", "api_key_env")
    literal = table.text("api_key")
    if literal is not None and literal.startswith(("${", "os.environ/")):
        variable = variable or literal.removeprefix("os.environ/").strip("${}")
        literal = None
    if variable is not None and not is_variable(variable):
        variable, literal = None, variable
    if variable is not None:
        provider["api_key_env"] = variable
        draft.note(f"the router's environment must have  {variable}  (provider {name})")
    elif literal is not None:
        provider["api_key_file"] = f"/etc/creche/{name}.key"
        draft.lose(
            table.at("api_key" if "api_key" in table else "env_var"),
            f"keys are not written into the file: put it into /etc/creche/{name}.key "
            "(mode 600, the router's user)",
        )
    elif table.peek("requires_api_key") is True:
        provider["api_key_file"] = f"/etc/creche/{name}.key"
        draft.lose(
            table.at("requires_api_key"),
            f"where the key is, is not said: /etc/creche/{name}.key is looked for",
        )


def _cost(table: Table, draft: Draft) -> dict[str, float]:
    """cost_per_1k_tokens: one number, or one for each model that is the same for all."""
    said = table.raw("cost_per_1k_tokens")
    prices = list(said.values()) if isinstance(said, dict) else [said]
    prices = [one for one in prices if one is not None]
    if not prices:
        return {}
    number = isinstance(prices[0], (int, float)) and not isinstance(prices[0], bool)
    if len(set(map(str, prices))) > 1 or not number or not 0 <= prices[0] < math.inf:
        draft.lose(
            table.at("cost_per_1k_tokens"), "a provider has one price here, these are others"
        )
        return {}
    price = round(float(prices[0]) * 1_000, 6)
    return {"input_per_million": price, "output_per_million": price}


def _health(tops: list[Table], draft: Draft) -> None:
    for top in tops:
        if "health_checks" not in top:
            continue
        table = top.table("health_checks")
        if table.flag("enabled") is False:
            draft.lose(table.at("enabled"), "upstreams that fail are always probed")
            table.take(*table)
            continue
        for key, ours in (("interval_seconds", "probe_s"), ("timeout_seconds", "probe_timeout_s")):
            if (seconds := table.number(key)) is not None:
                draft.set("health", ours, seconds)
        table.rest({"endpoints": WHY["health_endpoint"]})
