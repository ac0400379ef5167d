"""Asks an engine: are you ready, which models do you serve, what are you doing?"""

from dataclasses import dataclass, field

import aiohttp

from babysitter import canary, stall
from babysitter import models as model_lists
from babysitter.kinds import Probe
from babysitter.models import Model
from common.address import http_url, is_any
from common.http import why_failed

#: A probe that takes longer is a bad answer; an engine busy with a prompt may be slow, not silent.
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Ready:
    models: list[Model]


@dataclass(frozen=True, slots=True)
class NotReady:
    """`text` continues "not ready: …"."""

    text: str


@dataclass(slots=True)
class Prober:
    """`names` stand in where the engine lists nothing."""

    http: aiohttp.ClientSession
    host: str
    port: int
    probe: Probe
    names: tuple[str, ...]
    base: str = field(init=False)

    def __post_init__(self) -> None:
        host = self.host
        if is_any(host):
            host = "::1" if ":" in host else "127.0.0.1"
        self.base = http_url(host, self.port)

    async def ask(self) -> Ready | NotReady:
        """Whether it is ready, and with which models."""
        health = await self._health()
        if health is not None:
            return NotReady(health)
        return await self.models()

    async def _health(self) -> str | None:
        """None when it answers well; else why not."""
        said = ""
        for path in self.probe.ready_paths:
            status = await self._status(path)
            if isinstance(status, str):
                return status
            if status in self.probe.loading:
                return f"loading ({status} on {path})"
            if 200 <= status < 300 or status in (401, 403):  # guarded by a key of its own: it lives
                return None
            said = f"answers {status} on {path}"
            if status != 404:
                break
        return None if self.probe.any_answer else said

    async def models(self) -> Ready | NotReady:
        """Its list, else the config's names, else that it has none."""
        refused = ""
        for path in self.probe.model_paths:
            found = await self._get(path)
            if isinstance(found, str):
                return NotReady(found)
            status, body = found
            if status in self.probe.loading:
                return NotReady(f"loading ({status} on {path})")
            if status == 200 and (listed := model_lists.parse(body)):
                return Ready(listed)
            if status not in (200, 401, 403):  # an empty list, or a key of its own, is no refusal
                refused = refused or f" ({status} on {path})"
            else:
                refused = ""
                break
        if self.names and not (refused and self.probe.lists_models):
            return Ready([model_lists.named(name) for name in self.names])
        return NotReady(f'lists no model{refused}; if it cannot, name them:  models = ["…"]')

    async def reading(self) -> stall.Reading | None:
        """What it is doing, where its kind tells."""
        progress = self.probe.progress
        if progress is None:
            return None
        found = await self._get(progress.path)
        if isinstance(found, str) or found[0] != 200:
            return None
        return stall.read(progress, found[1])

    async def generate(self, model: str, timeout_s: float) -> canary.Said:
        """Ask for one token."""
        said = canary.Said(canary.Answer.NOTHING, "cannot be asked")
        for path in canary.PATHS:
            body = canary.question(path, model)
            found = await self._get(path, body, timeout_s)
            if isinstance(found, str):
                return canary.Said(canary.Answer.NOTHING, found)
            said = canary.read(path, *found)
            if said.answer is not canary.Answer.REFUSED:
                break
        return said

    async def _status(self, path: str) -> int | str:
        found = await self._get(path)
        return found if isinstance(found, str) else found[0]

    async def _get(
        self, path: str, body: bytes | None = None, timeout_s: float = TIMEOUT_S
    ) -> tuple[int, bytes] | str:
        """Status and body (bounded), or why there is none. With a body it is a POST."""
        headers = {"Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self.http.request(
                "GET" if body is None else "POST",
                self.base + path,
                data=body,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
                headers=headers,
            ) as response:
                answer = bytearray()
                async for part in response.content.iter_any():
                    answer += part
                    if len(answer) > model_lists.BODY_BYTES_MAX:
                        break
                return response.status, bytes(answer)
        except TimeoutError:
            return f"no answer on {path} within {timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as why:
            return f"no answer on {path}: {why_failed(why)}"
