"""Chat answers as they come: `text/event-stream` bytes in, pieces of text out. Pure.

data: {"choices":[{"delta":{"content":"Hel"}}]}      → Piece("Hel")
data: {"error":{"message":"…"}}                      → raises CtlError
data: [DONE]                                         → done
"""

import json
from collections.abc import Iterator
from typing import Any

from ctl.errors import CtlError

#: One event of a chat is a few hundred bytes; more than this is no chat.
EVENT_BYTES_MAX = 1 << 20


class ChatEvents:
    """Feed it bytes; it gives texts. `done` after `[DONE]`, `usage` if the engine told it."""

    def __init__(self) -> None:
        self.done = False
        self.finish: str | None = None
        self.usage: dict[str, Any] | None = None
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The texts that `data` completes. Raises CtlError for an error event or a broken one."""
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise CtlError("the answer is no event stream", "a line without end")
        for line in lines:
            if line.startswith(b"data:"):
                yield from self._event(line[5:].strip())

    def _event(self, data: bytes) -> Iterator[str]:
        if data == b"[DONE]":
            self.done = True
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise CtlError("the engine sent an event that is no JSON", repr(data[:80])) from error
        if not isinstance(event, dict):
            return
        if event.get("error"):
            raise CtlError("the answer broke off", message_of(event["error"]))
        if isinstance(event.get("usage"), dict):
            self.usage = event["usage"]
        for choice in event.get("choices") or ():
            self.finish = choice.get("finish_reason") or self.finish
            text = (choice.get("delta") or {}).get("content")
            if isinstance(text, str) and text:
                yield text


def message_of(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def plain_text(answer: Any) -> str:
    """The text of an answer that did not stream. Raises CtlError if it has none."""
    try:
        return str(answer["choices"][0]["message"]["content"] or "")
    except (LookupError, TypeError) as error:
        raise CtlError("the answer is no chat completion", str(answer)[:200]) from error
