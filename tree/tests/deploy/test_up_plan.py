"""What `make up` would run: ports that follow from one, configs that their daemons take."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

import babysitter.check
import babysitter.config
import registry.config
import router.config
from common import config
from tests.support.processes import ROOT


def load(name: str) -> ModuleType:
    """A part of scripts/up, which is no package of ours: `make up` runs it as a program."""
    spec = importlib.util.spec_from_file_location(f"up_{name}", ROOT / "scripts/up" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


plan = load("plan")


def test_every_port_follows_from_one() -> None:
    made = plan.plan(Path("/data"), 8010, None, None)
    assert made.ports() == {
        8010: "router",
        18010: "registry",
        8111: "babysitter",
        8110: "tiny-llama",
        8210: "mock-a",
        8310: "mock-b",
    }


def test_the_registrys_port_can_be_its_own() -> None:
    assert plan.plan(Path("/data"), 8000, 18001, None).registry_port == 18001


@pytest.mark.parametrize(("port", "registry"), [(60000, None), (0, None), (8000, 8100), (65500, 1)])
def test_ports_that_cannot_be_are_refused_with_a_fix(port: int, registry: int | None) -> None:
    with pytest.raises(ValueError, match=r"port|PORT") as caught:
        plan.plan(Path("/data"), port, registry, None)
    assert len(caught.value.args) == 2


def test_a_model_of_ones_own_is_named_after_its_file() -> None:
    [engine, *_] = plan.plan(Path("/d"), 8000, None, Path("/m/Qwen 3 (q4).gguf")).engines
    assert (engine.name, engine.models, engine.model) == (
        "Qwen-3-q4",
        ("Qwen-3-q4",),
        Path("/m/Qwen 3 (q4).gguf"),
    )
    [taken, *_] = plan.plan(Path("/d"), 8000, None, Path("/m/mock-a.gguf")).engines
    assert taken.name == "my-mock-a"


CONFIGS: list[tuple[str, Any, Any]] = [
    ("registry.toml", registry.config.Config, registry.config.problems),
    ("babysitter.toml", babysitter.config.Config, babysitter.check.check),
    ("router.toml", router.config.Config, None),
]


@pytest.mark.parametrize("data", [Path("/data"), Path('/home/a b/"quoted" ünï\\')], ids=repr)
@pytest.mark.parametrize(("name", "shape", "check"), CONFIGS, ids=[one[0] for one in CONFIGS])
def test_each_config_is_taken_by_its_daemon(name: str, shape: Any, check: Any, data: Path) -> None:
    text = plan.configs(plan.plan(data, 8000, None, None))[name]
    found, document = config.read(text, shape, name)
    assert check is None or check(found, document) == []
    assert msgspec.to_builtins(found)["state_dir"] == str(data / name.removesuffix(".toml"))
