r"""Whether a pattern compiles, and in words for operators why it does not. Pure.

RE2 matches in linear time, so it has nothing that would have to go back: no lookahead, no
lookbehind, no backreference. A pattern is matched against the whole name.
"""

import re2

_LACKS = (
    ("(?=", "lookahead"),
    ("(?!", "lookahead"),
    ("(?<", "lookbehind"),
    ("(?>", "atomic groups"),
    ("(?(", "conditions"),
    ("(?P>", "recursion"),
    ("(?P=", "backreferences"),
)


class Matcher:
    """A compiled pattern. One that does not compile matches nothing and says `why`."""

    def __init__(self, pattern: str) -> None:
        self.why: str | None = None
        options = re2.Options()
        options.log_errors = False
        try:
            self._compiled = re2.compile(pattern, options)
        except re2.error as why:
            self._compiled = None
            said = why.args[0] if why.args else why
            self.why = said.decode(errors="replace") if isinstance(said, bytes) else str(said)

    @property
    def groups(self) -> int:
        return 0 if self._compiled is None else int(self._compiled.groups)

    def matches(self, name: str) -> bool:
        return self._compiled is not None and self._compiled.fullmatch(name) is not None


def why_not(pattern: str, why: str) -> tuple[str, str]:
    """What RE2 does not have or does not understand, and what to write."""
    said, _, what = why.partition(": ")
    without = "say it without: patterns are tried in order, so an earlier one can take exceptions"
    if said == "invalid perl operator":
        for sign, lack in _LACKS:
            if what.startswith(sign) or (what == "(?P" and sign in pattern):
                return f"RE2 has no {lack}", without
        return f'RE2 has no "{what}"', "write it without"
    if said == "invalid escape sequence":
        if what[1:].isdigit():
            return f"RE2 has no backreferences ({what})", "write out what may repeat"
        if what == "\\Z":
            return "RE2 has no \\Z", "take it out: the whole name is matched anyway"
        return f'"{what}" is no escape', f'for the character itself write  "{what[1:]}"'
    if said == "bad repetition operator":
        return f'"{what}" repeats a repetition', f'write  "{what[0]}"'
    if said == "no argument for repetition operator":
        return f'there is nothing before "{what}" to repeat', f'any text is  ".{what}"'
    if said == "invalid repetition size":
        return f"{what} repeats too often", "repeat at most 1000 times in all"
    if said in {"missing )", "missing ]", "unexpected )"}:
        wrong = said.split(" ")[1]
        have = "is missing" if said.startswith("missing") else "closes nothing"
        return f'a "{wrong}" {have}', f'balance the brackets, or write  "\\{wrong}"  for the sign'
    return f"RE2 says: {why}", "mend it (github.com/google/re2/wiki/Syntax)"
