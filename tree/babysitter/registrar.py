"""Tells the registry what `registration.Book` says must be told: the HTTP and the waiting."""

import asyncio
import random
import uuid
from collections.abc import Callable, Sequence

import aiohttp
import msgspec

from babysitter import registration
from babysitter.registration import Answer, Book
from common import logs, tasks
from common.clock import monotonic
from common.http import why_failed
from common.wire.registry import Registered, Registration, RegistryError

_log = logs.get("registration")

#: Registries answer in milliseconds; one that does not is away.
TIMEOUT = aiohttp.ClientTimeout(total=5.0, connect=1.0)
#: A 201 repeats the record, models and all, and adds what the registry knows of it.
ANSWER_BYTES_MAX = 2 * 1024 * 1024
#: How long an end waits for a record to go: a registry that is away has the lease to go by.
DEREGISTER_S = 1.0


class RegistryClient:
    """Several URLs are addresses of one registry: the first that answers is used, and kept."""

    def __init__(self, http: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._http = http
        self._urls = [url.rstrip("/") for url in urls]
        self._current = 0
        self.away = False

    async def send(self, request: registration.Request) -> Answer | None:
        """The answer, or None where no registry gave one."""
        trouble = ""
        for step in range(len(self._urls)):
            index = (self._current + step) % len(self._urls)
            try:
                answer = await self._send(self._urls[index], request)
            except (aiohttp.ClientError, TimeoutError, OSError) as why:
                trouble = f"{self._urls[index]}: {why_failed(why)}"
                continue
            if answer.status >= 500:
                trouble = f"{self._urls[index]}: {answer.status} {answer.text}"
                continue
            self._current = index
            if self.away:
                self.away = False
                _log.info("the registry answers again", url=self._urls[index])
            return answer
        if not self.away:
            self.away = True
            _log.warning("no registry answers; engines keep running", why=trouble)
        return None

    async def _send(self, url: str, request: registration.Request) -> Answer:
        match request:
            case registration.Register(body):
                return await self._ask("POST", f"{url}/services", body)
            case registration.Update(body):
                return await self._ask("PUT", f"{url}/services/{body.name}", body)
            case registration.SendBeat(name, beat):
                return await self._ask("POST", f"{url}/services/{name}/heartbeat", beat)
            case registration.Remove(name, instance_id):
                query = f"?instance_id={instance_id}" if instance_id else ""
                return await self._ask("DELETE", f"{url}/services/{name}{query}", None)

    async def _ask(self, method: str, url: str, body: msgspec.Struct | None) -> Answer:
        async with self._http.request(
            method,
            url,
            data=msgspec.json.encode(body) if body is not None else None,
            headers={"Content-Type": "application/json"} if body is not None else None,
            timeout=TIMEOUT,
            allow_redirects=False,
        ) as response:
            return _answer(response.status, await _body(response))


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """All of it, up to the limit."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            break
    return bytes(body)


def _answer(status: int, raw: bytes) -> Answer:
    try:
        if status >= 300:
            error = msgspec.json.decode(raw, type=RegistryError)
            return Answer(status, error.code.value, error.error)
        if status == 201:
            return Answer(status, beat_s=msgspec.json.decode(raw, type=Registered).beat_s)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # an older registry, or a proxy in between: the status says enough
    return Answer(status, text="" if status < 300 else _said(raw))


def _said(raw: bytes) -> str:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return raw[:200].decode("utf-8", "replace")
    return str(found.get("error", ""))[:200] if isinstance(found, dict) else ""


class Registrar:
    """One record's task. `on_change` is called when it becomes known, unknown or in conflict."""

    def __init__(self, client: RegistryClient, name: str, on_change: Callable[[], None]) -> None:
        self.name = name
        self.book = Book()
        self._client = client
        self._on_change = on_change
        self._kick = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._wanted_at = 0.0
        self._task = tasks.spawn(self._run(), f"registrar {name}")

    @property
    def registered(self) -> bool:
        return self.book.registered

    @property
    def conflict(self) -> str | None:
        return self.book.conflict

    @property
    def beat_s(self) -> float:
        return self.book.beat_s

    def want(self, record: Registration | None) -> None:
        """What the record should be from now on; None: there should be none. Sent at once."""
        self.book.want(record)
        if not self.book.done:
            self._settled.clear()
            self._wanted_at = monotonic()
        self._kick.set()

    async def settled(self) -> bool:
        """Wait until the registry knows what it should, or was asked in vain; False when neither
        comes within DEREGISTER_S of the last `want`, however often this is called."""
        try:
            async with asyncio.timeout(self._wanted_at + DEREGISTER_S - monotonic()):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop telling. The record stays as it is."""
        await tasks.cancel(self._task)

    async def _run(self) -> None:
        while True:
            now = monotonic()
            request = self.book.next(now)
            if request is None:
                await self._wait(now)
                continue
            before = (self.book.registered, self.book.conflict)
            answer = await self._client.send(request)
            self._take(request, answer)
            if self.book.done or answer is None:
                self._settled.set()
            if before != (self.book.registered, self.book.conflict):
                self._tell()

    def _take(self, request: registration.Request, answer: Answer | None) -> None:
        if answer is None:
            self.book.unanswered(request, monotonic(), random.random())
        else:
            self.book.answered(request, answer, monotonic(), uuid.uuid4().hex)

    def _tell(self) -> None:
        if self.book.conflict:
            _log.error("cannot be registered", service=self.name, why=self.book.conflict)
        else:
            _log.info("registered" if self.registered else "not registered", service=self.name)
        self._on_change()

    async def _wait(self, now: float) -> None:
        wake_at = self.book.wake_at
        try:
            async with asyncio.timeout(None if wake_at is None else max(0.0, wake_at - now)):
                await self._kick.wait()
        except TimeoutError:
            pass
        self._kick.clear()
