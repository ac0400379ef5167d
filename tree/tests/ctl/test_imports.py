"""Others' files as a router.toml: golden results, and what must never come through. Pure."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.config import has_errors
from ctl.errors import CtlError
from ctl.imports import litellm, providers
from ctl.imports.draft import Draft
from ctl.imports.limits import PRESETS
from ctl.imports.mappings import whole
from ctl.imports.reading import VALUES_MAX, Yaml, YamlFault, read
from ctl.kinds import ROUTER
from router.config import Config
from router.names.resolve import Names
from tests.router.names.asking import Asked

FOLDER = Path(__file__).parents[1] / "configs" / "imports"
CONVERT = {"litellm": litellm.convert, "providers": providers.convert}
CASES = sorted(path for source in CONVERT for path in (FOLDER / source).glob("*.toml"))


def sources(golden: Path) -> list[Path]:
    """The YAML files that a golden file is made of: its first line names them."""
    named = golden.read_text().splitlines()[0].removeprefix("# Made of ").split("  ")[0]
    return [golden.parent / name.removesuffix(" by") for name in named.split(", ")]


def imported(source: str, *texts: str) -> Draft:
    names = ["config.yaml"] if source == "litellm" else ["providers.yaml", "mappings.yaml"]
    return CONVERT[source](
        [read(text.encode(), name) for text, name in zip(texts, names, strict=False)]
    )


def config(draft: Draft) -> Config:
    """What the result says. It has no errors."""
    chosen, problems = ROUTER.judge(draft.text([]), "result.toml")
    assert not has_errors(problems), "\n\n".join(map(str, problems))
    assert isinstance(chosen, Config)
    return chosen


def lost(draft: Draft) -> dict[str, str]:
    return {one.path: one.why for one in draft.lost}


@pytest.mark.parametrize("golden", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_becomes_the_router_toml_that_was_read_and_found_right(golden: Path) -> None:
    files = [read(path.read_bytes(), path.name) for path in sources(golden)]
    draft = CONVERT[golden.parent.name](files)
    assert draft.text([one.name for one in files]) == golden.read_text()
    config(draft)


@pytest.mark.parametrize("golden", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_secret_comes_through(golden: Path) -> None:
    secrets = {
        value
        for path in sources(golden)
        for value in values(yaml.safe_load(path.read_text()))
        if value.startswith("sk-") or "hunter2" in value
    }
    assert secrets
    for secret in secrets:
        assert secret not in golden.read_text()


def values(data: Any) -> list[str]:
    if isinstance(data, dict):
        return [one for value in data.values() for one in values(value)]
    if isinstance(data, list):
        return [one for value in data for one in values(value)]
    return [data] if isinstance(data, str) else []


JUNK = [
    *(None, 5, -1, 0, "", True, [], {}, "x\ny = 1", [None], {"a": 1}, float("inf"), float("nan")),
    *("os.environ/", "http://[", "http://h:99999/v1", "ollama", ["ollama"], SECRET := "sk-a1" * 5),
]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
@pytest.mark.parametrize("source", list(CONVERT))
def test_whatever_is_wrong_in_a_file_the_result_is_a_whole_one(
    source: str, data: st.DataObject
) -> None:
    """Values anywhere become junk: it is told, nothing breaks, and no key comes through."""
    golden = data.draw(st.sampled_from([one for one in CASES if one.parent.name == source]))
    files = [read(path.read_bytes(), path.name) for path in sources(golden)]
    for file in files:
        for _ in range(data.draw(st.integers(0, 3))):
            at: Any = file.data
            while True:
                keys = list(at) if isinstance(at, dict) else list(range(len(at)))
                key = data.draw(st.sampled_from(keys))
                if not isinstance(at[key], (dict, list)) or not at[key] or data.draw(st.booleans()):
                    break
                at = at[key]
            at[key] = copy.deepcopy(data.draw(st.sampled_from(JUNK)))
    try:
        text = CONVERT[source](files).text([])
    except CtlError:
        return
    assert SECRET not in text
    chosen, problems = ROUTER.judge(text, "result.toml")
    assert chosen is not None, "\n\n".join(map(str, problems))


# --- reading --------------------------------------------------------------------------------------


def test_aliases_that_multiply_are_refused_before_they_are_built() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(YamlFault, match=f"more than {VALUES_MAX} values"):
        read("\n".join(lines).encode(), "bomb.yaml")


def test_merges_that_multiply_are_refused_as_well() -> None:
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40)]
    with pytest.raises(YamlFault, match="values"):
        read("\n".join(lines).encode(), "bomb.yaml")


def test_aliases_in_reason_are_followed() -> None:
    found = read(b"base: &base {rpm: 5}\none: {<<: *base, tpm: 6}\n", "x.yaml")
    assert found.data["one"] == {"rpm": 5, "tpm": 6}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a: &a [*a]", "stands for what it is a part of"),
        (b"a: [" * 80, "nested more than 64 deep"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: [", "not YAML: expected the node content, but found '<stream end>', line 1"),
        (b"a: !!python/object/apply:os.system [id]", "not YAML: could not determine a constructor"),
        (b"- a\n- b\n", "a table is wanted at its top"),
        (b"a: 1\n---\nb: 2\n", "not YAML: but found another document"),
        (b" " * (5 << 20), "more than"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(YamlFault) as caught:
        read(raw, "x.yaml")
    assert said in str(caught.value)


def test_a_key_that_stands_twice_is_told() -> None:
    assert read(b"a: 1\nb: {c: 1, c: 2}\na: 2\n", "x").twice == [("c", 2), ("a", 3)]


def test_nothing_of_the_yaml_can_leave_its_comment() -> None:
    text = 'model_list: [{model_name: a, litellm_params: {model: "openai/a", "x\\nlisten = 1": 2}}]'
    chosen = config(imported("litellm", text))
    assert chosen.listen == "127.0.0.1:8000"


# --- LiteLLM --------------------------------------------------------------------------------------


def deployment(name: str, model: str, **params: object) -> str:
    said = ", ".join(f"{key}: {value}" for key, value in {"model": model, **params}.items())
    return f"  - {{model_name: {name}, litellm_params: {{{said}}}}}\n"


def test_a_strategy_becomes_the_one_that_does_the_same() -> None:
    for theirs, ours in {
        "simple-shuffle": "weighted_random",
        "least-busy": "least_requests",
        "latency-based-routing": "least_latency",
        "usage-based-routing": "usage_based",
        "usage-based-routing-v2": "usage_based",
    }.items():
        text = "model_list:\n" + deployment("a", "openai/a")
        text += f"router_settings: {{routing_strategy: {theirs}}}"
        assert config(imported("litellm", text)).strategy == ours
    draft = imported("litellm", text.replace("usage-based-routing-v2", "cost-based-routing"))
    assert lost(draft)["router_settings.routing_strategy"].startswith("there is no cost-based")


def test_several_deployments_of_one_upstream_name_share_it_with_their_weights() -> None:
    text = "model_list:\n" + "".join(
        deployment("m", "hosted_vllm/m", api_base=f"http://10.0.0.{n}:8000/v1", rpm=100 * n)
        for n in (1, 2)
    )
    chosen = config(imported("litellm", text))
    assert {
        name: (one.models, one.weight, one.limits.rpm) for name, one in chosen.providers.items()
    } == {
        "vllm-10-0-0-1-8000": (("m",), 100, 100),
        "vllm-10-0-0-2-8000": (("m",), 200, 200),
    }
    assert chosen.models == {}


def test_deployments_with_other_names_upstream_are_drawn_by_weight() -> None:
    text = "model_list:\n" + deployment("chat", "openai/gpt-4o", weight=3)
    text += deployment("chat", "groq/llama", weight=1)
    chosen = config(imported("litellm", text))
    assert chosen.models["chat"].targets == {"gpt-4o": 3, "llama": 1}


def test_groups_that_share_an_upstream_name_are_not_mixed() -> None:
    text = "model_list:\n"
    text += deployment("gpt-4o", "openai/gpt-4o", api_key="os.environ/A")
    text += deployment("team", "openai/gpt-4o", api_key="os.environ/B")
    text += deployment("pool", "openai/gpt-4o", api_key="os.environ/C")
    text += deployment("pool", "openai/gpt-4o", api_key="os.environ/D")
    chosen = config(imported("litellm", text))
    listing = [name for name, one in chosen.providers.items() if "gpt-4o" in one.models]
    assert [chosen.providers[name].api_key_env for name in listing] == ["A"]
    assert chosen.providers[str(chosen.models["team"].provider)].api_key_env == "B"
    pool = [chosen.models[name].provider for name in chosen.models["pool"].targets]
    assert [chosen.providers[str(name)].api_key_env for name in pool] == ["C", "D"]


def test_literal_keys_go_into_files_of_their_own_and_placeholders_nowhere() -> None:
    text = "model_list:\n"
    text += deployment("a", "openai/a", api_key="sk-aaaaaaaaaaaaaaaaaaaa1111")
    text += deployment("b", "openai/b", api_key="sk-bbbbbbbbbbbbbbbbbbbb2222")
    text += deployment("c", "openai/c", api_base="http://10.0.0.9:1/v1", api_key="not-needed")
    draft = imported("litellm", text)
    chosen = config(draft)
    keys = [one.api_key_file for one in chosen.providers.values()]
    assert keys == ["/etc/creche/openai.key", "/etc/creche/openai-2.key", None]
    assert (
        "put it into /etc/creche/openai-2.key"
        in lost(draft)["model_list[1].litellm_params.api_key"]
    )
    assert "sk-" not in draft.text([])


def test_credentials_and_addresses_come_from_where_the_file_keeps_them() -> None:
    text = (
        "model_list: [{model_name: a, litellm_params: "
        "{model: openai/a, litellm_credential_name: c}}]\n"
        "credential_list: [{credential_name: c, credential_values: "
        "{api_base: os.environ/BASE, api_key: os.environ/KEY}, credential_info: {}}]\n"
        "environment_variables: {BASE: 'http://u:p@10.0.0.9:9000/v1?key=1'}\n"
    )
    draft = imported("litellm", text)
    (provider,) = config(draft).providers.values()
    assert (provider.base_url, provider.api_key_env) == ("http://10.0.0.9:9000/v1", "KEY")
    assert "u:p" not in draft.text([])


def test_wildcards_become_patterns_the_longer_first() -> None:
    text = (
        "model_list:\n"
        + deployment('"*"', '"openai/*"')
        + deployment('"claude-*"', '"anthropic/claude-*"')
    )
    text += deployment('"*"', '"*"')
    draft = imported("litellm", text)
    assert [(one.match, one.provider, one.rewrite) for one in config(draft).patterns] == [
        (r"claude-(.*)", "anthropic", r"claude-\1"),
        ("(.*)", "openai", None),
    ]
    assert "name the providers" in lost(draft)["model_list[2]"]


def test_retries_timeouts_and_cooldowns_are_the_routers() -> None:
    text = "model_list:\n" + deployment("a", "openai/a")
    text += "litellm_settings: {num_retries: 9, request_timeout: 50}\n"
    text += (
        "router_settings: {num_retries: 3, allowed_fails: 2, cooldown_time: 45, stream_timeout: 20}"
    )
    chosen = config(imported("litellm", text))
    retry = chosen.retry
    assert (retry.attempts_per_target, retry.attempts_max) == (4, 12)
    assert (retry.error_cooldown, retry.error_cooldown_s, retry.rest_s) == (3, 45, 45)
    assert (chosen.timeouts.total_s, chosen.timeouts.first_event_s) == (50, 20)


def test_chains_keep_what_is_served_and_lead_nowhere_round() -> None:
    text = "model_list:\n" + "".join(deployment(name, f"openai/{name}") for name in "abc")
    text += "router_settings:\n  fallbacks: [{a: [b, nobody, a]}, {b: [c, a]}, {ghost: [a]}]\n"
    text += "  default_fallbacks: [c]\n"
    draft = imported("litellm", text)
    chosen = config(draft)
    assert chosen.models["a"].fallbacks == ("b",)
    assert chosen.models["b"].fallbacks == ("c",)
    assert chosen.default_fallbacks == ("c",)
    told = lost(draft)
    assert "nobody serves nobody" in told["router_settings.fallbacks[0].a[1]"]
    assert "itself" in told["router_settings.fallbacks[0].a[2]"]
    assert "b → a → b" in told["router_settings.fallbacks[1].b[1]"]
    assert told["router_settings.fallbacks[2].ghost"] == 'nobody serves "ghost"'


def test_an_alias_has_the_chain_of_its_group_unless_it_has_its_own() -> None:
    text = "model_list:\n" + "".join(deployment(name, f"openai/{name}") for name in "abc")
    text += deployment("pool", "openai/p1", weight=1) + deployment("pool", "groq/p2", weight=1)
    text += "router_settings:\n"
    text += "  routing_strategy: least-busy\n"
    text += "  model_group_alias: {one: a, own: a, of-pool: pool, bare: c}\n"
    text += "  fallbacks: [{a: [b, c]}, {own: [c]}, {pool: [a]}]\n"
    models = config(imported("litellm", text)).models
    assert {name: models[name].fallbacks for name in ("one", "own", "of-pool", "bare")} == {
        "one": ("b", "c"),
        "own": ("c",),
        "of-pool": ("a",),
        "bare": None,
    }


def names(draft: Draft, *asked: str) -> dict[str, tuple[str, list[str | None]]]:
    """How each name is resolved, and the providers that would be asked."""
    made = Names(config(draft))
    found = {}
    for name in asked:
        one = made.resolve(Asked(name), lambda _: False, lambda: 0.0)
        found[name] = (one.how, [target.provider for target in (*one.targets, *one.fallbacks)])
    return found


def test_what_was_left_out_is_never_sent_to_another_vendor_by_a_catch_all() -> None:
    text = "model_list:\n" + deployment("gemini", "gemini/gemini-1.5-pro")
    text += deployment("claude.3", "bedrock/claude")
    text += deployment('"vertex/*"', '"vertex_ai/*"')
    text += deployment('"vertex/open-*"', '"openai/*"')
    text += deployment('"*"', '"openai/*"') + deployment("a", "openai/a")
    text += "router_settings: {model_group_alias: {smart: gemini}, default_fallbacks: [a]}\n"
    draft = imported("litellm", text)
    assert names(draft, "gemini", "claude.3", "smart", "vertex/x", "vertex/open-x", "claude-3") == {
        "gemini": ("pattern", []),
        "claude.3": ("pattern", []),
        "smart": ("pattern", []),
        "vertex/x": ("pattern", []),
        "vertex/open-x": ("pattern", ["openai", None]),
        "claude-3": ("pattern", ["openai", None]),
    }
    (note,) = (one for one in draft.notes if "unserved" in one)
    assert note.startswith("gemini, claude.3, vertex/*, smart: nobody serves them yet")


def test_where_nothing_would_catch_it_what_was_left_out_leaves_no_trace() -> None:
    text = "model_list:\n" + deployment("gemini", "gemini/gemini-1.5-pro")
    text += deployment("a", "openai/a") + deployment('"groq/*"', '"groq/*"')
    draft = imported("litellm", text)
    assert list(config(draft).providers) == ["openai", "groq"]
    assert names(draft, "gemini") == {"gemini": ("none", [])}
    assert imported("litellm", text + "general_settings: {completion_model: a}").patterns[0] == {
        "match": "gemini",
        "provider": "not-imported",
        "fallbacks": [],
    }


def test_what_is_not_carried_over_is_told_by_the_words_of_its_file() -> None:
    text = "model_list:\n" + deployment("m", "openai/m1", timeout=120, stream_timeout=30)
    text += deployment("m", "groq/m2", timeout=60)
    text += "router_settings: {routing_strategy: least-busy, timeout: 45}\n"
    text += "general_settings: {master_key: sk-1234}\n"
    told = lost(imported("litellm", text))
    params = "model_list[0].litellm_params"
    assert told[f"{params}.timeout"].endswith("total_s = 45 of [timeouts] holds")
    assert told[f"{params}.stream_timeout"].endswith("first_event_s = 60 of [timeouts] holds")
    assert "model_list[1].litellm_params.timeout" in told
    assert (
        "whoever reaches the router's port uses the providers' keys"
        in told["general_settings.master_key"]
    )
    shuffled = lost(imported("litellm", text.replace("least-busy", "simple-shuffle")))
    assert shuffled[f"{params}.timeout"].endswith("total_s = 45 of [timeouts] holds")


def test_what_has_no_counterpart_is_told_with_its_path() -> None:
    text = "model_list:\n" + deployment("a", "openai/a", temperature=0.2, strange=1)
    text += deployment("b", "bedrock/b") + "guardrails: []\nunheard_of: {}\n"
    told = lost(imported("litellm", text))
    assert list(told) == [
        "model_list[0].litellm_params.temperature",
        "model_list[0].litellm_params.strange",
        "model_list[1]",
        "guardrails",
        "unheard_of",
    ]


@pytest.mark.parametrize("data", [{"models": []}, {}])
def test_what_is_no_litellm_file_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(CtlError, match="no configuration of LiteLLM"):
        litellm.convert([Yaml("x.yaml", data, [])])


@pytest.mark.parametrize(
    "junk",
    ["5", "[]", "[5, null]", "{a: 1}", "[{model_name: [], litellm_params: 3}]", '""', "true"],
)
@pytest.mark.parametrize(
    "key", ["router_settings", "litellm_settings", "general_settings", "model_list"]
)
def test_what_has_the_wrong_type_is_told_and_breaks_nothing(key: str, junk: str) -> None:
    text = "" if key == "model_list" else "model_list: []\n"
    draft = imported("litellm", f"{text}{key}: {junk}\n")
    assert draft.text([])


# --- the older backend's files --------------------------------------------------------------------

TWO = """
providers:
  a: {type: vllm, base_url: "http://10.0.0.1:8000", models: [m, n]}
  b: {type: ollama, base_url: "http://10.0.0.2:11434", models: [m]}
