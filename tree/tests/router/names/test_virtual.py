"""Virtual models with weights, and capabilities: who is asked first, and who then."""

from collections import Counter
from itertools import cycle

import pytest

from tests.router.names.asking import Asked, names, resolve, shown, way

CODE = '[models.code]\ntargets = { "qwen3-coder" = 9, "llama-3.3-70b" = 1 }'


@pytest.mark.parametrize(
    ("dice", "first"),
    [
        (0.0, "qwen3-coder"),
        (0.89, "qwen3-coder"),
        (0.91, "llama-3.3-70b"),
        (0.999, "llama-3.3-70b"),
    ],
)
def test_one_is_drawn_by_its_weight_and_the_other_follows(dice: float, first: str) -> None:
    found = resolve(CODE, "code", dice=dice)
    assert shown(found.targets)[0] == first
    assert sorted(shown(found.targets)) == ["llama-3.3-70b", "qwen3-coder"]


def test_it_says_what_was_drawn_and_where_the_file_says_so() -> None:
    found = resolve(CODE, "code")
    assert found.why == "code is virtual → qwen3-coder (weight 9 of 10)"
    assert found.path == ("models", "code", "targets")
    assert found.varies


def test_the_others_follow_by_weight_too() -> None:
    text = "[models.m]\ntargets = { a = 2, b = 5, c = 3 }"
    rolls = cycle([0.0, 0.7])
    found = resolve(text, "m", dice=lambda: next(rolls))
    assert shown(found.targets) == ["a", "c", "b"], "of b 5 and c 3, 0.7 falls on c"


def test_a_session_keeps_its_model_whatever_the_dice_say() -> None:
    found = names(CODE)
    for session in range(50):
        orders = {
            tuple(shown(resolve(found, "code", key=f"s{session}", dice=dice).targets))
            for dice in (0.0, 0.5, 0.999)
        }
        assert len(orders) == 1


def test_sessions_are_shared_out_by_weight() -> None:
    found = names(CODE)
    firsts = Counter(
        resolve(found, "code", key=f"session-{n}").targets[0].models[0] for n in range(2_000)
    )
    assert 0.87 < firsts["qwen3-coder"] / 2_000 < 0.93


def test_a_model_that_leaves_moves_only_its_own_sessions() -> None:
    three = names("[models.m]\ntargets = { a = 1, b = 1, c = 1 }")
    two = names("[models.m]\ntargets = { a = 1, b = 1 }")
    for n in range(300):
        before = resolve(three, "m", key=str(n)).targets[0].models[0]
        after = resolve(two, "m", key=str(n)).targets[0].models[0]
        assert before in ("c", after)


def test_a_target_with_an_entry_of_its_own_leads_where_that_says() -> None:
    text = """
[models.code]
targets = { fast = 1, big = 1 }
strategy = "prefix"
[models.fast]
backend_model = "qwen"
timeouts = { total_s = 7 }
[models.big]
targets = { llama = 1, qwen = 1 }
"""
    found = resolve(text, "code", dice=0.0)
    assert shown(found.targets) == ["qwen", "llama"], "what two lead to is asked once"
    assert [one.strategy for one in found.targets] == ["prefix", "prefix"]
    assert found.targets[0].timeouts.total_s == 7
    assert found.why == "code is virtual → fast (weight 1 of 2); fast is an alias → qwen"


def test_a_target_whose_provider_is_not_active_is_passed_over() -> None:
    text = """
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
status = "disabled"
[models.code]
targets = { cloud = 9, qwen = 1 }
[models.cloud]
provider = "openai"
"""
    found = resolve(text, "code", dice=0.0)
    assert shown(found.targets) == ["qwen"]
    assert found.why == (
        "code is virtual → cloud (weight 9 of 10); cloud → cloud at openai, which is disabled"
    )


def test_a_target_of_its_own_name_is_what_upstreams_list() -> None:
    found = resolve("[models.qwen]\ntargets = { qwen = 9, qwen-next = 1 }", "qwen")
    assert shown(found.targets) == ["qwen", "qwen-next"]


