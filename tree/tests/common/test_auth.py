"""Who needs the token, and what a daemon says when nobody settled it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import auth
from common.address import Address
from common.errors import RefusalError
from common.redact import SECRETS

LOOPBACK = Address("127.0.0.1", 18000)
PUBLIC = Address("0.0.0.0", 18000)
TOKEN = "0123456789abcdef"


def settle(*listens: Address, token_file: str | None = None, word: str | None = None) -> str | None:
    return auth.settle(
        listens, token_file=token_file, auth=word, config_file="/etc/creche/registry.toml"
    )


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "cluster.token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    return file


def test_on_loopback_nothing_is_wanted() -> None:
    assert settle(LOOPBACK, Address("::1", 1), Address("localhost", 2)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.10", "gpu-03"])
def test_off_loopback_it_refuses_and_says_which_line_settles_it(host: str) -> None:
    with pytest.raises(RefusalError) as refusal:
        settle(LOOPBACK, Address(host, 18000))
    lines = str(refusal.value).splitlines()
    assert lines[0].endswith(
        ":18000 is reachable by others and neither token_file nor auth is set."
    )
    assert lines[1] == "  Add one line to /etc/creche/registry.toml:"
    assert lines[2].startswith('    token_file = "')
    assert lines[3].startswith('    auth = "none" ')


def test_the_word_none_settles_it() -> None:
    assert settle(PUBLIC, word="none") is None


def test_a_token_file_settles_it_and_is_used_on_loopback_too(token_file: Path) -> None:
    assert settle(PUBLIC, token_file=str(token_file)) == TOKEN
    assert settle(LOOPBACK, token_file=str(token_file), word="none") == TOKEN


def test_a_token_that_was_read_is_hidden_from_then_on(token_file: Path) -> None:
    auth.read_token(str(token_file))
    assert TOKEN not in SECRETS.hide(f"x{TOKEN}y")


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o601])
def test_a_token_that_everyone_may_read_is_refused(token_file: Path, mode: int) -> None:
    token_file.chmod(mode)
    with pytest.raises(RefusalError, match=rf"mode {mode:03o}\).\n  Close it:  chmod 600"):
        auth.read_token(str(token_file))


def test_a_group_may_read_it(token_file: Path) -> None:
    token_file.chmod(0o640)
    assert auth.read_token(str(token_file)) == TOKEN


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"short", "5 characters, at least 8"),
        (b"0123456789\n0123456789\n", "more than one line"),
        (b"0123 456789", "more than one line"),
        (b"\xff\xfe0123456789", "more than one line"),
        (b"x" * 5000, "longer than 4096"),
    ],
)
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(RefusalError, match=says) as refusal:
        auth.read_token(str(file))
    assert "openssl rand -hex 32" in str(refusal.value)
    assert "0123456789" not in str(refusal.value)


def test_a_missing_file_is_refused_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="No such file") as refusal:
        auth.read_token(str(tmp_path / "absent"))
    assert "(umask 077; openssl rand -hex 32" in str(refusal.value)


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"  BEARER   {TOKEN} "])
def test_the_right_token_is_let_in(header: str) -> None:
    assert auth.is_bearer(header, TOKEN)


@given(st.one_of(st.none(), st.text(), st.text().map("Bearer {}".format)))
def test_any_other_header_is_not(header: str | None) -> None:
    assert not auth.is_bearer(header, TOKEN)


def test_a_session_carries_the_token_only_if_there_is_one() -> None:
    assert auth.bearer(TOKEN) == {"Authorization": f"Bearer {TOKEN}"}
    assert auth.bearer(None) == {}
