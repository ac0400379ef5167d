"""Which upstream was well for which router, and when a router was away.

Strict on purpose: an upstream is unwell from the moment at which the driver breaks it, and well
again once it runs, answers, and the router has used it as fit for `SURE_S`. Whatever else happens
(a registry that dies, is cut off, or forgets) is no excuse for an error.
"""

import asyncio
import time
from collections import defaultdict
from typing import Any

import aiohttp

from tests.faults.chaos.arena import FAR, Arena, service
from tests.faults.chaos.ledger import Spans

EVERY_S = 0.2
SURE_S = 0.6


class Watcher:
    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.unwell: dict[tuple[str, str], Spans] = defaultdict(Spans)
        self.down: dict[str, Spans] = defaultdict(Spans)
        self._names = {service(engine): engine for engine in arena.engines}
        #: Faults that are not over yet, by upstream.
        self._broken: dict[str, int] = defaultdict(int)
        #: A process that must have gone before the upstream can be well.
        self._gone: dict[str, set[int]] = defaultdict(set)
        #: And what its life was called, by its shim or by the routers.
        self._gone_ids: dict[str, set[str | None]] = defaultdict(set)
        self._fit_since: dict[tuple[str, str], float] = {}
        self._why: dict[tuple[str, str], str] = {}

    def breaks(self, upstream: str, *, gone: int | None = None, in_s: float = 0.0) -> None:
        """It is unwell from now on, or `in_s` from now."""
        self._broken[upstream] += 1
        if gone is not None:
            self._gone[upstream].add(gone)
            state = self._arena.state(self._names[upstream])
            self._gone_ids[upstream].add(None if state is None else state.instance_id)
        for router in self._arena.routers:
            self.unwell[router, upstream].since(time.monotonic() + in_s)
            self._fit_since.pop((router, upstream), None)

    def mended(self, upstream: str) -> None:
        """Nothing holds it back any more; when it is well has yet to be seen."""
        self._broken[upstream] -= 1

    @property
    def still_unwell(self) -> list[str]:
        return sorted(
            f"{one} for {router}: {self._why.get((router, one))}"
            for (router, one), spans in self.unwell.items()
            if spans.open
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            while True:
                open_now = {router for (router, _), spans in self.unwell.items() if spans.open}
                await asyncio.gather(*(self._look(http, router) for router in sorted(open_now)))
                await asyncio.sleep(EVERY_S)

    async def _look(self, http: aiohttp.ClientSession, router: str) -> None:
        asked = time.monotonic()
        try:
            async with http.get(self._arena.routers[router].url + "/services") as answer:
                found = {one["name"]: one for one in (await answer.json())["services"]}
        except (aiohttp.ClientError, TimeoutError, ValueError):
            found = {}
        for (who, upstream), spans in self.unwell.items():
            if who != router or not spans.open:
                continue
            key = (router, upstream)
            why = self._why_not(upstream, found.get(upstream))
            if why is not None:
                self._fit_since.pop(key, None)
                self._why[key] = why
            elif asked - self._fit_since.setdefault(key, asked) >= SURE_S:
                del self._fit_since[key]
                spans.until(time.monotonic())

    def _why_not(self, upstream: str, seen: dict[str, Any] | None) -> str | None:
        """None: it is well."""
        if self._broken[upstream]:
            return "broken"
        if seen is None:
            return "unknown to the router"
        if not seen["healthy"] or seen["set_aside"] or seen["node_health"] == "unhealthy":
            return f"not fit: {seen}"
        if seen["breaker"] != "closed":
            return f"its breaker is {seen['breaker']}"
        if upstream == FAR:
            return None
        # A life may be registered under another name than its shim knows: one whose own was
        # retired by mistake (a late message of the life before) takes a new one and lives on.
        pid, life = self._arena.pid(self._names[upstream]), seen["instance_id"]
        if pid is None or pid in self._gone[upstream]:
            self._gone_ids[upstream].add(life)
            return f"does not run (pid {pid})"
        if life in self._gone_ids[upstream]:
            return f"the router knows an old life, {life}"
        return None