def test_a_capability_is_one_pool_over_its_models() -> None:
    text = '[capabilities.coding]\nmodels = ["a", "b"]\nstrategy = "least_latency"'
    found = resolve(text, "coding")
    assert way(found) == ("capability", ["a|b"], [])
    assert found.targets[0].strategy == "least_latency"
    assert found.why == "coding is a capability → a, b by least_latency"
    assert not found.varies


def test_by_priority_a_capability_keeps_the_order_of_its_models() -> None:
    found = resolve('[capabilities.coding]\nmodels = ["a", "b"]', "coding")
    assert shown(found.targets) == ["a", "b"]
    assert found.why == "coding is a capability → a (first of 2)"
    assert found.path == ("capabilities", "coding", "models")
    assert not found.varies


def test_members_of_a_capability_are_pooled_under_their_backends_names() -> None:
    text = """
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
[capabilities.coding]
models = ["fast", "b", "cloud", "slow", "mix"]
strategy = "least_requests"
[models.fast]
backend_model = "a"
[models.cloud]
provider = "openai"
[models.slow]
timeouts = { total_s = 3_600 }
[models.mix]
targets = { c = 1, d = 1 }
"""
    found = resolve(text, "coding")
    assert shown(found.targets) == ["a|b", "cloud at openai", "slow", "c|d"]
    assert [one.timeouts.total_s for one in found.targets] == [None, None, 3_600, None]
    assert all(one.strategy == "least_requests" for one in found.targets)


def test_a_capability_may_choose_the_model() -> None:
    text = """
[capabilities.chat]
models = ["s", "m", "l"]
strategy = "complexity_based"
levels = { low = "s", medium = "m", high = "l" }
"""
    found = names(text)
    assert shown(resolve(found, "chat", tokens=10).targets) == ["s", "m", "l"]
    assert shown(resolve(found, "chat", tokens=500).targets) == ["l", "s", "m"]
    assert resolve(found, "chat", tokens=500).why == (
        "chat is a capability → l (high: 500 prompt tokens, above 100)"
    )
    assert resolve(found, "chat", tokens=500).path == ("capabilities", "chat", "levels", "high")


def test_own_upstreams_of_the_targets_are_asked_how_busy_they_are() -> None:
    text = """
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
[models.m]
strategy = "adaptive_weighted"
targets = { fast = 9, cloud = 1 }
weights = [{ when = "local_saturated", targets = { cloud = 1 } }]
[models.fast]
backend_model = "qwen"
[models.cloud]
provider = "openai"
backend_model = "gpt-4o"
"""
    found = names(text)
    asked = Asked("m", busy=0.81)
    resolution = found.resolve(asked, lambda name: False, lambda: 0.0)
    assert asked.measured == [("qwen",)], "no provider, and under the name that upstreams list"
    assert shown(resolution.targets) == ["gpt-4o at openai", "qwen"]
    assert resolution.why == (
        "m is virtual → cloud (weight 1 of 1: own upstreams 81% busy, above 80%); "
        "cloud → gpt-4o at openai"
    )
    assert resolution.path == ("models", "m", "weights", 0)


@pytest.mark.parametrize(
    "text",
    [
        '[models.a]\nbackend_model = "b"\n[models.b]\nbackend_model = "a"',
        "[models.a]\ntargets = { a = 1 }",
        "[models.a]\ntargets = { b = 1, c = 1 }\n[models.b]\ntargets = { a = 1, c = 1 }\n"
        "[models.c]\ntargets = { a = 1, b = 1 }",
        '[models.a]\nbackend_model = "c"\n[capabilities.c]\nmodels = ["a"]\nstrategy = "prefix"',
        "\n".join(f'[models.a{n or ""}]\nbackend_model = "a{n + 1}"' for n in range(2_000)),
    ],
)
def test_what_check_would_refuse_still_ends(text: str) -> None:
    found = resolve(text, "a")
    assert found.targets


def test_names_that_share_members_many_levels_deep_stay_cheap() -> None:
    """Two members each, twelve levels: 4,096 ways to the same two models."""
    levels = [
        f"[models.l{n}{side}]\ntargets = {{ l{n + 1}a = 1, l{n + 1}b = 1 }}"
        for n in range(12)
        for side in "ab"
    ]
    found = resolve("\n".join(levels), "l0a")
    assert sorted(shown(found.targets)) == ["l12a", "l12b"]
