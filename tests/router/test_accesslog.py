import fcntl
import json
import os
import threading
from collections import Counter

import pytest

from router import accesslog
from router.accesslog import AccessLog, Pipe, console, line
from router.config import Config
from router.errors import invalid
from router.named import Model
from router.outcome import Failure, Outcome
from router.plan import Plan
from router.seam import Attempt, End
from tests.router.making import begin, brain, end, service
from tests.support.until import until


def plan(model: str | None = "m", service_name: str = "a@h") -> Plan:
    found = begin(brain(service(service_name, "m")), model, now=1.0)
    found.next(1.0)
    return found


def ended(outcome: Outcome = Outcome.OK, status: int = 200, **more: object) -> End:
    found = end(outcome, status, 4.42)
    found.first_byte = 1.393
    for name, value in more.items():
        setattr(found, name, value)
    return found


def test_a_line_is_flat_in_stable_order_with_units_last_and_without_nulls() -> None:
    lines: list[bytes] = []
    log = AccessLog(lambda data: lines.append(bytes(data)))
    log.append(plan(), ended(tokens_in=812, tokens_out=240))
    log.flush()
    found = json.loads(lines[0])
    assert list(found) == [
        "ts", "event", "outcome", "id", "model", "service", "attempts", "status",
        "queue_ms", "first_byte_ms", "total_ms", "tokens_in", "tokens_out",
    ]  # fmt: skip
    assert found["first_byte_ms"] == 393
    assert found["total_ms"] == 3420
    assert (found["queue_ms"], found["event"], found["outcome"]) == (0, "request", "ok")
    assert len(found["ts"]) == 24 and found["ts"].endswith("Z")


def test_a_second_upstream_is_told_with_what_became_of_it() -> None:
    two = brain(
        service("a@h", "m"),
        service("b@h", "m"),
        config=Config(models={"m": Model(hedge_after_ms=100)}),
    )
    found = begin(two, "m", now=1.0, stream=True)
    found.next(1.0)
    assert isinstance(found.hedge(2.0), Attempt)
    found.hedge_won(2.1)
    told = line(found, ended(), "now")
    assert (told.attempts, told.hedged) == (2, "won")
    assert "2 attempts  hedge won  id" in console(found, ended(), "09:14:03")


def test_lines_wait_and_leave_together() -> None:
    writes: list[bytes] = []
    log = AccessLog(lambda data: writes.append(bytes(data)))
    for _ in range(5):
        log.append(plan(), ended())
    assert not writes
    log.flush()
    log.flush()
    assert len(writes) == 1
    assert writes[0].count(b"\n") == 5


def test_too_many_waiting_lines_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accesslog, "WAITING_MAX", 2)
    log = AccessLog(lambda data: None)
    for _ in range(5):
        log.append(plan(), ended())
    assert log.dropped == 3


def test_why_it_went_wrong_is_said() -> None:
    cut = ended(Outcome.CUT, failure=Failure.STALLED, events=31)
    assert line(plan(), cut, "t").error == "stalled"
    refused = begin(brain(), "typo")
    refused.next(0.0)
    assert line(refused, ended(Outcome.REFUSED, 503), "t").error == "model_not_found"
    assert line(plan(), ended(), "t").error is None


def test_a_request_refused_at_the_door_says_why() -> None:
    lines: list[bytes] = []
    log = AccessLog(lambda data: lines.append(bytes(data)))
    found = brain()
    found.log = log.append
    found.refused("id", invalid("too large", status=413), 0.0, 1.0)
    log.flush()
    said = json.loads(lines[0])
    assert (said["status"], said["error"]) == (413, "invalid_request")


def test_a_model_cannot_break_the_line() -> None:
    lines: list[bytes] = []
    log = AccessLog(lambda data: lines.append(bytes(data)))
    log.append(begin(brain(), 'x"\n{'), ended())
    log.flush()
    assert lines[0].count(b"\n") == 1
    assert json.loads(lines[0])["model"] == 'x"\n{'


def test_the_short_form_for_a_terminal() -> None:
    shown = console(plan(), ended(tokens_out=240), "09:14:03")
    assert shown.startswith("09:14:03  ok   m → a@h")
    assert shown.endswith("3.42 s  240 tok  id")
    cut = ended(Outcome.CUT, failure=Failure.STALLED, events=31, stalled_s=120.0)
    shown = console(plan(service_name="m@gpu"), cut, "09:14:05")
    assert "CUT  m@gpu" in shown
    assert "stalled 120 s after 31 events" in shown


def test_the_short_form_shows_no_control_characters() -> None:
    refused = begin(brain(), "x\x1b[31m\n")
    shown = console(refused, ended(Outcome.REFUSED, 503), "09:14:05")
    assert shown.isprintable()


async def test_a_reader_that_stands_still_stops_nobody() -> None:
    reading, writing = os.pipe()
    pipe = Pipe(writing)
    chunk = b"x" * (1 << 20)
    for _ in range(30):
        pipe.write(chunk)
    assert pipe.dropped_bytes > 0
    got = 0

    def read() -> None:
        nonlocal got
        while data := os.read(reading, 1 << 20):
            got += len(data)

    reader = threading.Thread(target=read)
    reader.start()
    await until(lambda: got == 30 * len(chunk) - pipe.dropped_bytes)
    os.close(writing)
    reader.join()
    os.close(reading)


async def test_the_end_waits_for_what_came_while_it_wrote() -> None:
    reading, writing = os.pipe()
    pipe = Pipe(writing)
    read = threading.Thread(target=lambda: got.append(_all_of(reading)))
    got: list[bytes] = []
    pipe.write(b"x" * (1 << 20))
    pipe.write(b"the last line\n")
    read.start()
    await pipe.drain(30)
    os.close(writing)
    read.join()
    os.close(reading)
    assert got[0].endswith(b"the last line\n")


async def test_lines_on_a_shared_pipe_are_whole_although_it_is_full_all_the_time() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    pipes = [Pipe(writing, shared=True) for _ in range(3)]
    got: list[bytes] = []
    read = threading.Thread(target=lambda: got.append(_all_of(reading)))
    for number, pipe in enumerate(pipes):
        pipe.write((b"%d" % number * 300 + b"\n") * 500)
    read.start()
    for pipe in pipes:
        await pipe.drain(30)
    os.close(writing)
    read.join()
    os.close(reading)
    lines = got[0].splitlines()
    assert Counter(lines) == {b"%d" % number * 300: 500 for number in range(3)}


async def test_a_line_longer_than_what_a_pipe_takes_at_once_is_written_all_the_same() -> None:
    reading, writing = os.pipe()
    pipe = Pipe(writing, shared=True)
    text = b"a\n" + b"b" * 10_000 + b"\n" + b"c" * 5_000
    pipe.write(text)
    await pipe.drain(10)
    os.close(writing)
    assert _all_of(reading) == text
    os.close(reading)


def _all_of(fd: int) -> bytes:
    found = bytearray()
    while data := os.read(fd, 1 << 20):
        found += data
    return bytes(found)
