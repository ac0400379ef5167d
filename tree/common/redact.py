"""Takes secrets out of texts before they are written anywhere. Pure but for the list of secrets.

Two nets: values that were registered with `Secrets.add` (tokens read from files, keys from the
environment), and shapes that look like a credential wherever they stand.
"""

import re
from collections.abc import Iterable

HIDDEN = "[hidden]"
#: Shorter values are too likely to be ordinary words; a token file refuses them.
SECRET_LENGTH_MIN = 8

_NAMED = r"(?:proxy-)?authorization|x-api-key|[\w-]*api[_-]?key|(?:set-)?cookie"
_SECRETIVE = r"[\w-]*(?:token|secret|password|passwd|_key)"
# After a name: a colon or equals sign, maybe quoted (also as Python or JSON escape it).
_IS = r"\\?[\"']?\s*[:=]\s*(?:b?\\?[\"'])?"
_VALUE = r"[^\s\"',;\\}&]"

# `authorization: anything`, `api_key=…`, `"token": "…"`, `Bearer x`, sk-… keys, user:pass@ in URLs.
_SHAPES = (
    (re.compile(rf"(?i)({_NAMED})({_IS})((?:bearer|basic)\s+)?{_VALUE}+"), rf"\1\2\3{HIDDEN}"),
    (re.compile(rf"(?i)({_SECRETIVE})({_IS})(?!\d+\b){_VALUE}{{8,}}"), rf"\1\2{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20|\+)[A-Za-z0-9._~+/=\-]{8,}"), rf"\1\2{HIDDEN}"),
    (re.compile(r"\bsk-[A-Za-z0-9_\-]{8,}"), HIDDEN),
    (re.compile(r"(\w+://[^\s/:@]*:)[^\s/@]+@"), rf"\1{HIDDEN}@"),
)
_SECRET_NAME = re.compile(rf"(?i)(?:{_NAMED}|[\w-]*(?:token|secret|password|passwd|private_key))")


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


def is_secret_name(name: str) -> bool:
    """Whether a field called `name` holds a credential, whatever it looks like."""
    return _SECRET_NAME.fullmatch(name) is not None


#: This process's secrets: `auth` and config readers add to it, `logs` hides them.
SECRETS = Secrets()


def redact(text: str) -> str:
    """`text` without this process's secrets and without what looks like a credential."""
    return SECRETS.hide(text)
