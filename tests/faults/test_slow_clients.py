"""slowhttptest against a running router: 500 slow clients at once, and what becomes of others.

It wants the Debian package slowhttptest (`make test` installs it).
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common import http
from tests.router.relay_kit import CHAT, OK, Talk, Upstream
from tests.support.fleet import Fleet, Part
from tests.support.until import until

pytestmark = pytest.mark.real

CONNECTIONS = 500
#: Of a head, a body, an answer that is not taken. Far below slowhttptest's own end.
LIMIT_S = 2
END_S = 60
MODES = {
    "head": ["-H", "-u", "{url}/x"],
    "body": ["-B", "-s", "8192", "-f", "application/json", "-u", "{url}/v1/chat/completions"],
    "answer": ["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-u", "{url}/long"],
}


async def answers(talk: Talk) -> None:
    """/long gets a megabyte as fast as it is taken, all else a word."""
    while True:
        head, _ = await talk.request()
        if not head.startswith(b"GET /long "):
            await talk.say(OK)
            continue
        await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n")
        for _ in range(16):
            await talk.say(b"x" * 65_536)


@contextlib.asynccontextmanager
async def others(router: Part) -> AsyncIterator[list[float]]:
    """Requests of somebody else, one after another: how long each took, in seconds."""
    took: list[float] = []
    loop = asyncio.get_running_loop()

    async def ask() -> None:
        async with http.client(total_s=30) as client:
            while True:
                began = loop.time()
                async with client.post(f"{router.url}/v1/chat/completions", data=CHAT) as answer:
                    assert answer.status == 200
                    await answer.read()
                took.append(loop.time() - began)
                await asyncio.sleep(0.05)

    asking = asyncio.ensure_future(ask())  # noqa: TID251  (ended right here)
    try:
        yield took
    finally:
        failed = asking.done()
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        assert not failed


async def metric(router: Part, line: str, least: float, *, exactly: bool = False) -> bool:
    """Whether it is at least so much."""
    text = await asyncio.to_thread(router.get, "/metrics")
    found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    assert found is not None, line
    return float(found[1]) == least if exactly else float(found[1]) >= least


@pytest.mark.parametrize("mode", MODES)
async def test_slow_clients_are_closed_at_the_limit_and_others_do_not_notice(
    mode: str, tmp_path: Path
) -> None:
    upstream = Upstream(answers)
    await upstream.start()
    services = [{"name": "up", "host": "127.0.0.1", "port": upstream.port}]
    limits = {"head_s": LIMIT_S, "body_s": LIMIT_S, "write_idle_s": LIMIT_S}
    with Fleet(tmp_path) as fleet:
        router = await asyncio.to_thread(
            lambda: fleet.router(registries=[], static_services=services, timeouts=limits)
        )
        argv = ["slowhttptest", "-c", str(CONNECTIONS), "-r", "250", "-i", "1"]
        argv += ["-l", str(END_S), "-p", "5", *(one.format(url=router.url) for one in MODES[mode])]
        async with others(router) as took:
            attack = fleet.processes.start(argv, name="slowhttptest")
            closed = f'creche_slow_clients_total{{of="{mode}"}}'
            await until(lambda: metric(router, closed, CONNECTIONS * 0.95), END_S, "all are closed")
            # Of those whose answers it reads, slowhttptest learns that no sooner than it reads.
            if mode != "answer":
                await attack.ended(END_S)
                assert "No open connections left" in attack.log, attack.tail()
            else:
                attack.terminate()
            await until(lambda: len(took) > 10, what="others are answered")
        await until(lambda: metric(router, "creche_active_streams", 0, exactly=True))
        await until(lambda: len(upstream.talks) - upstream.closed <= 1, what="upstreams are free")
    await upstream.close()
