"""`python -m bench.fairness`: what a flood does to the others' wait, and how true Retry-After is.

An engine with PLACES places, a router, and clients on addresses of their own (without keys each
address is a caller). One asks now and then; first alone, then beside one that always has FLOOD
requests there. Meanwhile twins come: one that will not wait, and is told when to come back, and one
that waits: how long it did is what the other should have been told.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from msgspec import Struct, to_builtins

from common import clock, tasks
from tests.support.fleet import Fleet, chat
from tests.support.mock import start_mock

OUT = Path(__file__).parent / "out" / "fairness.json"
PLACES = 4
SERVICE_MS = 100
FLOOD = 200
#: Of the one that asks now and then, and of the twins.
PAUSE_S = 0.25
TIMEOUT_S = 60


class Found(Struct, frozen=True, kw_only=True):
    """Milliseconds; waits are what an answer took beyond the engine's own time."""

    wait_calm_ms: float
    wait_calm_p95_ms: float
    wait_flooded_ms: float
    wait_flooded_p95_ms: float
    #: A turn of the flood's, of the twins' and its own, each as long as a place takes to come free.
    bound_ms: float
    #: Predicted and real wait of the twins, each on its address.
    twins: list[tuple[str, float, float]]
    refused: int


class Caller:
    """A client on an address of its own."""

    def __init__(self, url: str, address: str, stack: AsyncExitStack) -> None:
        self._url = url
        self._session = ClientSession(
            connector=TCPConnector(limit=0, local_addr=(address, 0)),
            timeout=ClientTimeout(total=TIMEOUT_S),
        )
        self.address = address
        stack.push_async_callback(self._session.close)

    async def ask(self, **headers: str) -> tuple[int, float, float]:
        """Status, milliseconds that it took, and those that Retry-After says."""
        started = clock.monotonic()
        async with self._session.post(self._url, json=chat("m"), headers=headers) as answer:
            await answer.read()
            took_ms = (clock.monotonic() - started) * 1000
            return answer.status, took_ms, float(answer.headers.get("retry-after-ms", "0"))


async def now_and_then(caller: Caller, times: int) -> list[float]:
    waits = []
    for _ in range(times):
        status, took_ms, _ = await caller.ask()
        assert status == 200, status
        waits.append(max(took_ms - SERVICE_MS, 0.0))
        await asyncio.sleep(PAUSE_S)
    return waits


async def flood(caller: Caller, stop: asyncio.Event, refused: list[int]) -> None:
    async def one() -> None:
        while not stop.is_set():
            status, _, _ = await caller.ask()
            if status != 200:
                refused.append(status)
                await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*(one() for _ in range(FLOOD)))


async def twins(caller: Caller, times: int) -> list[tuple[str, float, float]]:
    found = []
    for _ in range(times):
        status, _, told_ms = await caller.ask(**{"x-request-timeout": "0"})
        if status == 200:
            continue
        status, took_ms, _ = await caller.ask()
        if status == 200:
            found.append((caller.address, told_ms, max(took_ms - SERVICE_MS, 0.0)))
        await asyncio.sleep(PAUSE_S)
    return found


async def measure(times: int, folder: Path) -> Found:
    async with AsyncExitStack() as stack:
        fleet = stack.enter_context(Fleet(folder))
        engine = await start_mock(
            fleet.processes, name="engine", models=["m"], max_concurrency=PLACES
        )
        await engine.faults({"delay-ms": SERVICE_MS})
        service = {
            "name": "engine",
            "host": "127.0.0.1",
            "port": engine.port,
            "metadata": {"models": ["m"], "max_concurrency": PLACES},
        }
        router = fleet.router(registries=[], static_services=[service], access_log=False)
        url = f"{router.url}/v1/chat/completions"
        asker, flooder, other = (Caller(url, f"127.0.0.{n}", stack) for n in (11, 12, 13))
        calm = await now_and_then(asker, times)
        stop = asyncio.Event()
        refused: list[int] = []
        floods = tasks.spawn(flood(flooder, stop, refused), "flood")
        await asyncio.sleep(1.0)
        work: list[Callable[[], Awaitable[list[tuple[str, float, float]]]]] = [
            lambda: twins(flooder, max(times // 10, 2)),
            lambda: twins(other, times),
        ]
        flooded, *pairs = await asyncio.gather(now_and_then(asker, times), *(one() for one in work))
        stop.set()
        await floods
        return Found(
            wait_calm_ms=median(calm),
            wait_calm_p95_ms=_p95(calm),
            wait_flooded_ms=median(flooded),
            wait_flooded_p95_ms=_p95(flooded),
            bound_ms=3 * SERVICE_MS / PLACES,
            twins=[pair for found in pairs for pair in found],
            refused=len(refused),
        )


def _p95(values: list[float]) -> float:
    return sorted(values)[max(-(-len(values) * 95 // 100), 1) - 1]


def _report(found: Found) -> str:
    lines = [
        f"places {PLACES}, an answer takes {SERVICE_MS} ms, the flood has {FLOOD} requests there",
        "",
        "wait of one that asks now and then    median      p95",
        f"  alone                             {found.wait_calm_ms:6.1f} ms  "
        f"{found.wait_calm_p95_ms:6.1f} ms",
        f"  beside the flood                  {found.wait_flooded_ms:6.1f} ms  "
        f"{found.wait_flooded_p95_ms:6.1f} ms",
        f"  the bound: a turn of each         {found.bound_ms:6.1f} ms",
        "",
        "Retry-After of one that will not wait, beside the wait of its twin",
    ]
    for address in sorted({one for one, _, _ in found.twins}):
        pairs = [(told, real) for one, told, real in found.twins if one == address]
        errors = [abs(told - real) for told, real in pairs]
        lines.append(
            f"  {address}: told {median([t for t, _ in pairs]):7.1f} ms, waited "
            f"{median([r for _, r in pairs]):7.1f} ms, error {median(errors):6.1f} ms "
            f"(median of {len(pairs)}), at most {max(errors):.1f} ms"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--times", type=int, default=60, help="requests of each; default: 60")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(args.times, Path(folder)))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(to_builtins(found), indent=1))
    print(_report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
