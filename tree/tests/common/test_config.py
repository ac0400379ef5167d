"""Every fault at once, each with what, where, what follows and one fix."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, field

from common import config
from common.config import ConfigError, Document, Problem
from tests.support.toml_texts import dumps, toml_texts

Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(pattern="^[a-z-]+$", description="a name of a-z and -")]


class Strategy(StrEnum):
    PREFIX = "prefix"
    SCORE = "score"


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rpm: Annotated[int, Meta(gt=0)] | None = None


class Ollama(Struct, frozen=True, tag="ollama", tag_field="type", forbid_unknown_fields=True):
    base_url: str = "http://127.0.0.1:11434"


class OpenAI(Struct, frozen=True, tag="openai", tag_field="type", forbid_unknown_fields=True):
    key_file: str


class Engine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["vllm", "llama_cpp"]
    port: Port = 8100
    gpus: list[Annotated[int, Meta(ge=0)]] = field(default_factory=list)
    stall_s: Annotated[float, Meta(ge=0)] = 90
    limits: Limits = field(default_factory=Limits)
    on_demand: bool = False
    args: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_demand and not self.gpus:
            raise ValueError("on_demand wants gpus")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    strategy: Strategy = Strategy.PREFIX
    expect: list[str] = field(default_factory=list)
    engine: Annotated[list[Engine], Meta(max_length=4)] = field(default_factory=list)
    models: dict[Name, Limits] = field(default_factory=dict)
    providers: dict[str, Ollama | OpenAI] = field(default_factory=dict)
    either: Port | list[Port] = 1
    pair: tuple[int, str] = (1, "")


def problems(text: str, type: Any = Config) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        config.decode(text, type, "router.toml")
    return caught.value.problems


def only(text: str) -> str:
    """The one fault of `text`, as printed."""
    found = problems(text)
    assert len(found) == 1, "\n\n".join(map(str, found))
    return str(found[0])


def test_a_good_file_is_decoded() -> None:
    found = config.decode('[[engine]]\nkind = "vllm"\nstall_s = 5\n[models.a]\nrpm = 3', Config)
    assert found.engine[0].stall_s == 5
    assert found.models["a"].rpm == 3
    assert config.load(None, Config) == Config()


def test_an_unknown_key_names_the_near_one() -> None:
    assert only('\n\n\n\n\nstrategey = "prefix"\n') == (
        'error: unknown key "strategey"\n'
        '  router.toml:6:1    strategey = "prefix"\n'
        '  fix: did you mean "strategy"?'
    )


def test_an_unknown_key_that_is_near_to_nothing_lists_what_is_known() -> None:
    assert only('[[engine]]\nkind = "vllm"\nzzz = 1').splitlines() == [
        'error: unknown key "zzz" in [[engine]]',
        "  router.toml:3:1    zzz = 1",
        "  fix: remove it; known here: args, gpus, kind, limits, on_demand, port, stall_s",
    ]


def test_a_wrong_type_says_what_was_found_and_wanted_and_what_happens() -> None:
    assert only('[[engine]]\nkind = "vllm"\n  port = "8000"  # the usual') == (
        'error: "port" wants an integer from 1 to 65535, found a string, "8000"\n'
        '  router.toml:3:10   port = "8000"  # the usual\n'
        "                            ^^^^^^\n"
        "  With this file the daemon does not start; a running one keeps the file it has.\n"
        "  fix: without quotes: port = 8000"
    )


@pytest.mark.parametrize(
    ("line", "says", "fix"),
    [
        ("port = 0", '"port" is 0, wanted is an integer from 1 to 65535', "set it to an integer"),
        ("port = 8.5", "found a number, 8.5", "set it to an integer"),
        ("port = true", "found true", "set it to an integer"),
        ("port = [1]", "found an array", "set it to an integer"),
        ("port = {a = 1}", "found a table", "set it to an integer"),
        ("stall_s = -1", '"stall_s" is -1, wanted is a number of at least 0', "set it to a number"),
        ("stall_s = inf", '"stall_s" is inf', "a finite number"),
        ("stall_s = nan", '"stall_s" is nan', "a finite number"),
        ('args = "-x"', '"args" wants an array of strings, found a string', 'args = ["-x"]'),
        ("args = [1]", 'item 1 of "args" wants a string, found an integer', 'args = "1"'),
        ("gpus = [0, -1]", 'item 2 of "gpus" is -1', "set it to an integer of at least 0"),
        ('on_demand = "true"', '"on_demand" wants true or false', "on_demand = true"),
        ("on_demand = 1", '"on_demand" wants true or false, found an integer', "set it to true"),
        ("limits = 3", '"limits" wants a table, found an integer', "set it to a table"),
        ("limits = {rpm = 0}", '"rpm" is 0, wanted is an integer above 0', "set it to"),
        ("limits = {rmp = 1}", 'unknown key "rmp" in [engine.limits]', 'did you mean "rpm"?'),
        ("port = 1979-05-27", "found a date", "set it to an integer"),
        ("on_demand = true", "on_demand wants gpus", ""),
    ],
)  # fmt: skip
def test_each_kind_of_fault_in_a_nested_table(line: str, says: str, fix: str) -> None:
    text = only(f'[[engine]]\nkind = "vllm"\n{line}\n')
    assert says in text
    assert fix in text
    assert "router.toml:" in text


def test_a_word_out_of_a_list_names_the_list_or_the_near_one() -> None:
    assert 'fix: did you mean "prefix"?' in only('strategy = "prefx"')
    said = only('strategy = "zzzz"')
    assert '"strategy" cannot be "zzzz"' in said
    assert 'fix: set it to one of "prefix", "score"' in said
    assert 'fix: did you mean "llama_cpp"?' in only('[[engine]]\nkind = "llama-cpp"')


def test_a_missing_key_points_at_its_table() -> None:
    said = only("[[engine]]\nport = 8100\n")
    assert '[[engine]] has no "kind"' in said
    assert "router.toml:1:3" in said
    assert 'fix: add  kind = "vllm"' in said


def test_names_of_entries_are_checked() -> None:
    said = only('[models."A B"]\nrpm = 1')
    assert '"A B" is no name for an entry of [models]' in said
    assert "use a name of a-z and -" in said


def test_a_tagged_table_is_checked_as_its_own_kind() -> None:
    assert 'unknown key "basurl"' in only('[providers.x]\ntype = "ollama"\nbasurl = ""')
    assert '[providers.x] has no "key_file"' in only('[providers.x]\ntype = "openai"')
    assert "providers" in only("providers = 1")


def test_a_tag_nobody_knows_is_a_fault_of_the_tag() -> None:
    said = only('[providers.x]\ntype = "olama"\nbase_url = "x"')
    assert '"type" cannot be "olama"' in said
    assert 'fix: did you mean "ollama"?' in said
    assert "router.toml:2:8" in said
    assert '[providers.x] has no "type"' in only('[providers.x]\nbase_url = "x"')


def test_unions_are_checked_as_what_was_written() -> None:
    assert 'item 2 of "either" is 0' in only("either = [1, 0]")
    assert '"either" is 0' in only("either = 0")
    assert '"either" wants an integer from 1 to 65535 or an array' in only('either = "x"')


def test_tuples_are_checked_place_by_place() -> None:
    assert 'item 2 of "pair" wants a string' in only("pair = [1, 2]")
    assert '"pair"' in only("pair = [1]")


def test_an_array_that_is_too_long_is_a_fault_of_the_array() -> None:
    text = '[[engine]]\nkind = "vllm"\n' * 5
    assert '"engine"' in only(text)


def test_all_faults_come_at_once_in_the_files_order() -> None:
    found = problems(
        'strategy = 1\nexpect = "a"\nzzz = 1\n[[engine]]\nport = 0\n[[engine]]\nkind = "x"\n'
        "gpus = [-1, -2]\n[models.a]\nrpm = 0\n"
    )
    assert [one.line for one in found] == [1, 2, 3, 4, 5, 7, 8, 8, 10]


def test_the_report_counts() -> None:
    with pytest.raises(ConfigError) as caught:
        config.decode("zzz = 1\nyyy = 2", Config, "router.toml")
    assert str(caught.value).endswith("\n\n2 errors, 0 warnings.")
    assert config.report([]) == "0 errors, 0 warnings."


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a = \n", 1, 5),
        ('a = 1\nb = "x\n', 2, 7),
        ("a = 1\na = 2\n", 2, 6),
        ("[a\n", 1, 3),
        ("a = [1,\n", 2, 1),
        ("strategy = prefix\n", 1, 12),
        ("\r\na = x\r\n", 2, 5),
    ],
)
def test_a_fault_of_syntax_has_a_place(text: str, line: int, column: int) -> None:
    [found] = problems(text)
    assert found.text.startswith("not TOML: ")
    assert (found.line, found.column) == (line, column)
    assert str(found).splitlines()[1].startswith(f"  router.toml:{line}:{column} ")


def test_deep_nesting_is_a_fault_not_a_crash() -> None:
    [found] = problems("a = " + "[" * 5000 + "]" * 5000)
    assert "nested too deeply" in found.text or "not TOML" in found.text


@given(toml_texts())
def test_any_toml_is_decoded_or_refused_with_places(text: str) -> None:
    try:
        config.decode(text, Config)
    except ConfigError as error:
        assert error.problems
        for one in error.problems:
            assert one.text
            assert one.line >= 1 or not text.strip()
            assert str(one)


_values = st.recursive(
    st.one_of(st.booleans(), st.integers(-9, 70000), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["kind", "port", "gpus", "rpm", "type", "limits", "x"]), inner
        ),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Config.__struct_fields__, "zzz"]), _values))
def test_faults_are_found_exactly_where_msgspec_refuses(data: dict[str, Any]) -> None:
    import math

    import msgspec

    from common.shape import faults

    def finite(value: Any) -> bool:
        if isinstance(value, float):
            return math.isfinite(value)
        inner = value.values() if isinstance(value, dict) else value
        return all(map(finite, inner)) if isinstance(value, (dict, list)) else True

    try:
        msgspec.convert(data, Config)
        fits = finite(data)
    except msgspec.ValidationError:
        fits = False
    assert (faults(data, Config) == []) == fits


def test_checks_across_fields_point_into_the_document() -> None:
    text = dumps({"default": "x", "models": {"code": {"fallbacks": ["a", "gpt"]}}})
    document = config.parse(text, "router.toml")
    found = document.problem(
        ("models", "code", "fallbacks", 1),
        "fallback names a model nobody will list",
        effect="One line.\nAnother.",
        fix="add it",
    )
    assert str(found) == (
        "error: fallback names a model nobody will list\n"
        '  router.toml:4:19   fallbacks = ["a", "gpt"]\n'
        "                                       ^^^^^\n"
        "  One line.\n"
        "  Another.\n"
        "  fix: add it"
    )
    assert document.line_of("models", "code", "absent") == 3
    assert document.problem(("nowhere",), "x").line == 0


def test_a_warning_is_counted_apart() -> None:
    document = Document("", "a.toml", {})
    found = document.problem((), "a near miss", severity="warning")
    assert str(found) == "warning: a near miss\n  a.toml"
    assert config.report([found]).endswith("0 errors, 1 warning.")


def test_tabs_keep_the_marks_under_the_value() -> None:
    found = problems('[[engine]]\nkind = "vllm"\nport\t=\t"x"')
    lines = str(found[0]).splitlines()
    assert lines[2].replace(" ", "") == "\t\t^^^"


def test_files_that_cannot_be_read_are_faults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(tmp_path / "absent.toml", Config)
    bad = tmp_path / "latin.toml"
    bad.write_bytes(b"a = 1\nb = '\xe9'\n")
    with pytest.raises(ConfigError, match="not UTF-8: byte 11, line 2"):
        config.load(bad, Config)
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (config.FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="more than"):
        config.load(large, Config)


def test_one_table_where_many_are_wanted_is_told_the_brackets() -> None:
    class Engine(Struct, frozen=True):
        kind: str

    class File(Struct, frozen=True, forbid_unknown_fields=True):
        engine: tuple[Engine, ...] = ()

    with pytest.raises(ConfigError) as error:
        config.decode('[engine]\nkind = "mock"\n', File)
    [problem] = error.value.problems
    assert problem.text == '"engine" is one table, wanted is an array of tables'
    assert problem.fix == "write [[engine]]"
    assert (problem.line, problem.column) == (1, 2)


def test_a_file_that_is_not_there_gets_a_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        config.read_text(tmp_path / "none.toml")
    assert "write the file" in error.value.problems[0].fix


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("listen = 127.0.0.1:8000", 'texts go in quotes: key = "text"'),
        ('match = "gpt-\\d"', "texts with backslashes go in single quotes: key = 'gpt-\\d+'"),
    ],
)
def test_the_commonest_slips_of_syntax_get_a_fix(line: str, fix: str) -> None:
    assert f"\n  fix: {fix}" in only(line)


def test_a_line_with_a_fault_is_shown_without_its_secret() -> None:
    said = only('api_key = "sk-proj-4f8a1b2c3d4e5f60718293a4"')
    assert 'api_key = "[hidden]"' in said
    assert "4f8a" not in said
    assert "4f8a" not in only('api_key = "sk-proj-4f8a1b2c3d4e5f60718293a4" x')


class Guarded(Struct, forbid_unknown_fields=True):
    token_file: str | None = None


def test_a_secret_that_wants_a_file_is_told_so() -> None:
    (problem,) = problems('token = "abc"', Guarded)
    assert problem.fix == 'a secret goes into a file of its own: did you mean "token_file"?'


def test_a_name_with_dots_that_lacks_its_quotes_is_told_so() -> None:
    class Entry(Struct, forbid_unknown_fields=True):
        weight: int = 1

    class File(Struct, forbid_unknown_fields=True):
        models: dict[str, Entry] = {}
        targets: dict[str, float] = {}

    with pytest.raises(ConfigError) as raised:
        config.decode("targets = { llama-3.3-70b = 1 }\n[models.qwen-2.5]\nweight = 1\n", File)
    assert [one.fix for one in raised.value.problems] == [
        'a name with dots goes in quotes: "llama-3.3-70b" = 1',
        'a name with dots goes in quotes: [models."qwen-2.5"]',
    ]


def test_an_unknown_key_hides_no_other_fault() -> None:
    class File(Struct, frozen=True, forbid_unknown_fields=True):
        port: int = 1
        other: int = 1

    def check(found: File, document: Document) -> list[Problem]:
        if found.port != found.other:
            return []
        return [document.problem(("port",), "port is the same as other")]

    text = "prot = 5\nport = 7\nother = 7\n"
    chosen, problems = config.checked_text(text, File, check, "file.toml")
    assert chosen is None
    assert [(one.line, one.text) for one in problems] == [
        (1, 'unknown key "prot"'),
        (2, "port is the same as other"),
    ]
