"""A client in a thread, in the middle of a paced stream."""

import json
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from tests.support.fleet import ask, chat
from tests.support.until import until_sync


class Streaming:
    """`tokens` come `pace_ms` apart. `service` is who answers, once it does. `faults` are the mock
    engine's: `hang="before"`."""

    def __init__(
        self, url: str, model: str, *, tokens: int, pace_ms: int = 25, **faults: str
    ) -> None:
        self.service = ""
        self._request = urllib.request.Request(
            url + "/v1/chat/completions",
            json.dumps(chat(model, stream=True)).encode(),
            {
                "content-type": "application/json",
                "x-mock-tokens": str(tokens),
                "x-mock-pace-ms": str(pace_ms),
                **{f"x-mock-{name}": value for name, value in faults.items()},
            },
        )
        self._got: list[str] = []
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _read(self) -> None:
        try:
            with urllib.request.urlopen(self._request, timeout=30) as answer:
                self.service = answer.headers.get("x-creche-service", "")
                text = b""
                while not self._left.is_set() and (part := answer.read1()):
                    text += part
                self._got.append(text.decode())
        except (urllib.error.URLError, OSError, HTTPException) as why:
            self._got.append(repr(why))

    def leave(self) -> None:
        """Close it, as a client that has had enough."""
        self._left.set()
        self._thread.join(30)

    def end(self) -> str:
        """All that it got."""
        self._thread.join(30)
        return self._got[0]

    def done(self) -> bool:
        """Whether it came to its own end."""
        return self.end().rstrip().endswith("[DONE]")


class Turns:
    """Two streams at an engine that takes one at a time (`--max-concurrency 1`, its url is
    `engine`): the first goes on until it leaves, then the last has its turn and comes to its own
    end. So a test says when that is, however slow the machine."""

    def __init__(self, url: str, model: str, *, engine: str) -> None:
        self.first = Streaming(url, model, tokens=40_000)
        until_sync(lambda: self.first.service, what="the first streams")
        self.last = Streaming(url, model, tokens=8)

        def waits() -> bool:
            stats: dict[str, Any] = ask(engine + "/mock/stats")[1]
            return bool(stats["queued"] == 1)

        until_sync(waits, what="the last waits for its turn")

    @property
    def alive(self) -> bool:
        return self.first.alive and self.last.alive
