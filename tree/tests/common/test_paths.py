"""Where files go."""

import os
import stat
from pathlib import Path

import pytest

from common import paths
from common.errors import RefusalError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_configured_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "systemd"))
    assert paths.state_dir("registry", str(tmp_path / "mine")) == tmp_path / "mine"
    assert mode(tmp_path / "mine") == 0o700


def test_then_systemds_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/a:{tmp_path}/b")
    assert paths.state_dir("registry") == tmp_path / "a"


def test_then_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.state_dir("router") == tmp_path / ".local/state/creche/router"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusalError, match=r"cannot be made: .*\n  Set  state_dir"):
        paths.state_dir("registry", str(tmp_path / "file" / "x"))


def test_the_runtime_folder_is_short_and_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert paths.runtime_dir("babysitter") == tmp_path / "creche" / "babysitter"
    assert mode(tmp_path / "creche") == 0o700
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    assert paths.runtime_dir() == tmp_path / "run"


def test_a_runtime_folder_that_others_may_write_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))
    paths.runtime_dir()
    assert mode(folder) == 0o700


def test_a_link_in_its_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "link"))
    with pytest.raises(RefusalError, match="belongs to someone else"):
        paths.runtime_dir()


def test_a_socket_path_that_the_kernel_would_refuse_is_refused(tmp_path: Path) -> None:
    assert paths.socket_path(Path("/run/x"), "a.sock") == Path("/run/x/a.sock")
    longest = Path("/" + "a" * (paths.SOCKET_PATH_BYTES_MAX - 3))
    assert len(os.fsencode(paths.socket_path(longest, "s"))) == paths.SOCKET_PATH_BYTES_MAX
    with pytest.raises(RefusalError, match="bytes, above the kernel's limit of 107"):
        paths.socket_path(longest, "ss")
