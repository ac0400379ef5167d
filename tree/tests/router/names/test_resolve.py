"""Rules, exact, capability, pattern, default: which of them a name resolves by, and to what."""

import pytest

from router.names.target import NO_TIMEOUTS
from tests.router.names.asking import names, resolve, shown, way

CLOUD = """
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
models = ["gpt-4o-mini"]

[providers.azure]
type = "openai_compatible"
base_url = "https://azure.example/v1"
status = "disabled"
models = ["gpt-azure"]
"""


def test_a_listed_name_stands_for_itself() -> None:
    found = resolve("", "qwen3-8b", listed=["qwen3-8b"])
    assert way(found) == ("exact", ["qwen3-8b"], [])
    assert found.why == "qwen3-8b is listed by name"
    assert found.path == ()


def test_a_name_that_nobody_lists_resolves_to_nothing() -> None:
    found = resolve("", "qwen3-8b")
    assert way(found) == ("none", [], [])
    assert found.why == "nothing is called qwen3-8b"


def test_a_default_chain_gives_no_answer_to_names_that_do_not_exist() -> None:
    assert way(resolve('default_fallbacks = ["big"]', "qwne3-8b")) == ("none", [], [])


def test_a_request_without_a_model_may_go_anywhere() -> None:
    found = resolve('default = "small"\ndefault_fallbacks = ["big"]', None)
    assert found.how == "any"
    assert [(one.models, one.provider) for one in found.targets] == [((), None)]
    assert found.fallbacks == ()
    assert resolve("", None).targets[0] is found.targets[0]


def test_names_of_active_providers_and_expected_ones_need_no_upstream_yet() -> None:
    text = 'expect = ["llama"]\npatterns = [{ match = ".*", provider = "openai" }]\n' + CLOUD
    found = resolve(text, "gpt-4o-mini")
    assert way(found) == ("exact", ["gpt-4o-mini"], [])
    assert found.why == "gpt-4o-mini is listed by openai"
    assert found.path == ("providers", "openai", "models", 0)
    found = resolve(text, "llama")
    assert way(found) == ("exact", ["llama"], [])
    assert found.path == ("expect", 0)
    found = resolve(text, "gpt-azure")
    assert found.how == "pattern", "a disabled provider lists nothing"


PRECEDENCE = (
    """
default = "d"
rules = [{ name = "vip", when = { header = { "X-Team" = "vip" } }, model = "r" }]
patterns = [{ match = "code.*", provider = "openai" }]
"""
    + CLOUD
    + """
[capabilities.coding]
models = ["c"]
"""
)


def test_precedence_step_by_step() -> None:
    """The same name, and each step taken away from it in turn."""
    found = names(PRECEDENCE)
    vip = {"x-team": "vip"}
    assert way(resolve(found, "coding", listed=["coding"], headers=vip))[:2] == ("rule", ["r"])
    assert way(resolve(found, "coding", listed=["coding"]))[:2] == ("exact", ["coding"])
    assert way(resolve(found, "coding"))[:2] == ("capability", ["c"])
    assert way(resolve(found, "code"))[:2] == ("pattern", ["code at openai"])
    assert way(resolve(found, "chat"))[:2] == ("default", ["d"])


def test_a_models_entry_goes_before_capability_and_pattern() -> None:
    text = PRECEDENCE + '[models.coding]\nbackend_model = "m"\n'
    assert way(resolve(text, "coding"))[:2] == ("exact", ["m"])


def test_an_alias_is_asked_for_under_its_backend_name() -> None:
    found = resolve('[models.fast]\nbackend_model = "qwen3-8b"', "fast")
    assert way(found) == ("exact", ["qwen3-8b"], [])
    assert found.why == "fast is an alias → qwen3-8b"
    assert found.path == ("models", "fast", "backend_model")


def test_an_alias_of_an_alias_leads_to_the_real_one() -> None:
    text = '[models.a]\nbackend_model = "b"\n[models.b]\nbackend_model = "c"'
    found = resolve(text, "a")
    assert shown(found.targets) == ["c"]
    assert found.why == "a is an alias → b; b is an alias → c"


def test_a_provider_is_asked_alone_under_its_own_name_or_the_asked_one() -> None:
    text = CLOUD + (
        '[models.smart]\nprovider = "openai"\nbackend_model = "gpt-4o"\n'
        '[models.o3]\nprovider = "openai"\n'
    )
    found = resolve(text, "smart")
    assert shown(found.targets) == ["gpt-4o at openai"]
    assert found.why == "smart → gpt-4o at openai"
    assert found.path == ("models", "smart", "provider")
    assert shown(resolve(text, "o3").targets) == ["o3 at openai"]


@pytest.mark.parametrize("provider", ["azure", "nobody"])
def test_a_provider_that_is_not_active_leaves_the_chain(provider: str) -> None:
    entry = f'[models.smart]\nprovider = "{provider}"\nfallbacks = ["gpt-4o-mini"]'
    found = resolve(CLOUD + entry, "smart")
    assert way(found) == ("exact", [], ["gpt-4o-mini"])
    status = "disabled" if provider == "azure" else "unknown"
    assert found.why == f"smart → smart at {provider}, which is {status}"


