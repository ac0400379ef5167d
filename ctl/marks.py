"""Sets and takes away drain marks, and waits until what is under way has ended.

    mark ──▶ the router has seen it ──▶ SETTLE_S for the other routers ──▶ counts go to 0

What is left of a service is the most that anyone tells: the router's own requests, and what the
engine itself says (through its babysitter), which counts those of every other router too.
"""

import asyncio
from collections.abc import Callable, Iterable
from urllib.parse import quote

from common.clock import monotonic
from common.wire.babysitter import Engine
from common.wire.router import RouterService, RouterServices
from ctl.client import Client
from ctl.errors import CtlError
from ctl.views import EngineView

#: How often everyone is asked what is left.
ASK_S = 0.5
#: Routers hear of a mark within 0.1 s; what they sent just before is on its way.
SETTLE_S = 0.5
#: A router that has not heard of a mark after so long is not connected to that registry.
SEEN_S = 5.0

Counts = dict[str, int]


async def mark(client: Client, registry_url: str, service: str, *, on: bool) -> None:
    """Raises CtlError: no registry there, no such service."""
    verb = "drain" if on else "undrain"
    await client.post(f"{registry_url}/services/{quote(service, safe='')}/{verb}", dict)


def engine_url(view: EngineView | None) -> str | None:
    """Where its babysitter tells of it."""
    if view is None or not view.babysitter_url:
        return None
    return f"{view.babysitter_url}/engines/{quote(view.name, safe='')}"


class Ending:
    """What runs at `services` comes to its end. `urls`: where a babysitter tells of each."""

    def __init__(
        self, client: Client, router: str, services: Iterable[str], urls: dict[str, str]
    ) -> None:
        self.services = list(services)
        self.table: list[RouterService] = []
        self._client = client
        self._router = router
        self._urls = urls

    async def seen(self) -> bool:
        """Wait until the router sends them nothing new; False: it does not hear of it.

        It is asked once more when the time is over: an answer from before says nothing.
        """
        deadline = monotonic() + SEEN_S
        while True:
            asked_at = monotonic()
            await self._look()
            if all(one.draining for one in self._mine()):
                return True
            if asked_at >= deadline:
                return False
            await asyncio.sleep(ASK_S / 5)

    async def until_none_left(
        self, limit_s: float, told: Callable[[Counts], None] = lambda _: None
    ) -> Counts:
        """Requests left per service once there are none, or `limit_s` is over."""
        deadline = monotonic() + limit_s
        settled = monotonic() + SETTLE_S
        while True:
            asked_at = monotonic()
            counts = await self.count()
            told(counts)
            if asked_at >= settled and not any(counts.values()):
                return counts
            if monotonic() >= max(deadline, settled):
                return counts
            await asyncio.sleep(ASK_S)

    async def count(self) -> Counts:
        """Requests under way, per service."""
        own = await asyncio.gather(*(self._own(one) for one in self.services))
        await self._look()
        routed = {one.name: one.in_flight for one in self._mine()}
        return {
            one: max(routed.get(one, 0), told) for one, told in zip(self.services, own, strict=True)
        }

    async def _look(self) -> None:
        self.table = (await self._client.get(f"{self._router}/services", RouterServices)).services

    def _mine(self) -> list[RouterService]:
        return [one for one in self.table if one.name in self.services]

    async def _own(self, service: str) -> int:
        """What the engine says; 0 where nobody can be asked."""
        url = self._urls.get(service)
        if url is None:
            return 0
        try:
            engine = await self._client.get(f"{url}?load=now", Engine)
        except CtlError:
            return 0
        return round((engine.load or {}).get("in_flight", 0))
