"""babysitter.toml: what may be left out, and every message whole, as the operator reads it."""

import textwrap
from pathlib import Path

import pytest

from babysitter import config as configs
from babysitter import settings as complete
from babysitter.check import check
from babysitter.config import Config
from babysitter.settings import own_address
from common import config as reading
from common.address import Address
from common.config import ConfigError

MINIMAL = """\
[[engine]]
kind  = "llama_cpp"
model = "/models/qwen3-8b-q4.gguf"
"""


def read(text: str) -> Config:
    config, document = reading.read(textwrap.dedent(text), Config, "babysitter.toml")
    problems = check(config, document)
    if problems:
        raise ConfigError(problems)
    return config


def said(text: str) -> str:
    """The report on a bad file, without its last line."""
    with pytest.raises(ConfigError) as error:
        read(text)
    return str(error.value).rpartition("\n\n")[0]


def test_three_lines_are_a_whole_file() -> None:
    config = read(MINIMAL)
    [engine] = complete.settings(config, "127.0.0.1", "python3")
    assert engine.name == "qwen3-8b-q4"
    assert engine.given.names == ("qwen3-8b-q4",)
    assert (engine.given.host, engine.given.port) == ("127.0.0.1", 8100)
    assert engine.ready_timeout_s == 600
    assert (engine.max_restarts, engine.restart_window_s) == (10, 600)
    assert own_address(config, "127.0.0.1") == Address("127.0.0.1", 8101)
    assert config.registries == ("http://127.0.0.1:18000",)


def test_ports_go_up_in_hundreds_around_those_that_are_said() -> None:
    config = read(
        """
        [[engine]]
        kind = "mock"
        name = "a"
        [[engine]]
        kind = "mock"
        name = "b"
        port = 8100
        [[engine]]
        kind = "mock"
        name = "c"
        """
    )
    ports = [one.given.port for one in complete.settings(config, "h", "python3")]
    assert ports == [8200, 8100, 8300]
    assert own_address(config, "h").port == 8201


def test_an_engines_own_keys_win_over_the_defaults() -> None:
    config = read(
        """
        [defaults]
        stall_s = 30
        drain_timeout_s = 5
        region = "eu"
        env = { A = "1", B = "1" }
        [[engine]]
        kind = "mock"
        drain_timeout_s = 7
        env = { B = "2" }
        gpus = [0, 1]
        weight = 2
        capabilities = ["generate"]
        metadata = { rack = "r7" }
        """
    )
    [engine] = complete.settings(config, "h", "python3")
    assert (engine.stall_s, engine.drain_timeout_s) == (30, 7)
    assert engine.env == {"A": "1", "B": "2"}
    assert engine.weight == 2
    assert engine.metadata == {
        "rack": "r7",
        "region": "eu",
        "gpu": True,
        "capabilities": ("generate",),
    }


def test_a_name_is_made_of_what_a_name_may_hold() -> None:
    [engine] = complete.settings(
        read('[[engine]]\nkind="vllm"\nmodel="meta/Llama 3 (8B)"'), "h", "python3"
    )
    assert engine.name == "Llama-3--8B"


