import asyncio
import os

import pytest

from router.body import Bodies, Body, FullError, Pump, TooLargeError, length, segments
from router.seam import Edit
from tests.support.until import until


def bodies(**caps: int) -> Bodies:
    sizes = {
        "body_bytes_max": 10_000_000,
        "body_memory_bytes": 1000,
        "memory_bytes_max": 20_000_000,
        "disk_bytes_max": 20_000_000,
    } | caps
    return Bodies(asyncio.get_running_loop(), **sizes)


async def finished(body: Body) -> None:
    done = asyncio.Event()
    body.finish(done.set)
    await done.wait()


async def test_a_small_body_stays_in_memory() -> None:
    store = bodies()
    body = Body(store)
    body.add(b"abc")
    body.add(b"def")
    await finished(body)
    assert (body.on_disk, body.whole(), store.memory) == (False, b"abcdef", 6)
    body.release()
    body.release()
    assert (store.memory, store.disk) == (0, 0)


async def test_a_large_body_goes_to_a_file_that_has_no_name() -> None:
    store = bodies()
    body = Body(store)
    data = os.urandom(3_000_000)
    for start in range(0, len(data), 70_000):
        body.add(data[start : start + 70_000])
    await finished(body)
    assert body.on_disk
    assert body.whole() == data
    assert (store.memory, store.disk) == (0, len(data))
    body.release()
    assert (store.memory, store.disk) == (0, 0)
    store.close()


async def test_a_body_released_while_it_is_written_gives_back_when_the_write_ends() -> None:
    store = bodies()
    body = Body(store)
    body.add(b"x" * 1_000_000)
    body.release()
    await until(lambda: (store.memory, store.disk) == (0, 0))
    store.close()


async def test_one_body_and_all_bodies_have_limits() -> None:
    store = bodies(body_bytes_max=2000, memory_bytes_max=1500, disk_bytes_max=1800)
    one = Body(store)
    with pytest.raises(TooLargeError):
        one.add(b"x" * 2001)
    two = Body(store)
    two.add(b"x" * 900)
    with pytest.raises(FullError):
        one.add(b"x" * 900)
    two.release()
    with pytest.raises(FullError):
        one.add(b"x" * 1900)
    one.release()
    three = Body(store)
    three.add(b"x" * 1200)
    assert three.on_disk
    with pytest.raises(FullError):
        three.add(b"x" * 700)
    three.release()
    await until(lambda: (store.memory, store.disk) == (0, 0))
    store.close()


async def test_a_disk_that_fails_is_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    store = bodies()
    body = Body(store)
    body.add(b"x" * 600_000)
    await finished(body)
    assert body.failed is not None
    body.release()
    assert (store.memory, store.disk) == (0, 0)
    store.close()


async def test_a_backlog_towards_the_disk_is_told_and_ends() -> None:
    store = bodies()
    body = Body(store)
    told: list[bool] = []
    body.on_backlog = told.append
    for _ in range(50):
        body.add(b"x" * 100_000)
    assert told and told[-1] is True
    await until(lambda: told[-1] is False)
    await finished(body)
    body.release()
    store.close()


@pytest.mark.parametrize("size", [500, 5000, 1_000_000])
async def test_a_part_can_be_replaced_on_the_way_upstream(size: int) -> None:
    store = bodies()
    body = Body(store)
    data = b'{"model":"m",' + b"x" * size
    body.add(data)
    await finished(body)
    parts = segments(body, Edit(9, 12, b'"longer"'))
    wanted = b'{"model":"longer",' + b"x" * size
    assert length(parts) == len(wanted)
    assert await pumped(store, body, parts) == wanted
    body.release()
    store.close()


async def pumped(store: Bodies, body: Body, parts: list[bytes | tuple[int, int]]) -> bytes:
    out: list[bytes] = []
    done = asyncio.Event()

    def write(data: bytes) -> None:
        out.append(data)
        pump.pause()
        asyncio.get_running_loop().call_soon(pump.resume, store)

    pump = Pump(body, parts, write, done.set, lambda: pytest.fail("broke"))
    pump.start(store)
    await done.wait()
    return b"".join(out)


async def test_a_cancelled_pump_lets_the_file_go() -> None:
    store = bodies()
    body = Body(store)
    body.add(b"x" * 3_000_000)
    await finished(body)
    out: list[bytes] = []
    pump = Pump(body, segments(body, None), out.append, lambda: None, lambda: None)
    pump.start(store)
    pump.cancel()
    body.release()
    await until(lambda: (store.memory, store.disk) == (0, 0))
    assert out == []
    store.close()
