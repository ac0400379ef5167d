"""Config, 49: what the validators of the older systems looked at, each shown on a configuration
that passes, and on the same one with that one thing broken.
"""

from functools import partial

import pytest
from msgspec import Struct

from common.config import ConfigError, Problem, read
from router import check
from router.config import Config
from router.names.resolve import Names
from tests.router.names.asking import Asked

OPENAI = """
[providers.openai]
type         = "openai"
base_url     = "https://api.openai.com/v1"
api_key_file = "/etc/creche/openai.key"
models       = ["gpt-4o-mini"]
"""
OLLAMA = """
[providers.ollama]
type     = "ollama"
status   = "active"
base_url = "http://127.0.0.1:11434"
models   = ["qwen3", "llama-3.3-70b"]
"""
FLEET = f"registries = []\n{OPENAI}{OLLAMA}"
CODE = """
[models.code]
targets   = { "qwen3" = 3, "llama-3.3-70b" = 1 }
fallbacks = ["gpt-4o-mini"]
"""
SMALL = """
[models.gpt-4o-mini]
fallbacks = ["qwen3"]
limits    = { rpm = 100, tpm = 50_000 }
"""
ALIAS = """
[models.chat]
backend_model = "qwen3"
"""
EXACT = """
[models.gpt]
provider      = "openai"
backend_model = "gpt-4o"
"""
PATTERN = """
[[patterns]]
match    = 'gpt-(.+)'
provider = "openai"
rewrite  = 'openai-gpt-\\1'
"""
SECOND = """
[[patterns]]
match    = 'o[13]-.+'
provider = "openai"
"""
CAPABILITY = """
[capabilities.talk]
models   = ["qwen3", "llama-3.3-70b"]
strategy = "priority"
"""
RULE = """
[[rules]]
when     = { stream = true }
provider = "ollama"
"""
STATIC = """
[[static_services]]
name = "old-llama"
host = "10.0.0.40"
port = 8080
"""
TWICE = STATIC + STATIC.replace("40", "41")
LISTENS = """
listen         = "127.0.0.1:8080"
control_listen = "127.0.0.1:8081"
"""


class Case(Struct, frozen=True):
    """`good` passes; with `old` in it replaced by `new`, the check says `says`."""

    name: str
    good: str
    old: str
    new: str
    says: str
    severity: str = "error"

    @property
    def broken(self) -> str:
        assert self.good.count(self.old) == 1, f"{self.old!r} must stand once"
        return self.good.replace(self.old, self.new)


def fleet(part: str, name: str, more: str, *how: str) -> Case:
    return Case(f"{part}: {name}", FLEET + more, *how)


providers = partial(fleet, "providers")
mappings = partial(fleet, "mappings")
cross = partial(fleet, "cross")
ports = partial(fleet, "ports")
health = partial(fleet, "health")
exact = partial(fleet, "exact")
pattern = partial(fleet, "pattern")
capability = partial(fleet, "capability")
chains = partial(fleet, "chains")
balancing = partial(fleet, "balancing")
references = partial(fleet, "references")
limits = partial(fleet, "limits")

TYPE, STATUS = 'type     = "ollama"\n', 'status   = "active"\n'
URL, MODELS = 'base_url = "http://127.0.0.1:11434"\n', '["qwen3", "llama-3.3-70b"]'
CHAIN = 'fallbacks = ["gpt-4o-mini"]'
WARNING = "warning"

