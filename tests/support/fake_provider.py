"""A provider that a test controls: a cloud over TLS with a key, or an Ollama, on a loopback port.

    authority = Authority(tmp_path)
    with fake_provider(key="sk-…", models=["gpt-a"], authority=authority) as cloud:
        cloud.base_url, cloud.ca_file, cloud.seen, cloud.fail(status=500, times=2)

It answers on a thread of its own, so tests with and without a loop may use it, and processes too.
It takes requests under its base path alone and with its key alone: anything else is 404 or 401.
"""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web


class Authority:
    """Signs certificates for loopback. `ca_file` is what must be trusted for them."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA()
        self.ca_file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def context(self, *hosts: str) -> ssl.SSLContext:
        """For a server that these names lead to."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(hosts or ("127.0.0.1", "localhost"))).configure_cert(context)
        return context

    def files(self, folder: Path, *hosts: str) -> tuple[Path, Path]:
        """Certificate and key as files, for a server that is no part of the test."""
        issued = self._ca.issue_cert(*hosts)
        certificate, key = folder / "server.pem", folder / "server.key"
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(certificate), append=number > 0)
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


class Seen:
    """A request as it came."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        #: Path and query, raw.
        self.target = target
        #: Names in lower case.
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class FakeProvider:
    """What a test holds in its hand. `type` is a provider's in router.toml."""

    def __init__(
        self,
        type: str,
        key: str | None,
        models: Sequence[str],
        base: str,
        authority: Authority | None,
        hosts: Sequence[str],
    ) -> None:
        self.type = type
        self.key = key
        self.models = list(models)
        self.base = base
        self.tls = None if authority is None else authority.context(*hosts)
        self.ca_file = None if authority is None else authority.ca_file
        self.port = 0
        #: Every request that was read, whatever it was answered with.
        self.seen: list[Seen] = []
        self._faults: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return self.url + self.base

    def table(self, **more: Any) -> dict[str, Any]:
        """Its [providers.…] table, without a key."""
        found: dict[str, Any] = {
            "type": self.type,
            "base_url": self.base_url,
            "models": self.models,
        }
        if self.ca_file is not None:
            found["ca_file"] = str(self.ca_file)
        return {**found, **more}

    def fail(
        self, *, status: int, times: int = 1, headers: dict[str, str] | None = None, text: str = ""
    ) -> None:
        """Answer the next `times` requests so, whoever asks."""
        self._faults += [{"status": status, "headers": headers, "text": text}] * times

    def mend(self) -> None:
        self._faults.clear()

    def asked(self, target: str) -> list[Seen]:
        """The requests for a path, with its base."""
        return [one for one in self.seen if one.target == target]

    # --- answers ----------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = Seen(request.method, request.raw_path, headers, await request.read())
        self.seen.append(seen)
        if self._faults:
            fault = self._faults.pop(0)
            return web.Response(**fault)
        refused = self._refused(headers)
        if refused is not None:
            return refused
        path = request.path
        if self.type == "ollama" and path.startswith("/api/"):
            return self._ollama(path, seen)
        if not path.startswith(self.base + "/"):
            return _error(404, f"no such path: {path}")
        match request.method, path.removeprefix(self.base).removeprefix("/v1"):
            case "GET", "/models":
                data = [{"id": model, "object": "model"} for model in self.models]
                return web.json_response({"object": "list", "data": data})
            case "POST", "/chat/completions":
                return await self._chat(request, seen)
            case "POST", "/messages":
                return self._messages(seen)
            case "POST", "/audio/transcriptions":
                return web.json_response({"text": "heard"})
            case "POST", "/embeddings":
                found = [{"index": 0, "object": "embedding", "embedding": [0.5]}]
                return web.json_response({"object": "list", "data": found})
            case _:
                return _error(404, f"no such path: {path}")

    def _refused(self, headers: dict[str, str]) -> web.Response | None:
        if self.key is None:
            return None
        if self.type == "anthropic":
            given = headers.get("x-api-key")
        else:
            given = headers.get("authorization", "").removeprefix("Bearer ")
        if given == self.key:
            return None
        return _error(401, "Incorrect API key provided", "invalid_api_key")

    async def _chat(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        asked = seen.json
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        whole = {"id": "chatcmpl-1", "model": asked["model"], "usage": usage}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "hello there"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return web.json_response({**whole, "object": "chat.completion", "choices": choices})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for word in ("hello", " there"):
            choices = [{"index": 0, "delta": {"content": word}}]
            await response.write(f"data: {json.dumps({'choices': choices})}\n\n".encode())
        await response.write(f"data: {json.dumps({**whole, 'choices': []})}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    def _messages(self, seen: Seen) -> web.Response:
        if "anthropic-version" not in seen.headers:
            return _error(400, "anthropic-version: header is required")
        content = [{"type": "text", "text": "hello there"}]
        usage = {"input_tokens": 3, "output_tokens": 2}
        answer = {"type": "message", "role": "assistant", "model": seen.json["model"]}
        return web.json_response({**answer, "content": content, "usage": usage})

    def _ollama(self, path: str, seen: Seen) -> web.Response:
        if path == "/api/tags":
            models = [{"name": model, "digest": "9f86d081884c7d65"} for model in self.models]
            return web.json_response({"models": models})
        if path == "/api/chat":
            message = {"role": "assistant", "content": "hello there"}
            return web.json_response({"model": seen.json["model"], "message": message})
        return _error(404, f"no such path: {path}")

    # --- life -------------------------------------------------------------------------------------

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{rest:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

        async def start() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self.tls)
            await site.start()
            self.port = runner.addresses[0][1]

        self._loop.run_until_complete(start())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.run_until_complete(self._hang_up())
        self._loop.close()

    async def _hang_up(self) -> None:
        """Connections in the middle of a handshake are not the application's to close."""
        for transport in list(self._loop._transports.values()):  # type: ignore[attr-defined]
            transport.abort()
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=10)
        await asyncio.sleep(0)


def _error(status: int, message: str, code: str | None = None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": error}, status=status)


@contextmanager
def fake_provider(
    type: str = "openai",
    *,
    key: str | None = None,
    models: Sequence[str] = ("gpt-a",),
    base: str = "/v1",
    authority: Authority | None = None,
    hosts: Sequence[str] = (),
) -> Iterator[FakeProvider]:
    """Runs until the `with` ends. `authority` None: plain http. `base` is its only path prefix;
    an Ollama's own routes stand beside it. `hosts` are the names of its certificate."""
    found = FakeProvider(type, key, models, base, authority, hosts)
    ready = threading.Event()
    thread = threading.Thread(target=found._run, args=(ready,), name="fake provider", daemon=True)
    thread.start()
    try:
        assert ready.wait(30), "the fake provider did not start"
        yield found
    finally:
        found._loop.call_soon_threadsafe(found._loop.stop)
        thread.join(30)
        assert not thread.is_alive()