def test_settings_of_a_real_model_stay_with_it() -> None:
    text = """
prefer_warm_ms = 500
[models.qwen]
strategy = "prefix"
prefer_warm_ms = 2_000
timeouts = { first_event_s = 5, total_s = 50 }
limits = { rpm = 10 }
"""
    (target,) = resolve(text, "qwen").targets
    assert target.strategy == "prefix"
    assert target.prefer_warm_s == 2.0
    assert (target.timeouts.first_event_s, target.timeouts.total_s) == (5, 50)
    assert [(name, limits.rpm) for name, limits in target.limited] == [("qwen", 10)]
    (other,) = resolve(text, "other", listed=["other"]).targets
    assert (other.strategy, other.prefer_warm_s, other.timeouts) == (None, 0.5, NO_TIMEOUTS)


def test_an_alias_overrides_field_by_field_and_its_limits_add_up() -> None:
    text = """
[models.fast]
backend_model = "qwen"
timeouts = { total_s = 9, comment_every_s = 0 }
hedge_after_ms = 0
prefer_warm_ms = 0
limits = { rpm = 1 }
[models.qwen]
strategy = "prefix"
prefer_warm_ms = 2_000
timeouts = { first_event_s = 5, total_s = 50, comment_every_s = 15 }
hedge_after_ms = 500
limits = { rpm = 10 }
"""
    (target,) = resolve(text, "fast").targets
    assert target.strategy == "prefix"
    assert target.prefer_warm_s == 0.0
    assert (target.timeouts.first_event_s, target.timeouts.total_s) == (5, 9)
    assert (target.timeouts.comment_every_s, target.hedge_after_s) == (0, 0.0)
    assert [(name, limits.rpm) for name, limits in target.limited] == [("fast", 1), ("qwen", 10)]
    (target,) = resolve(text, "qwen").targets
    assert target.hedge_after_s == 0.5
    assert target.timeouts.total_s == 50, "the alias changes nothing for the model itself"


def test_a_pattern_rewrites_and_asks_its_provider() -> None:
    text = r"""
patterns = [
  { match = 'claude-(.*)', provider = "nobody", fallbacks = ["gpt-4o-mini"] },
  { match = 'gpt-(\d)(.*)', provider = "openai", rewrite = 'openai/gpt-\1\2' },
  { match = 'gpt-.*', provider = "azure" },
]
"""
    found = names(text + CLOUD)
    first = resolve(found, "gpt-4o")
    assert way(first) == ("pattern", ["openai/gpt-4o at openai"], [])
    assert first.path == ("patterns", 1)
    assert first.why == r"gpt-4o is like gpt-(\d)(.*) → openai/gpt-4o at openai"
    assert way(resolve(found, "gpt-oss")) == ("pattern", [], []), "a disabled one has no target"
    assert way(resolve(found, "claude-x")) == ("pattern", [], ["gpt-4o-mini"])
    assert resolve(found, "my-gpt-4o").how == "none", "the whole name must match"


def test_the_default_serves_with_its_own_entry_and_chain() -> None:
    text = """
default = "small"
default_fallbacks = ["big"]
[models.small]
backend_model = "qwen3-8b"
fallbacks = ["spare"]
"""
    found = resolve(text, "unheard-of")
    assert way(found) == ("default", ["qwen3-8b"], ["spare"])
    assert found.name == "unheard-of"
    assert found.why == (
        "nothing is called unheard-of, the default serves; small is an alias → qwen3-8b"
    )
    assert found.path == ("default",)
    assert not any(one.fallback for one in found.targets)


def test_targets_are_the_same_objects_from_request_to_request() -> None:
    """Pools hang on them."""
    text = PRECEDENCE + '[models.mix]\ntargets = { a = 1, b = 1 }\nfallbacks = ["coding"]'
    found = names(text)
    for model in ("mix", "coding", "code", "chat", "listed", "gpt-4o-mini"):
        for headers in ({}, {"x-team": "vip"}):
            one = resolve(found, model, listed=["listed"], headers=headers)
            two = resolve(found, model, listed=["listed"], headers=headers)
            assert [*one.targets, *one.fallbacks] == [*two.targets, *two.fallbacks]


def test_what_is_the_same_for_every_request_says_so() -> None:
    text = (
        """
default_fallbacks = ["gpt-4o-mini"]
"""
        + CLOUD
        + """
[models.fast]
backend_model = "qwen"
[models.one]
targets = { only = 1 }
[models.mix]
targets = { a = 1, b = 1 }
[models.spared]
fallbacks = ["mix"]
"""
    )
    found = names(text)
    steady = ["fast", "one", "qwen", "gpt-4o-mini", "unheard-of", None]
    assert [found.depends(name) for name in steady] == [False] * 6
    assert found.depends("mix")
    assert found.depends("spared"), "its chain draws"
    assert resolve(found, "mix").varies
    assert not resolve(found, "fast").varies


def test_a_rule_makes_only_those_names_depend_that_it_could_catch() -> None:
    text = """
[[rules]]
when = { model = "gpt-.*", stream = true }
model = "a"
[[rules]]
when = { model_size = "<8B" }
model = "b"
"""
    found = names(text)
    assert found.depends("gpt-4o")
    assert not found.depends("qwen-70b")
    assert not found.depends("qwen-7b"), "the name alone decides, always alike"
    assert way(resolve(found, "qwen-7b")) == ("rule", ["b"], [])
    assert resolve(found, "gpt-4o", stream=True).how == "rule"
    assert resolve(found, "gpt-4o").varies, "it would have been another with stream"


def test_names_out_of_number_are_not_kept() -> None:
    text = 'patterns = [{ match = "gpt-.*", provider = "openai" }]\n' + CLOUD
    found = names(text)
    first = resolve(found, "gpt-0")
    for number in range(1, 5_000):
        resolve(found, f"gpt-{number}")
    assert resolve(found, "gpt-0").targets[0] is not first.targets[0], "it was forgotten"
