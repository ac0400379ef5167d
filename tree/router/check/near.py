"""Names that look like one name mistyped. Pure.

    gtp-4o-mini     gpt-4o-mini      two letters changed places
    Qwen3_Coder     qwen3-coder      case and separators
    mistrl-small    mistral-small    a letter too few, too many or wrong, in a word of five or more

Digits never count: llama-3.1-70b and llama-3.3-70b are two models.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator

#: In shorter words one letter is a difference that is meant: code and coder, v1a and v1b.
WORD_LETTERS_MIN = 5
#: Similarity from which a name that does not exist is taken for one that does.
ALIKE = 0.85
NAMES_MAX = 20_000  # of each side of `pairs`; among more no slip is looked for
ALIKE_MAX = 1_000  # names that one that does not exist is held against

_SEPARATORS = re.compile(r"[-_./: ]+")
_WORDS = re.compile(r"[^\W\d_]+")
_NUMBERS = re.compile(r"\d+")


def mistyped(one: str, other: str) -> bool:
    """Whether two different names are surely meant to be one."""
    if one == other:
        return False
    if _plain(one) == _plain(other):
        return True
    first, second = _split(one), _split(other)
    if first[1] != second[1] or len(first[0]) != len(second[0]):
        return False
    different = [(a, b) for a, b in zip(first[0], second[0], strict=True) if a != b]
    return len(different) == 1 and _one_slip(*different[0])


class Known:
    """Names to look for one much like another in. Those with other numbers are never meant."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_numbers: dict[tuple[str, ...], list[str]] = {}
        for name in names:
            self._by_numbers.setdefault(_numbers(name), []).append(name)

    def closest(self, name: str, but: str | None = None) -> str | None:
        """The name that was meant by one that does not exist, if one (`but` this) is much like."""
        found = self._by_numbers.get(_numbers(name), [])[:ALIKE_MAX]
        candidates = [one for one in found if one not in {name, but}]
        for one in candidates:
            if mistyped(name, one):
                return one
        alike = difflib.get_close_matches(name, candidates, n=1, cutoff=ALIKE)
        return alike[0] if alike else None


def closest(name: str, known: Iterable[str]) -> str | None:
    """`Known.closest`, for one look."""
    return Known(known).closest(name)


def _numbers(name: str) -> tuple[str, ...]:
    return tuple(_NUMBERS.findall(name))


def pairs(asked: Collection[str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each of `asked` with one of `known` that it is mistyped for. Linear in their number."""
    if max(len(asked), len(known)) > NAMES_MAX:
        return
    by_print: dict[str, list[str]] = {}
    for name in known:
        for one in _prints(name):
            by_print.setdefault(one, []).append(name)
    for name in asked:
        alike = (other for one in _prints(name) for other in by_print.get(one, ()))
        if found := next((other for other in alike if mistyped(name, other)), None):
            yield name, found


def _prints(name: str) -> set[str]:
    """What mistyped names have in common: the plain name, or it without one of its letters."""
    plain = _plain(name)
    return {plain, *(plain[:at] + plain[at + 1 :] for at, c in enumerate(plain) if c.isalpha())}


def _plain(name: str) -> str:
    return _SEPARATORS.sub("-", name.lower())


def _split(name: str) -> tuple[list[str], list[str]]:
    """The words of a name, and what stands around them."""
    plain = _plain(name)
    return _WORDS.findall(plain), _WORDS.split(plain)


def _one_slip(one: str, other: str) -> bool:
    """Neighbours changed places, or, in longer words, one letter is other, missing or too many."""
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    rest, other_rest = one[start:], other[start:]
    if len(rest) == len(other_rest) >= 2 and rest[1::-1] + rest[2:] == other_rest:
        return True
    if min(len(one), len(other)) < WORD_LETTERS_MIN:
        return False
    return (
        rest[1:] == other_rest[1:]
        if len(one) == len(other)
        else rest[1:] == other_rest or rest == other_rest[1:]
    )
