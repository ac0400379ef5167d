"""tests/configs: files with one fault each, beside the message that an operator gets, whole; and
good ones, beside what is said of them.

    busted_<reason>.toml   busted_<reason>.txt      good_<what>.toml   good_<what>.txt

A message is reviewed by reading its .txt: what, where, what would happen, one fix.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import ConfigError, Document, Problem, read
from router import check
from router.config import Config
from router.names.resolve import Names

HERE = Path(__file__).parents[1] / "configs"
CHECK = Path(check.__file__).parent
BUSTED = sorted(HERE.glob("busted_*.toml"))
GOOD = sorted(HERE.glob("good_*.toml"))


def problems(file: Path) -> list[Problem]:
    try:
        config, document = read(file.read_text(), Config, "router.toml")
    except ConfigError as why:
        return why.problems
    return check.problems(config, document)


def name(file: Path) -> str:
    return file.stem


@pytest.mark.parametrize("file", BUSTED, ids=name)
def test_a_busted_file_gets_this_message_and_no_other(file: Path) -> None:
    said = "\n\n".join(map(str, problems(file)))
    assert said + "\n" == file.with_suffix(".txt").read_text()
    assert len(problems(file)) == 1


@pytest.mark.parametrize("file", BUSTED, ids=name)
def test_a_fault_has_a_place_a_consequence_and_one_fix(file: Path) -> None:
    (problem,) = problems(file)
    lines = file.read_text().splitlines()
    assert 0 < problem.line <= len(lines)
    assert 0 < problem.column <= len(lines[problem.line - 1])
    assert problem.fix
    assert "\n" not in problem.fix
    assert problem.effect or problem.text.startswith("unknown key")
    assert not problem.text.endswith(".")


@pytest.mark.parametrize("file", GOOD, ids=name)
def test_a_good_file_has_neither_faults_nor_warnings(file: Path) -> None:
    assert list(map(str, problems(file))) == []
    config, _ = read(file.read_text(), Config)
    assert f"ok   {check.summary(config)}\n" == file.with_suffix(".txt").read_text()


@pytest.mark.parametrize("file", [*BUSTED, *GOOD], ids=name)
def test_what_the_check_lets_pass_can_be_compiled(file: Path) -> None:
    """The router's names raise for nothing that got through."""
    if not any(one.severity == "error" for one in problems(file)):
        Names(read(file.read_text(), Config)[0])


def test_there_is_one_file_for_each_rule_and_sixty_at_least() -> None:
    assert len(BUSTED) >= 60
    texts = [file.read_text() for file in BUSTED]
    assert len(set(texts)) == len(texts)
    assert {one.stem for one in HERE.glob("*.txt")} == {one.stem for one in HERE.glob("*.toml")}


def test_every_fault_that_the_check_can_find_is_found_in_some_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: set[tuple[str, int]] = set()
    make = Document.problem

    def noted(self: Document, *args: object, **more: object) -> Problem:
        frame = sys._getframe(2)  # past File.error or File.warning
        found.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
        return make(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Document, "problem", noted)
    for file in BUSTED:
        problems(file)
    missed = {
        f"{module}:{call.lineno}"
        for module, call in calls()
        if not any((module, line) in found for line in _lines(call))
    }
    assert missed == set()


def _lines(call: ast.Call) -> range:
    return range(call.lineno, (call.end_lineno or call.lineno) + 1)


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Where the check makes a fault: `file.error(…)`, `file.warning(…)`, or either as `say(…)`."""
    for module in sorted(CHECK.glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "file.error",
                "file.warning",
                "say",
            }:
                yield module.name, node
