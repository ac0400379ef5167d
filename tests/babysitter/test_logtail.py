"""Reading a rotated log: its last lines, and what comes next."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from babysitter import logtail
from babysitter.logtail import MISSED, follow, tail
from babysitter.shimlog import LINE_BYTES_MAX, LINES_MAX, RotatedLog

LOOK_S = 0.001


async def take(lines: AsyncIterator[str], count: int) -> list[str]:
    async with asyncio.timeout(10):
        return [await anext(lines) for _ in range(count)]


async def test_the_last_lines_come_from_as_many_files_as_it_takes(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "log"), 8, 9)
    for number in range(10):
        log.add(b"line %d\n" % number)
    assert await tail(tmp_path / "log", 4) == ["line 6", "line 7", "line 8", "line 9"]
    assert len(await tail(tmp_path / "log", 100)) == 9
    assert await tail(tmp_path / "log", 0) == []
    assert await tail(tmp_path / "log", -1) == []


async def test_a_line_over_two_files_is_one_and_an_unfinished_one_is_shown(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_bytes(b"a\nbc")
    (tmp_path / "log").write_bytes(b"de\nf")
    assert await tail(tmp_path / "log", 9) == ["a", "bcde", "f"]


async def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert await tail(tmp_path / "log", 9) == []


async def test_no_more_than_the_bounds_are_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 99 + b"\n" + b"y\n" * (LINES_MAX + 5))
    assert await tail(tmp_path / "log", 10**9) == ["y"] * LINES_MAX
    (tmp_path / "log").write_bytes(b"z" * (logtail.TAIL_BYTES_MAX + 9) + b"\nend\n")
    assert await tail(tmp_path / "log", 5) == ["end"]


async def test_following_survives_rotations_and_loses_no_line(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "log"), 40, 9)
    log.add(b"before\nlast\n")
    async with follow(tmp_path / "log", 1, look_s=LOOK_S) as lines:
        assert await take(lines, 1) == ["last"]
        sent = [f"line {number}" for number in range(200)]
        got: list[str] = []
        for start in range(0, 200, 20):  # rotates several times between two looks
            for line in sent[start : start + 20]:
                log.add(line.encode() + b"\n")
            got += await take(lines, 20)
        assert got == sent


async def test_a_reader_that_is_too_slow_is_told(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "log"), 8, 2)
    log.add(b"first\n")
    async with follow(tmp_path / "log", 1, look_s=LOOK_S) as lines:
        assert await take(lines, 1) == ["first"]
        for number in range(9):
            log.add(b"line %d\n" % number)
        assert await take(lines, 3) == [MISSED, "line 7", "line 8"]


async def test_from_the_moment_it_is_followed_no_line_is_missed(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "log"), 1000, 2)
    log.add(b"before\n")
    async with follow(tmp_path / "log", look_s=LOOK_S) as lines:
        log.add(b"said at once\n")
        assert await take(lines, 1) == ["said at once"]


def test_a_look_that_comes_after_the_end_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"here\n")
    reader = logtail._Reader(tmp_path / "log")
    assert reader.begin(1) == ["here"]
    reader.close()
    assert (reader.begin(1), reader.more(), reader._fd) == ([], [], -1)


async def test_a_log_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    async with follow(tmp_path / "log", 5, look_s=LOOK_S) as lines:
        first = asyncio.gather(take(lines, 1))
        await asyncio.to_thread((tmp_path / "log").write_bytes, b"here\n")
        assert await first == [["here"]]


async def test_an_unfinished_line_comes_once_and_whole(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "log"), 1000, 2)
    log.add(b"done\nhal")
    async with follow(tmp_path / "log", 5, look_s=LOOK_S) as lines:
        assert await take(lines, 1) == ["done"]
        log.add(b"f\n10%\r99%\r")
        assert await take(lines, 1) == ["half"]
        log.add(b"100%\r\nend\n")
        assert await take(lines, 2) == ["100%", "end"]


async def test_an_endless_line_is_cut_and_held_nowhere(tmp_path: Path) -> None:
    log = RotatedLog(str(tmp_path / "log"), 10**7, 2)
    log.add(b"start\n")
    async with follow(tmp_path / "log", 1, look_s=LOOK_S) as lines:
        await take(lines, 1)
        log.add(b"x" * (LINE_BYTES_MAX * 20))
        (cut,) = await take(lines, 1)
        assert cut.endswith("(cut)")
        log.add(b"rest\nnext\n")
        assert await take(lines, 1) == ["next"]
