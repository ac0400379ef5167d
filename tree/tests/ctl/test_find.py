"""Where the fleet is: flags over environment over file over loopback."""

from pathlib import Path

import pytest

from ctl.errors import CtlError, Exit
from ctl.find import LOOPBACK, find


def write(home: Path, text: str) -> dict[str, str]:
    folder = home / ".config" / "creche"
    folder.mkdir(parents=True)
    (folder / "creche.toml").write_text(text)
    return {"HOME": str(home)}


def test_without_anything_it_is_loopback(tmp_path: Path) -> None:
    place = find(None, None, {"HOME": str(tmp_path)})
    assert (place.url, place.token) == (LOOPBACK, None)


def test_flag_over_environment_over_file(tmp_path: Path) -> None:
    environ = write(tmp_path, 'url = "http://file:1"')
    assert find(None, None, environ).url == "http://file:1"
    environ["CRECHE_URL"] = "http://env:2"
    assert find(None, None, environ).url == "http://env:2"
    assert find("http://flag:3", None, environ).url == "http://flag:3"


def test_xdg_config_home_is_respected(tmp_path: Path) -> None:
    (tmp_path / "creche").mkdir()
    (tmp_path / "creche" / "creche.toml").write_text('url = "http://xdg:1"')
    environ = {"HOME": "/nonexistent", "XDG_CONFIG_HOME": str(tmp_path)}
    assert find(None, None, environ).url == "http://xdg:1"


def test_the_token_is_read_from_a_file_and_never_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("  secret-a\n")
    (tmp_path / "b").write_text("secret-b\n")
    environ = {"HOME": str(tmp_path), "CRECHE_TOKEN_FILE": str(tmp_path / "a")}
    assert find(None, None, environ).token == "secret-a"
    assert find(None, str(tmp_path / "b"), environ).token == "secret-b"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://h:1/", "http://h:1"),
        ("http://h:1/v1", "http://h:1"),
        ("http://h:1/v1/", "http://h:1"),
        ("h:8000", "http://h:8000"),
        ("https://h/prefix", "https://h/prefix"),
    ],
)
def test_addresses_as_people_write_them(given: str, url: str, tmp_path: Path) -> None:
    assert find(given, None, {"HOME": str(tmp_path)}).url == url


@pytest.mark.parametrize("given", ["ftp://h", "http://", "http://h:99999", "http://[::1"])
def test_what_is_no_url_is_a_usage_error(given: str, tmp_path: Path) -> None:
    with pytest.raises(CtlError) as caught:
        find(given, None, {"HOME": str(tmp_path)})
    assert caught.value.code == Exit.USAGE
    assert "--url" in caught.value.what


@pytest.mark.parametrize("text", ["urll = 'x'", "url = 3", "url = "])
def test_a_bad_creche_toml_names_itself(text: str, tmp_path: Path) -> None:
    with pytest.raises(CtlError) as caught:
        find(None, None, write(tmp_path, text))
    assert "creche.toml" in caught.value.what
    assert caught.value.code == Exit.USAGE


def test_a_missing_or_empty_token_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CtlError, match="cannot read the token file"):
        find(None, str(tmp_path / "none"), {"HOME": str(tmp_path)})
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(CtlError, match="is empty"):
        find(None, str(tmp_path / "empty"), {"HOME": str(tmp_path)})
