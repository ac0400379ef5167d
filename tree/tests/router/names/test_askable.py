"""Which names clients may ask for: listed while something behind them can be served."""

from router.names.resolve import Askable
from router.names.target import Target
from tests.router.names.asking import names

TEXT = """
expect = ["llama"]
default = "qwen"
patterns = [{ match = "gpt-.*", provider = "openai" }]
[[rules]]
when = { stream = true }
model = "rare"
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
models = ["gpt-4o-mini"]
[models.code]
targets = { coder = 9, llama = 1 }
fallbacks = ["gpt-4o-mini"]
[models.fast]
backend_model = "qwen"
[models.terminal]
backend_model = "gone"
fallbacks = []
[models.qwen]
strategy = "prefix"
[capabilities.chat]
models = ["qwen", "llama"]
strategy = "least_requests"
"""


def askable(*fit: str, text: str = TEXT) -> dict[str, str | None]:
    def servable(target: Target) -> bool:
        return any(model in fit for model in target.models)

    return dict(names(text).askable(fit, servable))


def test_a_configured_name_is_listed_while_a_target_of_it_is_fit() -> None:
    assert askable("qwen") == {"chat": None, "fast": "qwen", "qwen": "qwen"}
    assert askable("llama") == {"chat": None, "code": None, "llama": "llama"}


def test_or_while_its_chain_is() -> None:
    assert askable("gpt-4o-mini") == {"code": None, "gpt-4o-mini": "gpt-4o-mini"}
    all_of = 'default_fallbacks = ["gpt-4o-mini"]\n' + TEXT
    assert askable("gpt-4o-mini", text=all_of) == {
        "chat": None,
        "code": None,
        "fast": None,
        "gpt-4o-mini": "gpt-4o-mini",
        "llama": None,
        "qwen": None,
    }


def test_names_that_nobody_configured_are_listed_as_they_are() -> None:
    assert askable("zephyr", text="") == {"zephyr": "zephyr"}
    assert askable() == {}


def test_a_name_that_an_entry_leads_elsewhere_goes_by_where_it_leads() -> None:
    """An upstream lists it, but who asks for it gets another one."""
    text = '[models.qwen]\nbackend_model = "qwen-next"'
    assert askable("qwen", text=text) == {}
    assert askable("qwen-next", text=text) == {"qwen": "qwen-next", "qwen-next": "qwen-next"}


def test_names_come_sorted() -> None:
    found = names(TEXT).askable(["qwen", "aya"], lambda target: True)
    assert [one.name for one in found] == sorted(one.name for one in found)
    assert found[0] == Askable("aya", "aya")