"""


@pytest.mark.parametrize("kind", [*PRESETS, "openai_compatible"])
def test_limits_that_were_on_without_numbers_take_the_types_preset(kind: str) -> None:
    text = (
        f"providers: {{p: {{type: {kind}, base_url: 'https://h', models: [m], rate_limits: true}}}}"
    )
    limits = config(imported("providers", text)).providers["p"].limits
    assert (limits.rpm, limits.tpm) == PRESETS.get(kind, (100, 50_000))


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("", (None, None)),
        ("rate_limits: false", (None, None)),
        ("rate_limits: {enabled: false, rpm: 5}", (None, None)),
        ("rate_limits: {rpm: 5}", (5, None)),
        ("rate_limits: {requests_per_minute: 5, tokens_per_minute: 6}", (5, 6)),
        ("rate_limits: {enabled: true}", (50, 100_000)),
    ],
)
def test_limits_are_on_only_where_a_file_turned_them_on(said: str, wanted: tuple[Any, Any]) -> None:
    inside = "type: vllm, base_url: 'http://h:1', models: [m]" + (f", {said}" if said else "")
    limits = config(imported("providers", f"providers: {{p: {{{inside}}}}}")).providers["p"].limits
    assert (limits.rpm, limits.tpm) == wanted


@pytest.mark.parametrize(
    "said",
    [
        "env_var: sk-lab-0123456789abcdef0123",
        "api_key: sk-lab-0123456789abcdef0123",
        "description: the key is sk-lab-0123456789abcdef0123",
        "region: gsk_0123456789abcdef0123",
        "base_url: 'https://me:hunter2hunter2@cloud.example/v1?api_key=0123456789abcdef0123'",
    ],
)
def test_a_key_is_written_nowhere_wherever_it_stood(said: str) -> None:
    text = f"providers: {{p: {{type: openai, base_url: 'https://h/v1', models: [m], {said}}}}}"
    draft = imported("providers", text)
    config(draft)
    assert "0123456789abcdef0123" not in draft.text([])
    assert "hunter2" not in draft.text([])


def test_limits_at_the_top_hold_for_every_provider() -> None:
    text = TWO + "rate_limits: {enabled: true, providers: {a: {rpm: 7}}}\n"
    chosen = config(imported("providers", text))
    assert chosen.providers["a"].limits.rpm == 7
    assert (chosen.providers["b"].limits.rpm, chosen.providers["b"].limits.tpm) == (100, 50_000)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((0.7, 0.3), None),
        ((0.7, 0.305), None),
        ((0.7, 0.4), "the weights sum to 1.1"),
        ((1.0,), "weights want at least two"),
    ],
)
def test_weights_sum_to_one_over_two_or_it_is_told(
    weights: tuple[float, ...], said: str | None
) -> None:
    rows = ", ".join(
        f"{{provider: {name}, weight: {weight}}}"
        for name, weight in zip("ab", weights, strict=False)
    )
    draft = imported("providers", TWO, f"load_balancing: {{m: {{providers: [{rows}]}}}}")
    told = lost(draft).get("mappings.yaml: load_balancing.m.providers")
    assert (told or "").startswith(said or "")
    assert bool(told) == bool(said)
    assert list(config(draft).models["m"].targets.values()) == list(weights)


def test_a_measuring_strategy_chooses_among_providers_that_list_the_name() -> None:
    rows = "[{provider: a, weight: 0.5}, {provider: b, weight: 0.5}]"
    text = f"load_balancing: {{n: {{providers: {rows}, strategy: least_loaded}}}}"
    chosen = config(imported("providers", TWO, text))
    assert chosen.models["n"].strategy == "least_loaded"
    assert "n" in chosen.providers["b"].models


def test_a_fallback_that_is_a_provider_is_told_and_left_out() -> None:
    draft = imported("providers", TWO, "exact_matches: {n: {provider: a, fallback: b}}")
    assert "never a provider: b" in lost(draft)["mappings.yaml: exact_matches.n.fallback"]
    assert config(draft).models == {}


def test_a_model_of_an_inactive_provider_is_told_and_no_chain_names_it() -> None:
    text = TWO.replace("models: [m]", "models: [m, cloud], status: disabled")
    more = "exact_matches: {cloud: {provider: b}}\nfallback_chains: {n: {chain: [cloud]}}\n"
    draft = imported("providers", text, more)
    told = lost(draft)
    assert "not active" in told["mappings.yaml: exact_matches.cloud"]
    assert "nobody serves cloud" in told["mappings.yaml: fallback_chains.n.chain[0]"]
    assert config(draft).models == {}


def test_a_model_of_an_inactive_provider_does_not_go_to_the_default_one() -> None:
    text = TWO.replace("models: [m]", "models: [m, cloud], status: disabled")
    more = "exact_matches: {cloud: {provider: b}}\nrouting_rules: {default_provider: a}\n"
    draft = imported("providers", text, more)
    assert names(draft, "cloud", "other") == {
        "cloud": ("pattern", []),
        "other": ("pattern", ["a"]),
    }
    assert any(one.startswith("cloud: kept unserved") for one in draft.notes)


def test_unknown_names_go_to_the_default_provider_by_the_last_pattern() -> None:
    text = "patterns: [{pattern: '^x', provider: a}]\nrouting_rules: {default_provider: b}\n"
    chosen = config(imported("providers", TWO, text))
    assert [(one.match, one.provider) for one in chosen.patterns] == [("x.*", "a"), (".*", "b")]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("^a/.*", "a/.*"), ("^a/", "a/.*"), (".*b$", ".*b"), (r"a\$", r"a\$.*"), (r"a\\$", r"a\\")],
)
def test_a_pattern_that_matched_a_beginning_matches_whole_names(theirs: str, ours: str) -> None:
    assert whole(theirs) == ours


def test_rules_are_kept_to_the_names_that_their_provider_lists() -> None:
    text = (
        "routing_rules: {request_metadata_routing: {fast: {provider: a, "
        "condition: 'header.X-Priority == \"high\"'}, "
        "many: {provider: a, condition: 'batch_size > 1'}}}"
    )
    chosen = config(imported("providers", TWO, text))
    fast, many = chosen.rules
    assert (fast.when.model, fast.when.header, fast.provider) == (
        "m|n",
        {"x-priority": "high"},
        "a",
    )
    assert many.when.batch_min == 2


@pytest.mark.parametrize("junk", ["5", "[]", "[5]", "{x: 1}", "{x: {providers: [1]}}", '"text"'])
@pytest.mark.parametrize(
    "key",
    [
        *("exact_matches", "patterns", "capabilities", "load_balancing", "fallback_chains"),
        *("routing_rules", "special_cases", "health_checks", "rate_limits"),
    ],
)
def test_mappings_of_the_wrong_type_are_told_and_break_nothing(key: str, junk: str) -> None:
    draft = imported("providers", TWO, f"{key}: {junk}\n")
    assert draft.lost or junk == "[]"
    config(draft)
