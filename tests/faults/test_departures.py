"""Clients that leave free their engine, in every phase. The mock engine is the witness.

How fast is measured by `make bench-times`; here it is the order of events that counts: after the
last client has left, the engine's count of departures rises to theirs, and nothing stays taken.
"""

import asyncio
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet, chat
from tests.support.mock import ProcessMock, start_mock
from tests.support.until import until

pytestmark = pytest.mark.real

AT_ONCE = 50
#: In each of four phases: 1,000 in all, or as many as DEPARTURES says (by hand: 10000).
CLIENTS = max(1, int(os.environ.get("DEPARTURES", "1000")) // 4 // AT_ONCE) * AT_ONCE
#: At once in the phase that holds them all.
CONNECTING = 250


def request(model: str, headers: dict[str, str], **more: Any) -> bytes:
    body = json.dumps(chat(model, **more)).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: router",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def router_at_rest(fleet: Fleet) -> bool:
    stats = fleet.parts["router"].get("/stats")
    return stats["active_streams"] == 0 and all(
        one["in_flight"] == 0 for one in stats["services"].values()
    )


async def fleet_with(folder: Path, **flags: Any) -> tuple[Fleet, ProcessMock]:
    fleet = Fleet(folder)
    try:
        engine = await start_mock(fleet.processes, name="witness", models=["m"], **flags)
        fleet.router(
            registries=[],
            timeouts={"connect_s": 60},  # one that is given up and made again is counted
            static_services=[
                {
                    "name": "witness",
                    "host": "127.0.0.1",
                    "port": engine.port,
                    "metadata": {"models": ["m"]},
                }
            ],
        )
    except BaseException:
        fleet.processes.close()
        raise
    return fleet, engine


async def all_leave(
    fleet: Fleet, engine: ProcessMock, payload: bytes, phase: str, *, seen: int = 0
) -> None:
    """Batches of clients that are known to have reached the engine before they leave."""
    for batch in range(0, CLIENTS, AT_ONCE):
        connections = []
        for _ in range(AT_ONCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", fleet.parts["router"].port)
            writer.write(payload)
            connections.append((reader, writer))
        await engine.saw(requests=batch + AT_ONCE, timeout_s=60)
        for number, (reader, writer) in enumerate(connections):
            if seen:
                await reader.readuntil(b"\r\n\r\n")
                await reader.read(seen)
            if number % 2:
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
        await engine.saw(aborts__total=batch + AT_ONCE, in_flight=0, queued=0, timeout_s=60)
    stats = await engine.saw(**{f"aborts__{phase}": CLIENTS})
    assert stats["completions"] == 0
    await until(lambda: asyncio.to_thread(router_at_rest, fleet), 30, "the router holds nothing")
    looks, stats = engine.looks + 1, await engine.stats()
    theirs = stats["connections"]["total"] - looks
    assert theirs == CLIENTS, "none was used again after its client had left"


async def test_who_leaves_while_waiting_frees_the_engine(tmp_path: Path) -> None:
    fleet, engine = await fleet_with(tmp_path)
    with fleet:
        await all_leave(fleet, engine, request("m", {"x-mock-hang": "before"}), "waiting")


async def test_who_leaves_in_mid_stream_frees_the_engine(tmp_path: Path) -> None:
    fleet, engine = await fleet_with(tmp_path)
    with fleet:
        payload = request("m", {"x-mock-hang": "middle"}, stream=True)
        await all_leave(fleet, engine, payload, "streaming", seen=20)


async def test_who_leaves_a_queue_frees_the_place(tmp_path: Path) -> None:
    """The engine works on one request; everyone else waits in its queue, and leaves."""
    fleet, engine = await fleet_with(tmp_path, max_concurrency=1)
    with fleet:
        holder = await asyncio.open_connection("127.0.0.1", fleet.parts["router"].port)
        holder[1].write(request("m", {"x-mock-hang": "before"}))
        await engine.saw(in_flight=1)
        for batch in range(0, CLIENTS, AT_ONCE):
            writers = []
            for _ in range(AT_ONCE):
                _, writer = await asyncio.open_connection("127.0.0.1", fleet.parts["router"].port)
                writer.write(request("m", {}))
                writers.append(writer)
            await engine.saw(queued=AT_ONCE, timeout_s=60)
            for writer in writers:
                writer.close()
            await engine.saw(queued=0, aborts__queued=batch + AT_ONCE, timeout_s=60)
        holder[1].close()
        await engine.saw(in_flight=0, aborts__total=CLIENTS + 1)
        await until(lambda: asyncio.to_thread(router_at_rest, fleet), 30, "nothing is held")


async def test_who_leaves_while_connecting_leaves_nothing_behind(tmp_path: Path) -> None:
    """A listener whose queue is full: connects hang. Whoever leaves ends the connect too."""
    with socket.socket() as full, Fleet(tmp_path) as fleet:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:  # the kernel takes a few, then drops SYNs
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        fleet.router(
            registries=[],
            timeouts={"connect_s": 120},
            static_services=[
                {
                    "name": "full",
                    "host": "127.0.0.1",
                    "port": port,
                    "metadata": {"models": ["m"]},
                }
            ],
        )
        router = fleet.parts["router"]

        def in_flight() -> int:
            service = router.get("/stats")["services"].get("full", {})
            count: int = service.get("in_flight", 0)
            return count

        left = 0
        while left < CLIENTS:
            batch = min(CONNECTING, CLIENTS - left)
            writers = []
            for _ in range(batch):
                _, writer = await asyncio.open_connection("127.0.0.1", router.port)
                writer.write(request("m", {}))
                writers.append(writer)
            await until(lambda n=batch: asyncio.to_thread(lambda: in_flight() == n), 60, "connect")
            for writer in writers:
                writer.close()
            await until(lambda: asyncio.to_thread(router_at_rest, fleet), 30, "nothing is held")
            left += batch
        stats = router.get("/stats")
        assert stats["cancelled"] == CLIENTS
        assert stats["failed_requests"] == 0
        for filler in fillers:
            filler.close()
