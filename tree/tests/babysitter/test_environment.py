"""What an engine finds in its environment, and what nobody else may see."""

import pytest

from babysitter.environment import EnvFileError, build, parse, secrets


def test_the_later_wins_and_ours_is_kept_from_it() -> None:
    inherited = {"PATH": "/bin", "HOME": "/h", "NOTIFY_SOCKET": "@x", "CRECHE_TOKEN": "t"}
    env = build(inherited, {"A": "kind"}, (0, 2), {"A": "file", "B": "file"}, {"B": "own"})
    assert env == {
        "PATH": "/bin",
        "HOME": "/h",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "0,2",
        "A": "file",
        "B": "own",
    }


def test_gpus_not_said_are_not_set_and_none_means_none() -> None:
    assert "CUDA_VISIBLE_DEVICES" not in build({}, {}, None, {}, {})
    assert build({}, {}, (), {}, {})["CUDA_VISIBLE_DEVICES"] == ""


def test_an_env_file() -> None:
    text = "# a comment\nHF_TOKEN=hf_abc=\nexport NAME = 'two words'\n\nEMPTY=\n"
    assert parse(text) == {"HF_TOKEN": "hf_abc=", "NAME": "two words", "EMPTY": ""}


@pytest.mark.parametrize("line", ["hunter2", "=x", "A B=c", "9=x"])
def test_a_bad_line_is_named_by_its_number_never_by_what_it_holds(line: str) -> None:
    with pytest.raises(EnvFileError) as error:
        parse(f"OK=1\n{line}\n")
    assert str(error.value) == "line 2 is no NAME=value"


def test_secrets_are_all_of_the_file_and_what_is_called_so() -> None:
    assert secrets({"A": "1"}, {"HF_TOKEN": "2", "LANG": "3", "my_api_key": "4"}) == ["1", "2", "4"]


def test_secrets_of_a_command_line_are_what_its_flags_call_so() -> None:
    argv = ["serve", "--api-key", "one", "--hf-token=two", "--max-tokens", "9", "--api-key"]
    assert [one for one in secrets({}, {}, argv) if one] == ["one", "two"]
