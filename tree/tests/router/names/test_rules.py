"""Rules: each condition alone, all together, and the order of the file."""

import pytest

from router.named import Rule, When
from router.names.rules import Conditions
from tests.router.names.asking import Asked, names, resolve, shown, way


def holds(when: When, model: str | None = "qwen3-8b", **asked: object) -> bool:
    conditions = Conditions(Rule(when=when, model="m"), 0)
    request = Asked(model, **asked)  # type: ignore[arg-type]
    return conditions.may(model) and conditions.held(request) is not None


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        (When(model="qwen.*"), {"model": "qwen3-8b"}, {"model": "my-qwen3-8b"}),
        (When(model="qwen.*"), {"model": "qwen"}, {"model": None}),
        (When(header={"X-Team": "a"}), {"headers": {"x-team": "a"}}, {"headers": {"x-team": "b"}}),
        (When(header={"x-team": "a"}), {"headers": {"x-team": "a"}}, {}),
        (When(stream=True), {"stream": True}, {"stream": False}),
        (When(stream=False), {"stream": False}, {"stream": True}),
        (When(batch_min=8), {"batch": 8}, {"batch": 7}),
        (When(batch_max=8), {"batch": 8}, {"batch": 9}),
        (When(prompt_tokens_min=100), {"tokens": 100}, {"tokens": 99}),
        (When(prompt_tokens_max=0), {"tokens": 0}, {"tokens": 1}),
        (When(model_size="<8B"), {"model": "qwen3-4b"}, {"model": "qwen3-8b"}),
        (When(model_size="8B-13B"), {"model": "llama-13b"}, {"model": "mixtral-8x7b"}),
        (When(model_size=">13B"), {"model": "mixtral-8x7b"}, {"model": "llama-13b"}),
        (When(model_size="<8B"), {"model": "qwen3-4b"}, {"model": "gpt-4o"}),
        (When(model_size="<8B"), {"model": "qwen3-4b"}, {"model": None}),
    ],
)
def test_each_condition(when: When, yes: dict[str, object], no: dict[str, object]) -> None:
    assert holds(when, **yes)  # type: ignore[arg-type]
    assert not holds(when, **no)  # type: ignore[arg-type]


def test_all_that_are_set_must_hold() -> None:
    when = When(
        model="qwen.*",
        header={"x-team": "a", "x-tier": "1"},
        stream=False,
        batch_min=2,
        batch_max=4,
        prompt_tokens_min=10,
        prompt_tokens_max=20,
        model_size="<13B",
    )
    well: dict[str, object] = {
        "headers": {"x-team": "a", "x-tier": "1"},
        "batch": 3,
        "tokens": 15,
    }
    assert holds(when, **well)  # type: ignore[arg-type]
    spoilt: list[dict[str, object]] = [
        {"model": "llama-8b"},
        {"model": "qwen-13b"},
        {"headers": {"x-team": "a"}},
        {"headers": {"x-tier": "1"}},
        {"stream": True},
        {"batch": 1},
        {"batch": 5},
        {"tokens": 9},
        {"tokens": 21},
    ]
    for one in spoilt:
        assert not holds(when, **{**well, **one}), one  # type: ignore[arg-type]


def test_a_rule_without_conditions_holds_for_everything() -> None:
    assert holds(When())
    assert holds(When(), None)


RULES = """
[[rules]]
name = "embeddings in bulk"
when = { batch_min = 8, header = { X-Team = "search" } }
model = "bulk"

[[rules]]
when = { stream = true }
model = "fast"

[[rules]]
when = { stream = true, batch_min = 2 }
model = "never"

[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
"""


def test_the_first_that_holds_counts_and_says_what_held() -> None:
    found = names(RULES)
    both = resolve(found, "qwen", batch=9, stream=True, headers={"x-team": "search"})
    assert way(both) == ("rule", ["bulk"], [])
    assert both.why == ("rule embeddings in bulk (X-Team is search, 9 in one request) → bulk")
    assert both.path == ("rules", 0)
    assert both.name == "qwen"
    one = resolve(found, "qwen", batch=9, stream=True)
    assert way(one) == ("rule", ["fast"], [])
    assert one.why == "rule 2 (it streams) → fast"
    assert resolve(found, "qwen", listed=["qwen"], batch=9).how == "exact"


def test_a_rule_goes_before_an_entry_of_the_same_name() -> None:
    text = RULES + '[models.qwen]\nbackend_model = "q"\n[models.fast]\nbackend_model = "f"'
    found = resolve(text, "qwen", stream=True)
    assert way(found) == ("rule", ["f"], [])
    assert found.why == "rule 2 (it streams) → fast; fast is an alias → f"
    assert found.path == ("rules", 1), "the rule fired, wherever it led"


def test_a_rule_may_send_to_a_provider_under_the_asked_name() -> None:
    text = """
[[rules]]
when = { header = { x-cloud = "1" } }
provider = "openai"
[[rules]]
when = { header = { x-cloud = "2" } }
provider = "away"
fallbacks = ["spare"]
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
[providers.away]
type = "openai"
base_url = "https://away.example/v1"
status = "pending_integration"
"""
    found = names(text)
    asked = resolve(found, "gpt-4o", headers={"x-cloud": "1"})
    assert way(asked) == ("rule", ["gpt-4o at openai"], [])
    assert asked.why == "rule 1 (x-cloud is 1) → openai"
    away = resolve(found, "gpt-4o", headers={"x-cloud": "2"})
    assert way(away) == ("rule", [], ["spare"])
    assert away.why == "rule 2 (x-cloud is 2) → away; away is pending_integration"


def test_a_request_without_a_model_goes_by_rules_that_want_none() -> None:
    text = """
[[rules]]
when = { model = ".*", stream = true }
model = "named"
[[rules]]
when = { stream = true }
model = "streaming"
[[rules]]
when = { header = { x = "1" } }
provider = "openai"
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
"""
    found = names(text)
    assert way(resolve(found, None, stream=True)) == ("rule", ["streaming"], [])
    assert resolve(found, None, stream=True).name == ""
    assert way(resolve(found, "a", stream=True)) == ("rule", ["named"], [])
    at = resolve(found, None, headers={"x": "1"})
    assert [(one.models, one.provider) for one in at.targets] == [((), "openai")]
    assert resolve(found, None).how == "any"
    assert resolve(found, None).varies


def test_a_prompt_is_measured_only_where_a_rule_wants_it() -> None:
    class Unread:
        stream = False

        def prompt(self) -> None:
            raise AssertionError("nobody asked")

    asked = Asked("qwen")
    asked.envelope = Unread()  # type: ignore[assignment]
    text = RULES + '[[rules]]\nwhen = { model = "other", prompt_tokens_min = 1 }\nmodel = "x"'
    text = text.replace("when = { batch_min = 8, header", "when = { header")
    found = names(text).resolve(asked, lambda name: True, lambda: 0.0)
    assert shown(found.targets) == ["qwen"]
