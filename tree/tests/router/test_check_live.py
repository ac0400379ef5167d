"""`check --live`: a file against the fleet as it is now. Only warnings: fleets come and go."""

from typing import Any

from common.config import Problem, read
from common.wire.registry import Health, Service
from router import check
from router.config import Config
from tests.router.making import service

TEXT = """\
expect = ["qwen3-coder", "llama-3.3-70b"]

[providers.openai]
type         = "openai"
base_url     = "https://api.openai.com/v1"
api_key_file = "/etc/creche/openai.key"
models       = ["gpt-4o-mini"]

[models.code]
targets   = { "qwen3-coder" = 9, "llama-3.3-70b" = 1 }
fallbacks = ["gpt-4o-mini"]
"""


def live(*services: Service, text: str = TEXT) -> list[Problem]:
    config, document = read(text, Config, "router.toml")
    found = check.live(config, services, document)
    assert all(one.severity == "warning" for one in found)
    return found


def said(*services: Service, text: str = TEXT) -> str:
    return "\n\n".join(map(str, live(*services, text=text)))


def unfit(name: str, *models: str, **more: Any) -> Service:
    return service(name, *models, health_status=Health.UNHEALTHY, is_healthy=False, **more)


CODER = service("qwen3-coder@gpu-01", "qwen3-coder")
LLAMA = service("llama@gpu-02", "llama-3.3-70b")


def test_nothing_is_said_where_the_fleet_has_what_the_file_names() -> None:
    assert live(CODER, LLAMA) == []


def test_an_expected_model_that_nobody_lists_is_told_once() -> None:
    assert said(CODER) == (
        'warning: no fit engine has "llama-3.3-70b" now\n'
        '  router.toml:1:26   expect = ["qwen3-coder", "llama-3.3-70b"]\n'
        "                                              ^^^^^^^^^^^^^^^\n"
        "  Until an engine with it is registered, requests fall back or get 503.\n"
        "  fix: start its engine (creche services shows those that are there)"
    )


def test_one_that_only_unfit_engines_have_says_which() -> None:
    down = unfit("llama@gpu-02", "llama-3.3-70b")
    drained = service("llama@gpu-03", "llama-3.3-70b", draining=True)
    (problem,) = live(CODER, down, drained)
    assert problem.effect == (
        "llama@gpu-02 and llama@gpu-03 have it and are not fit, "
        "so requests for it fall back or get 503."
    )
    assert problem.fix == "see why:  creche doctor llama@gpu-02"


def test_a_name_that_the_fleet_spells_otherwise_is_asked_after() -> None:
    (problem,) = live(CODER, service("llama@gpu-02", "Llama-3.3-70B"))
    assert problem.effect == 'llama@gpu-02 has "Llama-3.3-70B", which is much like it.'
    assert problem.fix == 'did you mean "Llama-3.3-70B"?'


def test_what_is_registered_and_not_expected_is_told_together() -> None:
    (problem,) = live(CODER, LLAMA, service("a", "phi-4"), service("b", "gemma-3", "phi-4"))
    assert problem.text == '"gemma-3", "phi-4" are registered and are not in expect'
    assert (problem.line, problem.column) == (1, 1)
    assert problem.fix == 'expect = ["qwen3-coder", "llama-3.3-70b", "gemma-3", "phi-4"]'


def test_of_very_many_the_first_are_named() -> None:
    many = service("many", *(f"model-{at:02}" for at in range(30)))
    (problem,) = live(CODER, LLAMA, many)
    assert '"model-07" and 22 more are registered' in problem.text


def test_a_file_that_expects_nothing_is_content_with_everything() -> None:
    assert live(service("a", "phi-4"), text="") == []


def test_a_fallback_is_looked_for_too_where_only_the_registry_can_have_it() -> None:
    text = 'expect = ["phi-4"]\ndefault_fallbacks = ["phi-4"]\n[models.phi-4]\n'
    (problem,) = live(text=text)
    assert (problem.text, problem.line) == ('no fit engine has "phi-4" now', 1)


def test_what_providers_and_static_services_serve_is_not_looked_for() -> None:
    static = '[[static_services]]\nname = "old"\nhost = "h"\nport = 1\n'
    assert live(text=f'default = "l"\n{static}metadata = {{ models = ["l"] }}\n') == []
    assert live(CODER, LLAMA, text=TEXT + '[capabilities.chat]\nmodels = ["gpt-4o-mini"]\n') == []


def test_a_name_that_is_registered_and_configured_means_two_things() -> None:
    (problem,) = live(CODER, LLAMA, service("openai", port=9000))
    assert problem.text == '"openai" is registered too, at http://127.0.0.1:9000'
    assert problem.line == 3
    static = '[[static_services]]\nname = "a"\nhost = "h"\nport = 1\n'
    (problem,) = live(service("a"), text=static)
    assert (problem.line, problem.column) == (2, 8)


def test_a_breaker_for_a_service_that_is_not_there_is_asked_after() -> None:
    text = TEXT + '[breaker.services."qwen3-coder@gpu-1"]\nfailures = 2\n'
    assert live(CODER, LLAMA, text=text.replace("gpu-1", "gpu-01")) == []
    (problem,) = live(CODER, LLAMA, text=text)
    assert problem.text == (
        '[breaker.services] names "qwen3-coder@gpu-1", which is not registered now'
    )


def test_babysitters_are_no_upstreams() -> None:
    record = service("babysitter@gpu-01", "phi-4", metadata={"type": "babysitter"})
    assert live(CODER, LLAMA, record) == []


def test_without_a_document_the_texts_stand_alone() -> None:
    (problem,) = check.live(Config(expect=("phi-4",)), [])
    assert str(problem).splitlines()[0] == 'warning: no fit engine has "phi-4" now'
    assert problem.line == 0
