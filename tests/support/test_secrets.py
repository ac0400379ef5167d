from pathlib import Path

import pytest

from tests.support import secrets
from tests.support.processes import Processes

SECRET = "correct-horse-battery"


def secret_file(folder: Path, name: str = "cluster.token") -> Path:
    path = folder / name
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_a_file_for_one_secret_is_found_and_is_no_leak(tmp_path: Path) -> None:
    secret_file(tmp_path)
    (tmp_path / "a.log").write_text("nothing here")
    assert secrets.of_files(tmp_path) == {SECRET}
    assert secrets.leaks(tmp_path, {SECRET}) == []


def test_a_secret_in_a_log_or_a_state_file_is_told_without_it(tmp_path: Path) -> None:
    state = tmp_path / "state" / "router"
    state.mkdir(parents=True)
    (state / "snapshot.json").write_bytes(b'{"key": "%b"}' % SECRET.encode())
    (found,) = secrets.leaks(tmp_path, {SECRET})
    assert "snapshot.json" in found and SECRET not in found


def test_variables_with_a_secrets_name() -> None:
    given = {"OPENAI_API_KEY": SECRET, "CRECHE_TOKEN_FILE": "/a/long/path", "X_TOKEN": "short"}
    assert secrets.of_environment(given) == {SECRET}


@pytest.mark.parametrize("told", ["file", "variable", "by hand"])
def test_a_process_that_writes_a_secret_down_fails_its_test(tmp_path: Path, told: str) -> None:
    processes = Processes(tmp_path)
    if told == "file":
        secret_file(tmp_path)
    elif told == "by hand":
        processes.secrets.add(SECRET)
    env = {"MY_SECRET": SECRET} if told == "variable" else None
    processes.python("-c", f"print('it is {SECRET[:3]}' + '{SECRET[3:]}')", env=env).wait()
    with pytest.raises(AssertionError, match="holds a secret"):
        processes.close()


def test_a_file_that_goes_while_it_is_looked_for_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daemons of another part of the test may still replace their snapshots."""
    gone = tmp_path / "snapshot.json.new"
    monkeypatch.setattr(secrets, "_files", lambda _: iter([gone, secret_file(tmp_path)]))
    assert secrets.of_files(tmp_path) == {SECRET}
    assert secrets.leaks(tmp_path, {SECRET}) == []
