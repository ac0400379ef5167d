"""A registry inside the test's own loop, and a reader of /watch."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
from msgspec import structs

from common import tasks
from common.daemon import Daemon
from registry import app
from registry.config import Config, Lease, Legacy
from tests.support.ports import free_port
from tests.support.until import until

SHORT = Lease(beat_s=0.2, lease_s=1.0, removed_after_leases=2)
SHORT_LEGACY = Legacy(unfit_s=1.0, removed_s=2.0)


class Running:
    """A registry that answers."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self.session.request(
            method, self.url + path, data=data, headers=headers
        ) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> Any:
        return (await self.ask("GET", path))[1]

    async def post(self, name: str, port: int, **more: Any) -> tuple[int, Any]:
        return await self.ask("POST", "/services", body_of(name, port, **more))

    def watch(self, last_event_id: str | None = None) -> "Watch":
        return Watch(self.session, self.url, last_event_id)


def body_of(name: str, port: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "host": "127.0.0.1",
        "port": port,
        "hostname": "h",
        "url": f"http://127.0.0.1:{port}",
        "status": "running",
        **more,
    }


@asynccontextmanager
async def running(**config: Any) -> AsyncIterator[Running]:
    """A registry with this config; in memory unless told otherwise. Stopped at the end."""
    port = free_port()
    chosen = structs.replace(Config(listen=f"127.0.0.1:{port}", state="memory:"), **config)
    daemon = Daemon("creche-registry")
    main = tasks.spawn(app.main(daemon, chosen, None), "registry")
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            await until(lambda: answers(session, url, main))
            yield Running(url, session)
    finally:
        daemon.stop()
        await main


async def answers(session: aiohttp.ClientSession, url: str, main: "asyncio.Task[None]") -> bool:
    if main.done():
        main.result()
    async with session.get(url + "/ready") as answer:
        return answer.status == 200


class Watch:
    """One connection to /watch. Events as (name, id, data); comments as (":", None, text)."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, last_event_id: str | None = None
    ) -> None:
        self._session = session
        self._url = url
        self._headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        self.longest = 0
        self.response: aiohttp.ClientResponse

    async def __aenter__(self) -> Self:
        self.response = await self._session.get(
            self._url + "/watch", headers=self._headers, timeout=aiohttp.ClientTimeout(total=None)
        )
        assert self.response.status == 200, await self.response.text()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.response.close()

    async def next(self, timeout_s: float = 30.0) -> tuple[str, str | None, Any]:
        """The next event. ConnectionError when the stream ends."""
        name, id, data = "", None, None
        async with asyncio.timeout(timeout_s):
            while True:
                raw = await self.response.content.readline()
                if not raw.endswith(b"\n"):
                    raise ConnectionError("the stream ended")
                self.longest = max(self.longest, len(raw))
                line = raw.decode().rstrip("\n")
                field, _, value = line.partition(": ")
                if line.startswith(":"):
                    name, data = ":", line[2:]
                elif field == "event":
                    name = value
                elif field == "id":
                    id = value
                elif field == "data":
                    data = json.loads(value)
                elif not line:
                    assert name and data is not None, "an event without data"
                    return name, id, data

    async def until(self, name: str) -> list[tuple[str, str | None, Any]]:
        """All events up to and with the next one called `name`; keep-alives left out."""
        found = []
        while True:
            event = await self.next()
            if event[0] != ":":
                found.append(event)
            if event[0] == name:
                return found
