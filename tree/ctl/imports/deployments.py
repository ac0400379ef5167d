"""model_list: each deployment, and the providers that they make. Pure.

One provider per endpoint and key; a deployment of a group of several that has limits or a weight of
its own gets one to itself, for these belong to a provider here.
"""

import hashlib
from typing import Any

from msgspec import Struct, field

from ctl.imports.draft import Draft, escaped, words
from ctl.imports.endpoints import (
    FOREIGN,
    KNOWN,
    PLACEHOLDERS,
    Known,
    clean_url,
    is_variable,
    name_of,
    split,
)
from ctl.imports.table import Table

ENVIRON = "os.environ/"
#: What changes a request's body: ours passes as it came.
PARAMETERS = words(
    """temperature max_tokens max_completion_tokens top_p top_k presence_penalty frequency_penalty
    seed stop n user response_format tools tool_choice extra_body reasoning_effort thinking
    drop_params additional_drop_params merge_reasoning_content_in_choices stream logit_bias
    prompt_id prompt_variables roles bos_token eos_token initial_prompt_value final_prompt_value
    allowed_openai_params supports_system_message cache_control_injection_points"""
)
WHY = {
    **dict.fromkeys(PARAMETERS, "bodies go on as the client sent them: let clients send it"),
    "api_version": "only Azure's own paths have one",
    "organization": "no header of a provider but its key is set",
    "extra_headers": "no header of a provider but its key is set",
    "headers": "no header of a provider but its key is set",
    "tags": "requests are not routed by tags; see [[rules]] with a header",
    "max_retries": "retries are the router's ([retry]), not a deployment's",
    "num_retries": "retries are the router's ([retry]), not a deployment's",
    "cooldown_time": "rests are the router's ([retry]), not a deployment's",
    "max_budget": "there are no budgets",
    "budget_duration": "there are no budgets",
    "ssl_verify": "certificates are always checked; a private one goes into the provider's ca_file",
    "mock_response": "the mock engine answers on demand (docs/mock-engine.md)",
}
#: A deployment's key, and the one of [timeouts].
TIMEOUTS = {"timeout": "total_s", "stream_timeout": "first_event_s"}
#: Words for people.
QUIET = ("id", "description", "version", "notes", "created_by", "created_at", "updated_at", "mode")


class Deployment(Struct, kw_only=True):
    group: str
    path: str
    backend: str
    provider: str = ""
    limits: dict[str, int] = field(default_factory=dict)
    weight: float = 1
    order: int | None = None
    timeouts: dict[str, float] = field(default_factory=dict)


class _Read(Struct, kw_only=True):
    """A deployment before it has a provider."""

    deployment: Deployment
    prefix: str
    known: Known
    base_url: str
    key_env: str
    #: Tells literal keys apart without keeping them.
    secret: str
    alone: dict[str, Any]
    weighs: bool


