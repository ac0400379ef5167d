"""registry.toml: what is refused, and that the file that documents it is right."""

from pathlib import Path

import pytest

from common import config as toml
from registry import config as configs
from registry.config import Config

DOCUMENTED = Path(__file__).parents[2] / "configs" / "registry.toml"


def problems(text: str) -> list[str]:
    read, document = toml.read(text, Config, "registry.toml")
    return [str(one) for one in configs.problems(read, document)]


def test_an_empty_file_is_valid() -> None:
    assert problems("") == []
    assert toml.decode("", Config) == Config()


def test_the_documented_file_is_valid_and_shows_the_defaults() -> None:
    read, document = toml.load_document(DOCUMENTED, Config)
    assert configs.problems(read, document) == []
    assert read == Config()


def test_the_documented_file_names_every_key() -> None:
    text = DOCUMENTED.read_text()
    tables = [Config(), Config().lease, Config().legacy, Config().probe, Config().limits]
    missing = [key for table in tables for key in table.__struct_fields__ if key not in text]
    assert missing == []


def test_leases_of_half_a_second_are_valid_so_that_tests_run_in_seconds() -> None:
    short = "[lease]\nbeat_s = 0.1\nlease_s = 0.5\n[legacy]\nunfit_s = 1\nremoved_s = 2\n"
    assert problems(short) == []
    read = toml.decode(short, Config)
    assert 0.01 <= configs.tick_s(read) <= 0.5 / 20


@pytest.mark.parametrize(
    ("text", "says", "fix"),
    [
        ('listen = "x:y"', "no port", "127.0.0.1:18000"),
        ('token_file = "x"\nauth = "none"', "contradict", "keep one"),
        ('allow_hosts = ["10.0.0.0/24", "10/x"]', '"10/x" is neither', "allow_hosts"),
        ("[lease]\nbeat_s = 10", "too rare for a lease of 15 s", "beat_s = 5"),
        ("[lease]\nlease_s = 10\nbeat_s = 9", "too rare for a lease of 10 s", "beat_s = 3 "),
        ("[lease]\nlease_s = 1\nbeat_s = 1", "too rare for a lease of 1 s", "beat_s = 0.3 "),
        ("[legacy]\nremoved_s = 60", "not above unfit_s", "removed_s = 300"),
        ("[probe]\ntimeout_s = 11", "may take 11 s", "timeout_s = 5"),
        ('state = "postgres://x"', "no store that this version has", "memory:"),
        ('state = "redis://:sesame@x"', "has a password in it", "state_password_file"),
        ('state = "redis://x/one"', "no number of a database", "redis://HOST"),
        ('state = "redis://x,y/0"', "too many hosts", "redis://HOST"),
        ('state = "redis+sentinel://x,y"', "the name of the master", "redis://HOST"),
    ],
)
def test_what_contradicts_itself_is_told_with_a_fix(text: str, says: str, fix: str) -> None:
    (problem,) = problems(text)
    assert says in problem
    assert f"fix: {fix}" in problem or fix in problem.split("fix:")[1]
    assert "registry.toml:" in problem


@pytest.mark.parametrize(
    "text",
    [
        "lisen = 1",
        "[lease]\nlease_s = 0",
        "[limits]\nmetadata_bytes_max = 1000000",
        'auth = "some"',
        "keep_alive_s = 31",
    ],
)
def test_wrong_keys_and_ranges_are_refused(text: str) -> None:
    with pytest.raises(toml.ConfigError):
        toml.decode(text, Config)
