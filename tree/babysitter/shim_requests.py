"""What may be asked of a shim, and its answers: `status subscribe tail signal stop kill release`.

`stop`, `kill` and `release` are answered when nothing of the engine is left. A request that cannot
be meant is answered with an error, and changes nothing.

Light on purpose: the shim imports it under `python -I -S`.
"""

import signal
from typing import Any, Protocol

from babysitter.shim_control import Client, Control, Message

#: Answers that wait for the end; a babysitter asks once.
WAITING_MAX = 64

_SIGNAL_NUMBERS = {one.name: int(one) for one in signal.Signals}


class Engine(Protocol):
    """What a request can do to the engine: the shim."""

    control: Control
    exit: dict[str, Any] | None

    @property
    def is_running(self) -> bool: ...
    @property
    def is_over(self) -> bool: ...
    def status(self) -> Message: ...
    def tail(self, count: int) -> list[str]: ...
    def signal(self, number: int) -> None: ...
    def end(self, grace_s: float) -> None: ...
    def release(self) -> None: ...


class Requests:
    """`answer` gets each request; `over` is called once, when nothing of the engine is left."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[Client, Any]] = []  # answered when nothing is left

    def answer(self, client: Client, request: Message) -> None:
        number = request.get("id")
        command = request.get("cmd")
        if command == "status":
            self._say(client, number, **self._engine.status())
        elif command == "subscribe":
            client.subscribed = True
            self._say(client, number, **self._engine.status())
        elif command == "tail":
            count = request.get("lines")
            lines = self._engine.tail(count if isinstance(count, int) else 0)
            self._say(client, number, lines=lines)
        elif command == "signal":
            self._signal(client, number, request.get("name"))
        elif command in ("stop", "kill"):
            self._end(client, number, request.get("grace_s", 0) if command == "stop" else 0)
        elif command == "release":
            self._release(client, number)
        else:
            self._refuse(client, number, f"unknown command {command!r:.40}")

    def over(self) -> None:
        for client, number in self._waiting:
            self._say(client, number, exit=self._engine.exit)
        self._waiting.clear()

    def _say(self, client: Client, number: Any, **fields: Any) -> None:
        self._engine.control.send(client, {"id": number, "ok": True, **fields})

    def _refuse(self, client: Client, number: Any, why: str) -> None:
        self._engine.control.send(client, {"id": number, "error": why})

    def _say_when_over(self, client: Client, number: Any) -> None:
        if self._engine.is_over:
            self._say(client, number, exit=self._engine.exit)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append((client, number))
        else:
            self._refuse(client, number, "too many wait for the end")

    def _signal(self, client: Client, number: Any, name: Any) -> None:
        found = _SIGNAL_NUMBERS.get(name) if isinstance(name, str) else None
        if found is None:
            self._refuse(client, number, "unknown signal")
        elif not self._engine.is_running:
            self._refuse(client, number, "the engine has ended")
        else:
            self._engine.signal(found)
            self._say(client, number)

    def _end(self, client: Client, number: Any, grace_s: Any) -> None:
        if not isinstance(grace_s, int | float) or not 0 <= grace_s < 1e9:
            self._refuse(client, number, "grace_s is no duration")
            return
        self._engine.end(float(grace_s))
        self._say_when_over(client, number)

    def _release(self, client: Client, number: Any) -> None:
        if self._engine.exit is None:
            self._refuse(client, number, "the engine still runs")
            return
        self._engine.release()
        self._say_when_over(client, number)
