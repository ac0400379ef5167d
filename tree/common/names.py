"""What a service, engine or host may be called. Pure."""

import re

NAME_LENGTH_MAX = 128
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._@-]{1,128}\Z")  # names are folders and paths too

#: Advertised hosts that no router could reach, or that every router would read as itself.
UNUSABLE_HOSTS = frozenset({"", "0.0.0.0", "::", "[::]", "*"})  # noqa: S104


def is_name(text: str) -> bool:
    """Whether `text` may name a service: 1 to 128 of `[A-Za-z0-9._@-]`."""
    return _NAME.match(text) is not None


def why_not_a_name(text: str) -> str:
    """A sentence for a text that `is_name` refused."""
    if not text:
        return "a name may not be empty"
    if text in {".", ".."}:
        return "in a path it means a folder"
    if len(text) > NAME_LENGTH_MAX:
        return f"a name has at most {NAME_LENGTH_MAX} characters, this one has {len(text)}"
    bad = sorted({c for c in text if not re.match(r"[A-Za-z0-9._@-]", c)})
    return f"a name may hold letters, digits and . _ @ -, not {' '.join(map(repr, bad))}"