class Deployments:
    """`wildcards` are (pattern, provider, rewrite); `variables` what the environment must have.

    `left_out` are the groups of deployments that could not be carried over, each once.
    """

    def __init__(self, top: Table, draft: Draft) -> None:
        self._draft = draft
        self._environment = _texts(top.raw("environment_variables"))
        self._credentials = _credentials(top)
        self.deployments: list[Deployment] = []
        self.wildcards: list[tuple[str, str, str]] = []
        self.variables: set[str] = set()
        self.left_out: list[str] = []
        read = [one for row in top.rows("model_list") if (one := self._read(row)) is not None]
        sizes: dict[str, int] = {}
        for one in read:
            sizes[one.deployment.group] = sizes.get(one.deployment.group, 0) + 1
        self._names: dict[tuple[str, ...], str] = {}
        for one in read:
            self._settle(one, several=sizes[one.deployment.group] > 1)

    def _read(self, row: Table) -> _Read | None:
        group = row.text("model_name")
        found = self._carried(row, group)
        if found is None and group is not None and group not in self.left_out:
            self.left_out.append(group)
        return found

    def _carried(self, row: Table, group: str | None) -> _Read | None:
        params = Table(
            {**self._credential(row), **_dict(row.raw("litellm_params"))},
            row.at("litellm_params"),
            self._draft,
        )
        info = row.table("model_info")
        model = params.text("model")
        if group is None or model is None:
            self._draft.lose(row.path, "it has no model_name, or no litellm_params.model")
            return None
        if model == "*":
            self._draft.lose(
                row.path, "every model of every provider: name the providers that are meant"
            )
            return None
        prefix, backend = split(model, params.text("custom_llm_provider"))
        if not backend.strip():
            self._draft.lose(params.path, "its model has no name at its provider")
            return None
        if prefix in FOREIGN:
            self._draft.lose(
                row.path,
                f"\"{group}\" at {prefix}: another protocol than OpenAI's or Anthropic's; put an "
                "adapter that speaks OpenAI's in front of it and add that as a provider",
            )
            return None
        known = KNOWN.get(prefix, Known("openai_compatible"))
        base_url = self._base_url(params, known)
        if not base_url:
            return None
        if known.type == "openai" and base_url != known.base_url:
            known = Known("openai_compatible", known.base_url)
        key_env, secret = self._key(params, base_url, known)
        one = Deployment(group=group, path=row.path, backend=backend)
        weighs = self._numbers(one, params, row, info)
        alone = self._facts(params, info)
        params.rest(WHY)
        info.rest(quiet=QUIET)
        row.rest()
        return _Read(
            deployment=one,
            prefix=prefix,
            known=known,
            base_url=base_url,
            key_env=key_env,
            secret=secret,
            alone=alone,
            weighs=weighs,
        )

    def _credential(self, row: Table) -> dict[str, Any]:
        params = _dict(row.peek("litellm_params"))
        name = params.pop("litellm_credential_name", None)
        return self._credentials.get(str(name), {}) if name else {}

    def _base_url(self, params: Table, known: Known) -> str:
        key = "api_base" if "api_base" in params else "base_url"
        params.take("litellm_credential_name")
        said = params.text(key)
        if said is not None and said.startswith(ENVIRON):
            variable = said.removeprefix(ENVIRON)
            said = self._environment.get(variable)
            if said is None:
                self._draft.lose(
                    params.at(key), f"an address is written in the file: what does {variable} say?"
                )
                return ""
        url = said or known.base_url
        if not url:
            self._draft.lose(params.path, "it has no api_base, and none is known for it")
            return ""
        url, secret = clean_url(url)
        if not url:
            self._draft.lose(
                params.at(key), "it is no address that begins with http:// or https://"
            )
        if secret:
            self._draft.lose(params.at(key), "what stood in the URL beside its address is left out")
        return url

    def _key(self, params: Table, base_url: str, known: Known) -> tuple[str, str]:
        """The variable that holds it, or the mark of a literal one."""
        said = params.text("api_key")
        if said is None:
            default = known.key_env if base_url == known.base_url else ""
            self.variables |= {default} if default else set()
            return default, ""
        variable = said.removeprefix(ENVIRON).strip("${}")
        if said.startswith((ENVIRON, "${")) and is_variable(variable):
            self.variables.add(variable)
            return variable, ""
        if said.strip().lower() in PLACEHOLDERS:
            return "", ""
        return "", hashlib.sha256(said.encode()).hexdigest()

    def _numbers(self, one: Deployment, params: Table, row: Table, info: Table) -> bool:
        """Limits, weight, order, timeouts; whether the deployment has a share of its own."""
        for key, ours in (
            ("rpm", "rpm"),
            ("tpm", "tpm"),
            ("max_parallel_requests", "max_concurrency"),
        ):
            found = next((t for t in (params, row, info) if key in t), None)
            if found is not None and (value := found.whole(key)) is not None:
                one.limits[ours] = value
            for table in (params, row, info):
                table.take(key)
        weight = params.number("weight")
        one.order = params.whole("order", 0)
        for key, ours in TIMEOUTS.items():
            if (seconds := params.number(key)) is not None:
                one.timeouts[ours] = seconds
        one.weight = weight or one.limits.get("rpm") or one.limits.get("tpm") or 1
        return weight is not None or one.order is not None or bool(one.limits)

    def _facts(self, params: Table, info: Table) -> dict[str, Any]:
        """What is true of a provider that serves one model alone."""
        facts: dict[str, Any] = {}
        cost: dict[str, float] = {}
        for key, ours in (
            ("input_cost_per_token", "input_per_million"),
            ("output_cost_per_token", "output_per_million"),
        ):
            table = params if key in params else info
            if table.peek(key) == 0:
                table.take(key)
            elif (price := table.number(key)) is not None:
                cost[ours] = round(price * 1_000_000, 6)
        tokens = info.whole("max_input_tokens") or info.whole("max_tokens")
        info.take("max_tokens")
        if tokens:
            facts["context_tokens"] = tokens
        if cost:
            facts["cost"] = cost
        return facts

    def _settle(self, one: _Read, *, several: bool) -> None:
        """Its provider, made where there is none yet."""
        deployment = one.deployment
        own = several and one.weighs
        mark: tuple[str, ...] = (one.known.type, one.base_url, one.key_env, one.secret)
        if own:
            mark = (*mark, deployment.path)
        name = self._names.get(mark)
        if name is None:
            name = self._names[mark] = self._new(one)
            if own:
                provider = self._draft.providers[name]
                if deployment.weight != 1:
                    provider["weight"] = deployment.weight
                if deployment.order is not None:
                    provider["priority"] = deployment.order
                if deployment.limits:
                    provider["limits"] = deployment.limits
            self._draft.providers[name].update(one.alone)
        else:
            self._shared(name, one)
        deployment.provider = name
        if "*" in deployment.group or "*" in deployment.backend:
            self._wildcard(one)
        else:
            self.deployments.append(deployment)

    def _shared(self, name: str, one: _Read) -> None:
        provider = self._draft.providers[name]
        for key in ("context_tokens", "cost"):
            if provider.get(key) != one.alone.get(key):
                provider.pop(key, None)
                self._draft.lose(
                    f"{one.deployment.path}.model_info",
                    f"{key} is of a provider here, and {name} serves models that differ",
                )

    def _new(self, one: _Read) -> str:
        base = name_of(one.prefix, one.base_url, one.known)
        name, number = base, 1
        while name in self._draft.providers:
            number += 1
            name = f"{base}-{number}"
        provider: dict[str, Any] = {"type": one.known.type, "base_url": one.base_url}
        if one.key_env:
            provider["api_key_env"] = one.key_env
        if one.secret:
            provider["api_key_file"] = f"/etc/creche/{name}.key"
            self._draft.lose(
                f"{one.deployment.path}.litellm_params.api_key",
                f"keys are not written into the file: put it into /etc/creche/{name}.key "
                "(mode 600, the router's user)",
            )
        self._draft.providers[name] = provider
        return name

    def _wildcard(self, one: _Read) -> None:
        group, backend, path = one.deployment.group, one.deployment.backend, one.deployment.path
        if group.count("*") < backend.count("*"):
            self._draft.lose(path, f'"{group}" does not say what stands for the * of "{backend}"')
            self.left_out.append(group)
            return
        match = "(.*)".join(map(escaped, group.split("*")))
        rewrite, parts = "", backend.split("*")
        for at, part in enumerate(parts):
            plain = part.replace("\\", "\\\\")
            rewrite += plain if at == 0 else f"\\{at}{plain}"
        self.wildcards.append((match, one.deployment.provider, rewrite))


def _dict(value: Any) -> dict[str, Any]:
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else {}


def _texts(value: Any) -> dict[str, str]:
    return {key: one for key, one in _dict(value).items() if isinstance(one, str)}


def _credentials(top: Table) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in top.rows("credential_list"):
        name = row.text("credential_name")
        if name:
            found[name] = _dict(row.raw("credential_values"))
        row.rest(quiet=("credential_info",))
    return found
