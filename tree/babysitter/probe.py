"""Asks an engine: are you ready, which models do you serve, what are you doing?"""

from dataclasses import dataclass, field

import aiohttp

from babysitter import models as model_lists
from babysitter import stall
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

    async def _status(self, path: str) -> int | str:
        found = await self._get(path)
        return found if isinstance(found, str) else found[0]

    async def _get(self, path: str) -> tuple[int, bytes] | str:
        """Status and body (bounded), or why there is none."""
        try:
            async with self.http.get(
                self.base + path,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                allow_redirects=False,
                headers={"Connection": "close"},
            ) as response:
                body = bytearray()
                async for part in response.content.iter_any():
                    body += part
                    if len(body) > model_lists.BODY_BYTES_MAX:
                        break
                return response.status, bytes(body)
        except TimeoutError:
            return f"no answer on {path} within {TIMEOUT_S:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as why:
            return f"no answer on {path}: {why_failed(why)}"