CASES = [
    providers("present", "", OPENAI + OLLAMA, "", "no static service and no provider"),
    providers("a type", "", TYPE, "", '[providers.ollama] has no "type"'),
    providers("a base_url", "", URL, "", '[providers.ollama] has no "base_url"'),
    providers("a known type", "", TYPE, 'type = "lmstudio"\n', '"type" cannot be "lmstudio"'),
    providers("a known status", "", STATUS, 'status = "on"\n', '"status" cannot be "on"'),
    providers("a URL with a scheme", "", "http://127", "127", "neither http:// nor https://"),
    providers("a URL of HTTP", "", "http://127", "ftp://127", "neither http:// nor https://"),
    providers("a URL with a host", "", "api.openai.com", "", "it names no host"),
    providers("a URL with a port in range", "", ":11434", ":114340", "is no URL"),
    providers("models are a list", "", MODELS, '"qwen3"', "wants an array of strings"),
    providers("models are names", "", MODELS, "[3]", "wants a string, found an integer"),
    providers("known keys", "", f"models   = {MODELS}", f"modles = {MODELS}", '"modles"'),
    mappings("a section", ALIAS, "[models.chat]", "[[models]]", '"models" wants a table'),
    mappings("exact names a provider", EXACT, '"openai"\nback', '"x"\nback', 'the provider "x"'),
    mappings("a known strategy", CODE + 'strategy = "score"\n', '"score"', '"x"', "cannot be"),
    mappings("a known priority", "", STATUS, "priority = -1\n", '"priority" is -1'),
    mappings("a chain is a list", CODE, CHAIN, 'fallbacks = "qwen3"', "wants an array"),
    mappings("a chain is of names", CODE, CHAIN, "fallbacks = [4]", "wants a string"),
    mappings("patterns compile", PATTERN, "'gpt-(.+)'", "'(?=gpt)(.+)'", "no lookahead"),
    mappings("capabilities have a list", CAPABILITY, f"{MODELS}\nst", '"qwen3"\nst', "an array"),
    cross("a pattern's provider exists", PATTERN, '"openai"\nrew', '"x"\nrew', 'provider "x"'),
    cross("a rule's provider exists", RULE, 'provider = "ollama"', 'provider = "x"', '"x"'),
    cross("no service is a provider", STATIC, '"old-llama"', '"ollama"', "provider are named"),
    cross("no service is there twice", STATIC, STATIC, TWICE, "static services are named"),
    cross("no capability is a model", CAPABILITY + ALIAS, "s.chat", "s.talk", 'named "talk"'),
    cross("a chain's owner is known", SMALL, "[models.gpt-4o-mini]", "[models.phi]", '"phi" has'),
    Case("ports: listen is in range", LISTENS, "8080", "65536", '"65536" is no port'),
    ports("a service is in range", STATIC, "= 8080", "= 0", "an integer from 1 to 65535"),
    Case("ports: none is taken twice", LISTENS, "8081", "8080", "the same address as listen"),
    health("a provider is active", "", OPENAI + OLLAMA, OLLAMA.replace("active", "disabled"),
           "no active provider"),
    health("a model is there", "", MODELS, "[]", "[providers.ollama] lists no models", WARNING),
    exact("leads to a listed model", ALIAS, '= "qwen3"', '= "phi"', '"phi", which nobody will'),
    pattern("rewrites by its groups", PATTERN, "gpt-\\1", "gpt-\\2", "has one group"),
    pattern("is reached", PATTERN + SECOND, "'gpt-(.+)'", "'(.+)'", "never be reached", WARNING),
    capability("has a target", CAPABILITY, '["qwen3", "llama-3.3-70b"]\nst', '["phi"]\nst',
               "nobody will list"),
    capability("has a strategy", CAPABILITY, '"priority"', '"best"', 'cannot be "best"'),
    capability("has models", CAPABILITY, f"{MODELS}\nst", "[]\nst", '"talk" names no model'),
    chains("no cycle", CODE + SMALL, '["qwen3"]\nlim', '["code"]\nlim', "code → gpt-4o-mini"),
    chains("not to itself", CODE, CHAIN, 'fallbacks = ["code"]', '"code" falls back on itself'),
    chains("no duplicate", CODE, CHAIN, 'fallbacks = ["gpt-4o-mini", "gpt-4o-mini"]', "twice"),
    chains("empty only when terminal", CODE.replace('["gpt-4o-mini"]', "[]"), "fallbacks = []",
           'fallbacks = [""]', 'name "", which nobody will list'),
    chains("of models", CODE, CHAIN, 'fallbacks = ["openai"]', "a provider, where a model belongs"),
    chains("of listed models", CODE, CHAIN, 'fallbacks = ["gpt-4o"]', '"gpt-4o", which nobody'),
    balancing("weights are positive", CODE, "= 3,", "= 0,", "a number above 0"),
    balancing("weights are numbers", CODE, "= 3,", '= "most",', "wants a number"),
    references("exact leads to an active provider", EXACT, OPENAI,
               OPENAI + 'status = "disabled"\n', 'whose status is "disabled"'),
    limits("positive", SMALL, "rpm = 100", "rpm = -1", "an integer of at least 1"),
    limits("of requests, in reason", SMALL, "100", "100_000", "more requests a minute", WARNING),
    limits("of tokens, in reason", SMALL, "50_000", "50_000_000", "more tokens a minute", WARNING),
]  # fmt: skip


