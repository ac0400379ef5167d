"""What a new file changes, on plain values."""

from pathlib import Path
from typing import Any

from babysitter import difference
from babysitter.config import Config, EngineConfig
from babysitter.difference import Difference, Wanted
from babysitter.kinds import KINDS
from babysitter.place import Place
from babysitter.settings import settings


def wanted(*engines: EngineConfig, digest: str = "d") -> dict[str, Wanted]:
    place = Place(folder=Path("/f"), runtime=Path("/r"), env={}, digest=digest)
    found = settings(Config(engine=engines), "127.0.0.1", "python3")
    return {one.name: Wanted(one, place, KINDS[one.kind].plan(one.given).argv) for one in found}


def engine(name: str = "a", **more: Any) -> EngineConfig:
    return EngineConfig(kind="mock", name=name, port=more.pop("port", 8100), **more)


def between(one: EngineConfig, other: EngineConfig) -> Difference:
    return difference.between(wanted(one), wanted(other))


def test_the_same_file_changes_nothing() -> None:
    assert between(engine(), engine()) == Difference()


def test_engines_come_and_go_by_name() -> None:
    found = difference.between(wanted(engine("a")), wanted(engine("b")))
    assert found == Difference(started=("b",), stopped=("a",))


def test_another_process_is_a_restart() -> None:
    restart = Difference(restarted=("a",))
    assert between(engine(), engine(args=("--tokens", "3"))) == restart
    assert between(engine(), engine(models=("m",))) == restart
    assert between(engine(), engine(port=8200)) == restart
    assert difference.between(wanted(engine()), wanted(engine(), digest="e")) == restart


def test_other_settings_hold_in_the_same_process() -> None:
    for more in ({"stall_s": 3.0}, {"drain_timeout_s": 3.0}, {"weight": 2.0}, {"region": "eu"}):
        assert between(engine(), engine(**more)) == Difference(changed=("a",)), more


def test_what_is_read_once_waits_for_a_restart_of_the_babysitter() -> None:
    before = Config(engine=(engine(),))
    assert difference.waiting(before, Config(engine=(engine(),), on_term="keep"), "h") == []
    assert difference.waiting(before, Config(engine=(engine(),), name="x"), "h") == ["name"]
    moved = Config(engine=(engine(port=8300),))
    assert difference.waiting(before, moved, "h") == ["listen"], "it goes by the first engine"
