"""The rotated log and the ring, on bytes alone."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from babysitter.shimlog import LINE_BYTES_MAX, Ring, RotatedLog, last_lines, show


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}


def test_a_full_file_is_rotated_at_the_end_of_a_line(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "log"), 10, 3)
    for line in (b"one\n", b"two\n", b"three\n", b"four\n", b"five\n", b"six\n"):
        log.add(line)
    log.close()
    assert files(tmp_path) == {"log": b"six\n", "log.1": b"four\nfive\n", "log.2": b"three\n"}


def test_a_chunk_that_fits_in_no_file_is_broken(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "log"), 4, 2)
    log.add(b"0123456789")
    log.close()
    assert files(tmp_path) == {"log": b"89", "log.1": b"4567"}


def test_one_file_alone_is_begun_anew(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "log"), 4, 1)
    log.add(b"abc\nxyz\n")
    log.close()
    assert files(tmp_path) == {"log": b"xyz\n"}


def test_a_later_life_goes_on_in_the_same_file_and_forgets_files_beyond_its_number(
    tmp_path: Path,
) -> None:
    for number in range(1, 5):
        (tmp_path / f"log.{number}").write_bytes(b"old")
    (tmp_path / "log").write_bytes(b"first\n")
    log = RotatedLog(str(tmp_path / "log"), 8, 2)
    log.add(b"second\n")
    log.close()
    assert files(tmp_path) == {"log": b"second\n", "log.1": b"first\n"}


def test_what_a_full_disk_refused_is_counted_and_told_when_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    log = RotatedLog(str(tmp_path / "log"), 1000, 2)
    log.add(b"lost\n")
    log.add(b"too\n")
    assert log.lost_bytes == 9
    log.close()
    (tmp_path / "log").unlink()
    log.add(b"found\n")
    log.close()
    told = "\n--- creche: 9 bytes of output lost here (disk full) ---\n"
    assert files(tmp_path) == {"log": told.encode() + b"found\n"}
    assert log.lost_bytes == 9


def test_a_folder_that_is_gone_costs_only_output(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "none" / "log"), 10, 2)
    log.add(b"lost")
    log.close()
    assert log.lost_bytes == 4


def test_a_rotation_that_cannot_be_made_costs_output_and_not_the_disk(tmp_path: Path) -> None:
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "in the way").touch()
    log = RotatedLog(str(tmp_path / "log"), 4, 2)
    log.add(b"abc\ndef\n")
    log.close()
    assert log.lost_bytes == 4
    assert (tmp_path / "log").read_bytes() == b"abc\n"


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 30), st.integers(1, 4))
def test_files_hold_the_end_of_the_stream_within_their_bounds(
    chunks: list[bytes], bytes_max: int, count: int
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        log = RotatedLog(os.path.join(folder, "log"), bytes_max, count)
        for chunk in chunks:
            log.add(chunk)
        log.close()
        found = files(Path(folder))
    assert len(found) <= count
    assert all(len(text) <= bytes_max for text in found.values())
    held = b"".join(found[name] for name in sorted(found, reverse=True))
    assert b"".join(chunks).endswith(held)
    if any(chunks):
        assert held


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 50))
def test_the_ring_holds_the_end_of_the_stream(chunks: list[bytes], bytes_max: int) -> None:
    ring = Ring(bytes_max)
    for chunk in chunks:
        ring.add(chunk)
    stream = b"".join(chunks)
    kept = stream[-bytes_max:]
    assert ring.lines(1000) == last_lines(kept, 1000, whole=len(stream) <= bytes_max)


def test_half_a_line_is_left_out_unless_it_is_all_there_is() -> None:
    assert last_lines(b"alf\none\ntwo", 5, whole=False) == ["one", "two"]
    assert last_lines(b"alf", 5, whole=False) == ["alf"]
    assert last_lines(b"all\none\n", 5, whole=True) == ["all", "one"]
    assert last_lines(b"one\ntwo\n", 1, whole=True) == ["two"]
    assert last_lines(b"one\n", 0, whole=True) == []
    assert last_lines(b"", 5, whole=True) == []


def test_a_progress_bar_shows_its_last_state_and_a_giant_its_start() -> None:
    assert show(b"10%\r50%\r100%\r") == "100%"
    assert show(b"windows\r") == "windows"
    assert show(b"\xff") == "\ufffd"
    giant = show(b"a" * (LINE_BYTES_MAX + 1))
    assert giant == "a" * LINE_BYTES_MAX + " … (cut)"