def problems(text: str) -> list[Problem]:
    try:
        config, document = read(text, Config, "router.toml")
    except ConfigError as why:
        return why.problems
    return check.problems(config, document)


def test_there_are_49() -> None:
    assert len({case.name for case in CASES}) == len(CASES) == 49


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_config(case: Case) -> None:
    assert [str(one) for one in problems(case.good)] == []
    found = problems(case.broken)
    assert [(one.severity, case.says in str(one)) for one in found] == [(case.severity, True)], (
        "\n".join(map(str, found))
    )


@pytest.mark.parametrize(
    ("name", "how", "model", "provider"),
    [
        ("gpt-4o", "pattern", "openai-gpt-4o", "openai"),
        ("gpt-4.1-nano", "pattern", "openai-gpt-4.1-nano", "openai"),
        ("o3-mini", "pattern", "o3-mini", "openai"),
        ("gpt-4o-mini", "exact", "gpt-4o-mini", None),
        ("chat", "exact", "qwen3", None),
        ("gpt", "exact", "gpt-4o", "openai"),
    ],
)
def test_sample_names_of_patterns_and_exact_entries(
    name: str, how: str, model: str, provider: str | None
) -> None:
    config, _ = read(FLEET + PATTERN + SECOND + EXACT + ALIAS, Config)
    found = Names(config).resolve(Asked(name), lambda _: False, lambda: 0.5)
    assert found.how == how
    assert [(one.models, one.provider) for one in found.targets] == [((model,), provider)]


DANGLING = """
registries = []
strategy   = "least_requests"

[providers.ollama]
type     = "ollama"
base_url = "http://127.0.0.1:11434"
models   = ["qwen3"]

[providers.vllm]
type     = "vllm"
base_url = "http://10.0.0.9:8000/v1"
models   = ["qwen3-coder"]

[providers.llama]
type     = "llama_cpp"
base_url = "http://10.0.0.8:8080"
models   = ["phi-4"]

[models.qwen3]
fallbacks = ["qwen3-coder", "phi-4"]
"""


def test_the_dangling_chain() -> None:
    """The models lists of two providers taken out: unit tests and two validators let it pass."""
    assert problems(DANGLING) == []
    broken = DANGLING.replace('models   = ["qwen3-coder"]\n', "")
    broken = broken.replace('models   = ["phi-4"]\n', "")
    first, second = problems(broken)
    for problem, model, column in ((first, "qwen3-coder", 14), (second, "phi-4", 29)):
        assert problem.severity == "error"
        assert problem.text == f'the fallbacks of "qwen3" name "{model}", which nobody will list'
        assert (problem.line, problem.column) == (19, column)
        assert (
            "[providers.vllm] (line 10) and [providers.llama] (line 14) list no" in problem.effect
        )
        assert 'If qwen3 is down, "qwen3" is answered with 503' in problem.effect
        assert problem.fix == (
            f'add  models = ["{model}"]  under [providers.vllm] or [providers.llama], '
            "whichever has it"
        )