BUSTED = {
    "no_engine": (
        'registries = ["http://10.0.0.10:18000"]',
        """\
        error: the file names no engine
          babysitter.toml
          A babysitter without an engine has nothing to do.
          fix: [[engine]]
               kind  = "llama_cpp"
               model = "/models/….gguf\"""",
    ),
    "unknown_kind": (
        '[[engine]]\nkind = "lama.cpp"\nmodel = "/m"',
        """\
        error: unknown kind "lama.cpp"
          babysitter.toml:2:8   kind = "lama.cpp"
                                       ^^^^^^^^^^
          The engine could not be started.
          fix: did you mean "llama_cpp"?""",
    ),
    "container": (
        '[[engine]]\nkind = "container"\nimage = "vllm/vllm-openai:v0.11.2"',
        """\
        error: kind "container" is not available yet
          babysitter.toml:2:8   kind = "container"
                                       ^^^^^^^^^^^
          The engine could not be started.
          fix: run the engine itself with another kind, e.g.  kind = "vllm\"""",
    ),
    "no_model": (
        '[[engine]]\nkind = "vllm"\nport = 8100',
        """\
        error: vllm: kind vllm names no model to load
          babysitter.toml:1:3   [[engine]]
                                  ^^^^^^
          The engine could not be started.
          fix: add  model = "/models/…\"""",
    ),
    "duplicate_name": (
        '[[engine]]\nkind = "mock"\nname = "a"\n[[engine]]\nkind = "mock"\nname = "a"',
        """\
        error: two engines are called "a" (the other at line 3)
          babysitter.toml:6:8   name = "a"
                                       ^^^
          One record in the registry cannot stand for two engines.
          fix: name = "a-2\"""",
    ),
    "port_clash": (
        '[[engine]]\nkind="mock"\nname="a"\nport=8200\n'
        '[[engine]]\nkind="mock"\nname="b"\nport=8200',
        """\
        error: "b" and "a" both want port 8200
          babysitter.toml:8:6   port=8200
                                     ^^^^
          The second to start would fail.
          fix: port = 8100""",
    ),
    "own_port_clash": (
        'listen = "127.0.0.1:8100"\n[[engine]]\nkind = "mock"\nname = "a"',
        """\
        error: the babysitter itself and "a" both want port 8100
          babysitter.toml:1:10   listen = "127.0.0.1:8100"
                                          ^^^^^^^^^^^^^^^^
          One of them could not listen.
          fix: listen = "127.0.0.1:8201\"""",
    ),
    "advertise_any": (
        'advertise = "0.0.0.0"\n[[engine]]\nkind = "mock"',
        """\
        error: "0.0.0.0" is no address that a router could reach
          babysitter.toml:1:13   advertise = "0.0.0.0"
                                             ^^^^^^^^^
          Every router would read it as itself, or not at all.
          fix: leave advertise out: the address that reaches the registry is taken""",
    ),
    "registry_url": (
        'registries = ["10.0.0.10:18000"]\n[[engine]]\nkind = "mock"',
        """\
        error: "10.0.0.10:18000" is no URL: it begins with neither http:// nor https://
          babysitter.toml:1:15   registries = ["10.0.0.10:18000"]
                                               ^^^^^^^^^^^^^^^^^
          No engine could be registered, so no router would find one.
          fix: registries = ["http://127.0.0.1:18000"]""",
    ),
    "at_in_a_name": (
        '[[engine]]\nkind = "mock"\nname = "a@gpu"',
        """\
        error: "a@gpu" holds an @
          babysitter.toml:3:8   name = "a@gpu"
                                       ^^^^^^^
          Services are named engine@host: the host is added by itself.
          fix: name = "a\"""",
    ),
    "command_elsewhere": (
        '[[engine]]\nkind = "vllm"\nmodel = "m"\ncommand = ["vllm"]',
        """\
        error: m: kind vllm makes its own command line
          babysitter.toml:4:1   command = ["vllm"]
          The command would be ignored.
          fix: kind = "command", or give arguments with  args = ["…"]""",
    ),
    "on_demand": (
        '[[engine]]\nkind = "mock"\non_demand = true',
        """\
        error: on_demand is not available yet
          babysitter.toml:3:1   on_demand = true
          Ignoring it would start engines in a way that this file does not ask for.
          fix: take the line out""",
    ),
    "secret_for_all": (
        '[defaults]\nenv = { HF_TOKEN = "hf_123" }\n[[engine]]\nkind = "mock"\nname = "m"',
        """\
        warning: defaults: HF_TOKEN looks like a secret written in the file
          babysitter.toml:2:9   env = { HF_TOKEN = "hf_123" }
                                        ^^^^^^^^
          Whoever may read this file has it.
          fix: env_file = "/etc/creche/defaults.env"   with the line HF_TOKEN=…, mode 600""",
    ),
    "secret_in_the_file": (
        '[[engine]]\nkind = "mock"\nname = "m"\nenv = { HF_TOKEN = "hf_123" }',
        """\
        warning: m: HF_TOKEN looks like a secret written in the file
          babysitter.toml:4:9   env = { HF_TOKEN = "hf_123" }
                                        ^^^^^^^^
          Whoever may read this file has it.
          fix: env_file = "/etc/creche/m.env"   with the line HF_TOKEN=…, mode 600""",
    ),
}


@pytest.mark.parametrize("reason", sorted(BUSTED))
def test_a_bad_file_is_told_in_full(reason: str) -> None:
    text, expected = BUSTED[reason]
    assert said(text) == textwrap.dedent(expected)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("stal_s = 3", 'did you mean "stall_s"?'),
        ("port = 70000", "65535"),
        ("weight = 0", "weight"),
        ('command = "python3 -m x"', "an array of strings"),
        ('identity = "pid"', '"socket"'),
    ],
)
def test_wrong_keys_and_types_are_told_by_the_shape(line: str, what: str) -> None:
    assert what in said(f'[[engine]]\nkind = "mock"\n{line}')


def test_two_engines_may_share_a_port_on_two_addresses() -> None:
    read(
        """
        listen = "127.0.0.1:8101"
        [[engine]]
        kind = "mock"
        name = "a"
        host = "127.0.0.1"
        port = 8100
        [[engine]]
        kind = "mock"
        name = "b"
        host = "127.0.0.2"
        port = 8100
        """
    )


def test_the_shipped_file_is_good_and_names_every_key() -> None:
    path = Path(__file__).parents[2] / "configs" / "babysitter.toml"
    config, document = reading.load_document(path, Config)
    assert check(config, document) == []
    text = path.read_text()
    for struct in (Config, configs.Host, configs.EngineConfig):
        for key in struct.__struct_fields__:
            assert key in text, f"configs/babysitter.toml does not show {key}"


def test_a_loopback_port_of_its_own_is_warned_of_where_the_registry_is_elsewhere() -> None:
    there = 'registries = ["http://10.0.0.10:18000"]\n'
    assert said('listen = "127.0.0.1:8101"\n' + there + MINIMAL) == textwrap.dedent(
        """\
        warning: the babysitter listens on 127.0.0.1 but the registry is on 10.0.0.10
          babysitter.toml:1:10   listen = "127.0.0.1:8101"
                                          ^^^^^^^^^^^^^^^^
          Engines serve all the same, but their babysitter_url leads nowhere from other hosts:
          creche logs and creche engine work on this host only.
          fix: take the line out: it then listens where the registry and routers reach this host"""
    )
    read('listen = "127.0.0.1:8101"\n' + MINIMAL)
    read('listen = "10.0.0.21:8101"\n' + there + MINIMAL)
    read(there + MINIMAL)
