import os
from pathlib import Path

import pytest

from router.versions import ASIDE_MAX, Versions, digest, put_back, write

DAY = 86_400.0


def numbers(versions: Versions) -> list[int]:
    return [one.version for one in versions.all()]


def in_force(versions: Versions) -> list[int]:
    return [one.version for one in versions.all() if one.in_force]


def test_a_good_file_is_kept_byte_for_byte_with_time_and_digest(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "v")
    assert versions.all() == []
    text = "# ünïcode\r\nlisten = 1\n"
    assert versions.keep(text, DAY, most=10) == 1
    (one,) = versions.all()
    assert (one.version, one.kept_at, one.in_force) == (1, "1970-01-02T00:00:00+00:00", True)
    assert one.digest == digest(text)
    assert versions.read(1) == text
    assert versions.read(2) is None


def test_only_its_owner_may_read_them(tmp_path: Path) -> None:
    Versions(tmp_path / "v").keep("a", DAY, most=10)
    assert (tmp_path / "v").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "v").iterdir()} == {0o600}


def test_the_oldest_go_first(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for number in range(1, 16):
        assert versions.keep(f"text {number}", DAY * number, most=10) == number
    assert numbers(versions) == list(range(15, 5, -1))
    assert in_force(versions) == [15]
    assert len(list(tmp_path.iterdir())) == 11, "ten and the note of what is in force"


def test_the_one_in_force_never_goes(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for number in range(1, 4):
        versions.keep(f"text {number}", DAY, most=3)
    versions.back_to(1)
    versions._forget(1)
    assert numbers(versions) == [3, 1]


def test_what_is_in_force_is_not_kept_twice(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for _ in range(20):
        assert versions.keep("same", DAY, most=10) == 1
    assert numbers(versions) == [1]


def test_a_number_that_was_told_stays_good_when_its_text_comes_again(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for number, text in enumerate(("a", "b", "a", "b", "a"), 1):
        assert versions.keep(text, DAY, most=10) == number
    assert numbers(versions) == [5, 4, 3, 2, 1]
    assert [versions.read(number) for number in (1, 2, 5)] == ["a", "b", "a"]
    versions.back_to(1)
    assert in_force(versions) == [1]


def test_the_start_is_kept_while_it_is_one_of_the_last(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    versions.keep("the start", DAY, most=10)
    for number in range(9):
        versions.keep("ab"[number % 2], DAY, most=10)
    assert versions.read(1) == "the start"
    versions.keep("one more", DAY, most=10)
    assert numbers(versions) == list(range(11, 1, -1))


def test_a_rollback_returns_to_another_text_whatever_its_numbers(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for text in ("a", "b", "c", "b"):
        versions.keep(text, DAY, most=10)
    assert versions.before(4) == 3
    versions.back_to(3)
    assert [one.version for one in versions.all() if one.rejected] == [4, 2], "both are b"
    assert versions.before(3) == 1
    versions.back_to(1)
    assert versions.before(1) is None
    versions.back_to(2)
    assert [one.version for one in versions.all() if one.rejected] == [3, 1]


def test_a_rollback_returns_to_the_one_before_and_then_further_back(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    assert versions.before(None) is None
    for text in ("a", "b", "c"):
        versions.keep(text, DAY, most=10)
    assert versions.before(None) == 3
    for wanted in (2, 1):
        assert versions.before(wanted + 1) == wanted
        versions.back_to(wanted)
        assert in_force(versions) == [wanted]
    assert versions.before(1) is None, "nothing older"
    assert [one.rejected for one in versions.all()] == [True, True, False]


def test_what_was_rolled_back_from_is_not_returned_to_by_itself(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for text in ("good", "bad"):
        versions.keep(text, DAY, most=10)
    versions.back_to(1)
    assert versions.keep("mended", DAY, most=10) == 3
    assert versions.before(3) == 1, "not the bad one"
    versions.back_to(2)
    assert in_force(versions) == [2], "unless it is asked for by its number"
    assert [one.version for one in versions.all() if one.rejected] == [3]


def test_a_bad_one_that_is_loaded_again_is_rejected_no_more(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for text in ("good", "bad"):
        versions.keep(text, DAY, most=10)
    versions.back_to(1)
    assert versions.keep("bad", DAY, most=10) == 3
    assert [one.version for one in versions.all() if one.rejected] == []
    assert versions.before(3) == 1, "not the same text under its older number"


def test_a_damaged_note_loses_nothing_but_what_is_in_force(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    versions.keep("a", DAY, most=10)
    (tmp_path / "in-force.json").write_text("{")
    (tmp_path / "a stranger.toml").write_text("?")
    assert [(one.version, one.in_force) for one in versions.all()] == [(1, False)]
    assert versions.keep("a", DAY, most=10) == 2
    assert in_force(versions) == [2]


def test_what_cannot_be_written_leaves_what_was(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("a file where the folder should be")
    with pytest.raises(OSError):
        Versions(tmp_path / "v").keep("a", DAY, most=10)
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(OSError):
        write(target, b"a folder cannot be replaced by a file")
    assert os.listdir(tmp_path) == ["v", "folder"] or os.listdir(tmp_path) == ["folder", "v"]


def test_a_file_is_put_back_and_the_one_before_is_kept_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.write_text("bad")
    file.chmod(0o640)
    aside = put_back(file, "good", DAY)
    assert aside == tmp_path / "router.toml.rejected-19700102T000000Z"
    assert (file.read_text(), aside.read_text()) == ("good", "bad")
    assert {file.stat().st_mode & 0o777, aside.stat().st_mode & 0o777} == {0o640}
    assert put_back(file, "good", DAY) is None, "it says so already"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "r.toml"
    real.write_text("bad")
    link = tmp_path / "router.toml"
    link.symlink_to(real)
    put_back(link, "good", DAY)
    assert link.is_symlink()
    assert real.read_text() == "good"


def test_a_file_that_is_gone_comes_back(tmp_path: Path) -> None:
    assert put_back(tmp_path / "router.toml", "good", DAY) is None
    assert (tmp_path / "router.toml").read_text() == "good"


def test_files_set_aside_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    for number in range(ASIDE_MAX + 3):
        file.write_text(f"bad {number}")
        put_back(file, "good", DAY * (number + 1))
    aside = sorted(path.read_text() for path in tmp_path.glob("*.rejected-*"))
    assert len(aside) == ASIDE_MAX
    assert "bad 2" not in aside and f"bad {ASIDE_MAX + 2}" in aside
