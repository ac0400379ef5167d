"""What follows when nothing of what was asked for can be had."""

from tests.router.names.asking import names, resolve, shown, way


def test_an_own_chain_stands_in_the_place_of_the_default_one() -> None:
    text = """
default_fallbacks = ["spare", "last"]
[models.a]
fallbacks = ["b"]
[models.terminal]
fallbacks = []
[models.aliased]
backend_model = "a"
"""
    found = names(text)
    assert way(resolve(found, "a")) == ("exact", ["a"], ["b"])
    assert way(resolve(found, "terminal")) == ("exact", ["terminal"], [])
    assert way(resolve(found, "x", listed=["x"])) == ("exact", ["x"], ["spare", "last"])
    assert shown(resolve(found, "aliased").fallbacks) == ["spare", "last"], "an alias has its own"


def test_fallbacks_say_that_they_stand_in_and_targets_do_not() -> None:
    text = '[models.code]\ntargets = { a = 1, b = 1 }\nfallbacks = ["c"]'
    found = resolve(text, "code")
    assert [one.fallback for one in (*found.targets, *found.fallbacks)] == [False, False, True]


def test_a_member_is_asked_as_its_own_entry_says() -> None:
    text = """
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
[models.a]
timeouts = { total_s = 1 }
strategy = "prefix"
fallbacks = ["cloud", "mix"]
[models.cloud]
provider = "openai"
backend_model = "gpt-4o"
strategy = "direct"
timeouts = { total_s = 30 }
fallbacks = ["never"]
[models.mix]
targets = { b = 9, c = 1 }
"""
    found = resolve(text, "a", dice=0.95)
    assert shown(found.fallbacks) == ["gpt-4o at openai", "c", "b"]
    cloud, c, _ = found.fallbacks
    assert (cloud.timeouts.total_s, cloud.strategy) == (30, "direct")
    assert (c.timeouts.total_s, c.strategy) == (None, None), "nothing of what failed is inherited"


def test_a_chain_is_flat() -> None:
    text = '[models.a]\nfallbacks = ["b"]\n[models.b]\nfallbacks = ["c"]'
    assert shown(resolve(text, "a").fallbacks) == ["b"]


def test_neither_itself_nor_what_is_asked_already_is_a_fallback() -> None:
    text = """
default_fallbacks = ["a", "b", "c", "b"]
[models.code]
targets = { b = 1 }
[models.fast]
backend_model = "a"
"""
    found = names(text)
    assert shown(resolve(found, "a", listed=["a"]).fallbacks) == ["b", "c"]
    assert shown(resolve(found, "code").fallbacks) == ["a", "c"]
    assert shown(resolve(found, "fast").fallbacks) == ["b", "c"]


def test_what_a_pool_asks_already_is_no_fallback_for_it() -> None:
    text = """
[capabilities.coding]
models = ["a", "b"]
strategy = "least_requests"
fallbacks = ["b", "c"]
"""
    assert way(resolve(text, "coding")) == ("capability", ["a|b"], ["c"])


def test_one_provider_is_another_place_than_all_that_list_the_model() -> None:
    text = """
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
[models.a]
fallbacks = ["a-cloud"]
[models.a-cloud]
provider = "openai"
backend_model = "a"
"""
    assert way(resolve(text, "a")) == ("exact", ["a"], ["a at openai"])


def test_a_rule_has_its_own_chain_else_the_one_of_the_model_it_names() -> None:
    text = """
default_fallbacks = ["d"]
[[rules]]
when = { header = { x = "1" } }
model = "a"
[[rules]]
when = { header = { x = "2" } }
model = "a"
fallbacks = ["mine"]
[[rules]]
when = { header = { x = "3" } }
model = "b"
[[rules]]
when = { header = { x = "4" } }
model = "a"
fallbacks = []
[models.a]
fallbacks = ["its"]
"""
    found = names(text)
    chains = [shown(resolve(found, "q", headers={"x": str(n)}).fallbacks) for n in range(1, 5)]
    assert chains == [["its"], ["mine"], ["d"], []]
