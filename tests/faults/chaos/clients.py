"""The load: clients that ask, read, and now and then leave. Every request gets an Entry."""

import asyncio
import contextlib
import json
import time
from itertools import count
from random import Random

import aiohttp

from babysitter.mock import text
from tests.faults.chaos.arena import ASKED, Arena
from tests.faults.chaos.ledger import Became, Entry

CLIENTS = 16
#: Far beyond every time limit of the routers: who still waits then waits for ever.
PATIENCE_S = 60.0
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")
#: Of the message: most are small, few are beyond what a router keeps in memory.
SIZES = (40, 40, 40, 400, 400, 4_000, 40_000, 150_000)
THINKS_S = (0.02, 0.25)

#: For plain requests, and for streams.
Sessions = tuple[aiohttp.ClientSession, aiohttp.ClientSession]


class Clients:
    """`entries` grows; `stop` lets each end what it began."""

    def __init__(self, arena: Arena, seed: int, clients: int = CLIENTS) -> None:
        self.entries: list[Entry] = []
        self._arena = arena
        self._seed = seed
        self._clients = clients
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        # A stream that is told in-band ends well framed, and then its connection is closed: who
        # takes that from a pool in the same moment loses a request. So streams have their own.
        async with _session(pooled=True) as plain, _session(pooled=False) as streams:
            await asyncio.gather(
                *(self._client((plain, streams), one) for one in range(self._clients))
            )

    async def _client(self, http: Sessions, number: int) -> None:
        chance = Random(f"{self._seed}/{number}")
        for asked in count():
            if self._stopped.is_set():
                return
            entry = await self._ask(http, chance, f"chaos-{number}-{asked}")
            self.entries.append(entry)
            thinks = chance.uniform(*THINKS_S) + (0.3 if entry.became is Became.LOST else 0.0)
            try:
                await asyncio.wait_for(self._stopped.wait(), thinks)
            except TimeoutError:
                pass

    async def _ask(self, http: Sessions, chance: Random, name: str) -> Entry:
        router = chance.choice(tuple(self._arena.routers))
        model = chance.choice(tuple(ASKED))
        stream = chance.random() < 0.5
        tokens = chance.choice((4, 8, 16, 60))
        size = chance.choice(SIZES)
        leaves = chance.uniform(0.0, 0.25) if chance.random() < 0.12 else None
        words = " ".join(chance.choice(WORDS) for _ in range(6))
        prompt = f"{name} {words} ".ljust(size, "x")
        body = {
            "model": model,
            "stream": stream,
            "messages": [{"role": "user", "content": prompt}],
        }
        headers = {"x-request-id": name, "x-mock-tokens": str(tokens)}
        if not stream and chance.random() < 0.5:
            headers["x-mock-delay-ms"] = str(chance.choice((20, 100, 300)))
        right = {"".join(text.tokens(None, one, [prompt], tokens)) for one in ASKED[model]}
        entry = Entry(name, router, model, stream, time.monotonic())
        asked = self._exchange(http[stream], entry, body, headers, right)
        try:
            if leaves is None:
                await asked
            else:
                await asyncio.wait_for(asked, leaves)
        except TimeoutError:
            if leaves is None:
                entry.detail = f"nothing within {PATIENCE_S:g} s"
            else:
                entry.became = Became.LEFT
        except aiohttp.ClientError as why:
            entry.detail = repr(why)
        entry.ended = time.monotonic()
        return entry

    async def _exchange(
        self,
        http: aiohttp.ClientSession,
        entry: Entry,
        body: dict[str, object],
        headers: dict[str, str],
        right: set[str],
    ) -> None:
        url = f"{self._arena.fleet.parts[entry.router].url}/v1/chat/completions"
        async with http.post(url, json=body, headers=headers) as answer:
            entry.status = answer.status
            if answer.status != 200:
                entry.detail = (await answer.text())[:300]
                entry.became = Became.REFUSED
            elif entry.stream:
                _judge_stream(entry, await _all(answer, entry), right)
            else:
                try:
                    whole = await answer.read()
                except aiohttp.ClientPayloadError as why:
                    entry.became, entry.detail = Became.CUT, repr(why)
                    return
                entry.became = Became.WHOLE
                said = _content(whole)
                entry.right = said in right
                if not entry.right:
                    entry.detail = f"said {said!r}, not {sorted(right)!r}"


def _session(*, pooled: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=not pooled),
        timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
    )


def _content(whole: bytes) -> str | None:
    with contextlib.suppress(ValueError, LookupError, TypeError):
        said: str = json.loads(whole)["choices"][0]["message"]["content"]
        return said
    return None


async def _all(answer: aiohttp.ClientResponse, entry: Entry) -> str:
    """All of a stream; where it broke off, as much as came."""
    came = b""
    try:
        async for piece in answer.content.iter_any():
            came += piece
    except aiohttp.ClientPayloadError as why:
        entry.detail = repr(why)
    return came.decode()


def _judge_stream(entry: Entry, came: str, right: set[str]) -> None:
    events = [one[6:] for one in came.split("\n") if one.startswith("data: ")]
    if events and events[-1] == "[DONE]" and not entry.detail:
        entry.became = Became.WHOLE
        said = "".join(_delta(one) for one in events[:-1])
        entry.right = said in right
        if not entry.right:
            entry.detail = f"said {said!r}, not {sorted(right)!r}"
    elif any('"error"' in one for one in events) and not entry.detail:
        entry.became = Became.TOLD
    else:
        entry.detail = f"{entry.detail} the stream's end: {came[-300:]!r}"


def _delta(event: str) -> str:
    choices = json.loads(event).get("choices") or [{}]
    said: str = choices[0].get("delta", {}).get("content") or ""
    return said
