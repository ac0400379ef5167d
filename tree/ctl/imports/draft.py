"""The router.toml that an import makes, and what could not go into it. Pure."""

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from common.redact import HIDDEN, hide_shapes
from ctl.edit import key_text, value_text

#: Tables that hold others by name, in the order in which they are written.
NAMED = ("providers", "models", "capabilities")
LISTS = ("patterns", "rules")
#: The router's port, and the one that LiteLLM and what was built on it have.
PORT = ":8000"
LISTEN_THERE = "127.0.0.1:4000"
#: Where a provider without an address points: nobody listens there.
NOWHERE = "http://127.0.0.1:1"
#: Prefixes that only keys have, then a long run with a digit in it.
_KEY = re.compile(r"\b(?:sk|pk|rk|gsk|hf|ghp|xai|nvapi|AIza|AKIA)[-_]?(?=[\w-]*\d)[\w-]{16,}")
_FIRST = re.compile(r"([^.\[ ]*)(?:\[(\d+)\])?")


class Lost(Struct, frozen=True):
    """What could not be carried over: its place in the YAML, and why. Never its value."""

    path: str
    why: str


class Draft:
    """`top` are the file's own keys, `tables` its plain ones ([retry], [timeouts], …)."""

    def __init__(self) -> None:
        self.top: dict[str, Any] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.providers: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.capabilities: dict[str, dict[str, Any]] = {}
        self.patterns: list[dict[str, Any]] = []
        self.rules: list[dict[str, Any]] = []
        #: Written above a table: ("providers", "openai") to its words.
        self.comments: dict[tuple[str, str], str] = {}
        self.lost: list[Lost] = []
        #: What is worth knowing, and no loss.
        self.notes: list[str] = []

    def lose(self, path: str, why: str) -> None:
        self.lost.append(Lost(_plain(path), _plain(why)))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(_plain(text))

    def set(self, table: str, key: str, value: Any) -> None:
        self.tables.setdefault(table, {})[key] = value

    def settle_listen(self) -> None:
        """Where a provider has the router's default port, it takes LiteLLM's: clients know it."""
        taken = tuple(f"http://{host}{PORT}" for host in ("127.0.0.1", "localhost", "[::1]"))
        for provider in self.providers.values():
            url = str(provider.get("base_url", ""))
            if url.startswith(taken):
                self.top = {"listen": LISTEN_THERE, **self.top}
                self.note(f"{url} has the router's default port: it listens on {LISTEN_THERE}")
                return

    def scrub(self) -> None:
        """Whatever looks like a secret, wherever it stood."""
        for kind in (*NAMED, *LISTS, "tables", "top"):
            held = getattr(self, kind)
            setattr(self, kind, self._scrubbed(held, kind))

    def _scrubbed(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {
                str(self._scrubbed(key, path)): self._scrubbed(one, f"{path}.{key}")
                for key, one in value.items()
            }
        if isinstance(value, list):
            return [self._scrubbed(one, path) for one in value]
        if isinstance(value, str) and is_secret(value):
            self.lose(path, "what stood there looks like a key: it is left out")
            return HIDDEN
        return value

    def in_order(self, *tops: Iterable[str]) -> None:
        """What was lost in the order of the files: by their first keys, and items of a list."""
        places = {key: at for at, key in enumerate(key for top in tops for key in top)}

        def order(one: Lost) -> tuple[int, int]:
            path = one.path.rpartition(": ")[2]
            first, item = _FIRST.match(path).groups()  # type: ignore[union-attr]
            return places.get(first, -1), int(item or -1)

        self.lost.sort(key=order)

    def model(self, name: str) -> dict[str, Any]:
        return self.models.setdefault(name, {})

    def text(self, sources: list[str]) -> str:
        """The file. The same draft gives the same bytes."""
        lines = [
            f"# Made of {', '.join(map(_plain, sources))} by  creche config import.",
            "# Every key:  docs/config-reference.md      Check it:  creche config check FILE",
            *(["# What could not be carried over stands at the end."] if self.lost else []),
            "",
            *_keys(self.top),
        ]
        for name, table in self.tables.items():
            lines += ["", f"[{name}]", *_keys(table)]
        for kind in NAMED:
            for name, table in getattr(self, kind).items():
                lines += ["", *self._comment(kind, name), f"[{key_text((kind, name))}]"]
                lines += _keys(table)
        for kind in LISTS:
            for table in getattr(self, kind):
                comment, keys = table.get("#", ""), {k: v for k, v in table.items() if k != "#"}
                lines += ["", *([f"# {_plain(comment)}"] if comment else []), f"[[{kind}]]"]
                lines += _keys(keys)
        if self.notes:
            lines += ["", "# Worth knowing:", *(f"#   {note}" for note in self.notes)]
        if self.lost:
            lines += ["", "# Not carried over:"]
            lines += [
                line for one in self.lost for line in (f"#   {one.path}", f"#       {one.why}")
            ]
        return "\n".join(lines).rstrip() + "\n"

    def _comment(self, kind: str, name: str) -> list[str]:
        text = self.comments.get((kind, name), "")
        return [f"# {_plain(text)}"] if text else []


def _keys(table: dict[str, Any]) -> list[str]:
    return [f"{key_text((key,))} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, str) and "\\" in value and "'" not in value and value.isprintable():
        return f"'{value}'"  # patterns read best as they are
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, dict):
        inner = ", ".join(f"{key_text((key,))} = {_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return value_text(value)


def _plain(text: str) -> str:
    """On one line, for a comment and a terminal."""
    text = _KEY.sub(HIDDEN, hide_shapes(" ".join(text.split())))
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def escaped(text: str) -> str:
    """For a pattern that is read by people, too: only what means something there."""
    return re.sub(r"([.+*?()\[\]{}|^$\\])", r"\\\1", text)


def is_secret(text: str) -> bool:
    return hide_shapes(text) != text or _KEY.search(text) is not None


def slug(text: str) -> str:
    """A name for a provider: letters, digits and . _ @ - alone."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", text).strip("-.")[:100] or "provider"
