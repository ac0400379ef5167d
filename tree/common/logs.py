"""Logs: one line per event to stderr; JSON by default, short and readable on a terminal.

`ts`, `level`, `event` come first, then what the caller gave. Whatever is written, by us or through
`logging` by a library, first passes `common.redact`, tracebacks included.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog
from msgspec.json import Encoder
from structlog.typing import EventDict, WrappedLogger

from common.redact import HIDDEN, is_secret_name, redact

_FIRST = ("ts", "level", "daemon", "logger", "event")
_encoder = Encoder(enc_hook=str)

Log = structlog.stdlib.BoundLogger


def get(name: str, **always: Any) -> Log:
    """A logger called `name`; `always` goes into each of its lines."""
    log: Log = structlog.get_logger(name, **always)
    return log


def set_up(
    daemon: str, *, level: str = "info", form: str = "auto", stream: TextIO | None = None
) -> None:
    """Send all logs of this process to `stream` (stderr). `form`: auto, json or text."""
    out = stream or sys.stderr
    as_text = form == "text" or (form == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _stamp,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                _Render(daemon, as_text=as_text),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    quiet_libraries()


class _Handler(logging.StreamHandler[TextIO]):
    """The standard library's prints a line that it can't form with all that was in it, secrets
    too: ours names the logger and the error."""

    def handleError(self, record: logging.LogRecord) -> None:
        kind = sys.exc_info()[0]
        what = kind.__name__ if kind is not None else "an error"
        try:
            self.stream.write(f"a line of the logger {record.name} could not be written: {what}\n")
        except (OSError, ValueError):
            pass  # nobody reads any more; a daemon does not end for that


def quiet_libraries() -> None:
    """Libraries speak from warning on; aiohttp's server never repeats the bytes it was sent."""
    for name in ("asyncio", "aiohttp", "aiohttp_sse_client", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").disabled = True
    for name in ("aiohttp.server", "aiohttp.web", "aiohttp.internal"):
        logger = logging.getLogger(name)
        if not any(isinstance(one, _NoRawHeads) for one in logger.filters):
            logger.addFilter(_NoRawHeads())


class _NoRawHeads(logging.Filter):
    """aiohttp logs a malformed request with its raw bytes, Authorization and all: drop those."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and type(error).__module__.startswith("aiohttp.http_"):
            record.msg = "malformed request: %s"
            record.args = (type(error).__name__,)
            record.exc_info = None
            record.exc_text = None
        return True


def _stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    now = datetime.now(UTC)  # noqa: TID251  (a log line's time is for people)
    event["ts"] = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


class _Render:
    def __init__(self, daemon: str, *, as_text: bool) -> None:
        self._daemon = daemon
        self._render = _text if as_text else _json

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> str:
        event["daemon"] = self._daemon
        present = {key: event[key] for key in _FIRST if event.get(key) is not None}
        present.update((k, v) for k, v in event.items() if k not in present and v is not None)
        return self._render(present)


def _json(event: dict[str, Any]) -> str:
    return _encoder.encode(_hidden(event)).decode()


def _hidden(value: Any) -> Any:
    """Redact before encoding: what is hidden afterwards could break the JSON around it."""
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, dict):
        return {
            _shown(str(key)): HIDDEN if item and is_secret_name(str(key)) else _hidden(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_hidden(one) for one in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _shown(str(value))


def _shown(text: str) -> str:
    """Without secrets, and without halves of characters: bytes that were no UTF-8 become those."""
    hidden = redact(text)
    return hidden if hidden.isascii() else hidden.encode(errors="backslashreplace").decode()


def _text(event: dict[str, Any]) -> str:
    time = str(event.pop("ts"))[11:19]
    level = str(event.pop("level", "info"))
    event.pop("daemon", None)
    name = event.pop("logger", "")
    said = _shown(str(event.pop("event", "")))
    trace = event.pop("exception", None)
    safe = _hidden(event)
    fields = "  ".join(f"{key}={value}" for key, value in safe.items())
    mark = {"warning": "!", "error": "✗", "critical": "✗"}.get(level, " ")
    line = f"{time} {mark} {name + ': ' if name else ''}{said}{'  ' + fields if fields else ''}"
    return f"{line}\n{_shown(str(trace))}" if trace else line
