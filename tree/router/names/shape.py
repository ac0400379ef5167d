r"""Names by their shape: RE2 against the whole name, and what is sent on in its place. Pure.

    match = 'gpt-(\d+)(.*)'   rewrite = 'openai/gpt-\1\2'      gpt-4o → openai/gpt-4o

\1 to \9 are groups, \0 is the whole name, \\ a backslash: as RE2's own Rewrite has it.
"""

import re
from typing import Any

import re2

_REFERENCE = re.compile(r"\\([0-9\\])")


class Shape:
    """Raises re2.error for a pattern that RE2 has not."""

    def __init__(self, match: str, rewrite: str | None = None) -> None:
        options = re2.Options()
        options.log_errors = False  # it would write to stderr
        self._compiled: Any = re2.compile(match, options)
        self._rewrite = rewrite

    def matches(self, name: str) -> bool:
        return self._compiled.fullmatch(name) is not None

    def rewritten(self, name: str) -> str | None:
        """The name to send on, None where it does not match. A rewrite to nothing leaves it."""
        found = self._compiled.fullmatch(name)
        if found is None or self._rewrite is None:
            return None if found is None else name

        def part(reference: re.Match[str]) -> str:
            sign = reference[1]
            return sign if sign == "\\" else found.group(int(sign)) or ""

        return _REFERENCE.sub(part, self._rewrite) or name
