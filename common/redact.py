"""Takes secrets out of texts before they are written anywhere. Pure but for the list of secrets.

Two nets: values that were registered with `Secrets.add` (tokens read from files, keys from the
environment), and shapes that look like a credential wherever they stand.
"""

import re
from collections.abc import Iterable

HIDDEN = "[hidden]"
#: Shorter values are too likely to be ordinary words; a token file refuses them.
SECRET_LENGTH_MIN = 8

# `Bearer x`, `Basic x`; `authorization: anything`, `api_key=…`, `"token": "…"`; sk-… keys;
# user:password@ in URLs. The value of a named field runs to a quote, comma, space or end.
_SHAPES = (
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20|\+)[A-Za-z0-9._~+/=\-]+"), rf"\1\2{HIDDEN}"),
    (
        re.compile(
            r"(?i)((?:proxy-)?authorization|x-api-key|api[_-]?key|cookie)"
            r"(\\?[\"']?\s*[:=]\s*(?:b?\\?[\"'])?)(?!(?:bearer|basic)\s)[^\s\"',;\\}]+"
        ),
        rf"\1\2{HIDDEN}",
    ),
    (
        re.compile(
            r"(?i)([\w-]*(?:token|secret|password|passwd|_key))"
            r"(\\?[\"']?\s*[:=]\s*(?:b?\\?[\"'])?)(?!\d+\b)[^\s\"',;\\}&]{8,}"
        ),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"\bsk-[A-Za-z0-9_\-]{8,}"), HIDDEN),
    (re.compile(r"(\w+://[^\s/:@]*:)[^\s/@]+@"), rf"\1{HIDDEN}@"),
)


class Secrets:
    """Values that must never be seen. Added once, at the moment they are read."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: list[str] = []
        for value in values:
            self.add(value)

    def add(self, value: str | None) -> None:
        """Hide `value` from now on. Short ones are ignored: they would blank ordinary words."""
        if value is None or len(value) < SECRET_LENGTH_MIN or value in self._values:
            return
        self._values.append(value)
        self._values.sort(key=len, reverse=True)  # the longer first: one may contain another

    def hide(self, text: str) -> str:
        """`text` without the added values and without what looks like a credential."""
        for value in self._values:
            if value in text:
                text = text.replace(value, HIDDEN)
        return hide_shapes(text)


def hide_shapes(text: str) -> str:
    """`text` without what looks like a credential."""
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


#: This process's secrets: `auth` and config readers add to it, `logs` hides them.
SECRETS = Secrets()


def redact(text: str) -> str:
    """`text` without this process's secrets and without what looks like a credential."""
    return SECRETS.hide(text)
