"""How large a model is, by what its name says, and the bounds that a rule sets. Pure.

qwen3-8b 8   Llama-3.3-70B 70   mixtral-8x7b 56   qwen3:0.6b 0.6   Qwen3-30B-A3B 30   gpt-4o –
"""

import re2
from msgspec import Struct

#: A number and a B that stand alone; the first counts: in 30B-A3B the second is what is active.
_SIZE = re2.compile(r"(?i)(?:^|[^a-z0-9.])(?:(\d{1,4})x)?(\d{1,6}(?:\.\d{1,6})?)b(?:[^a-z0-9]|$)")
_BOUNDS = re2.compile(
    r"(?i)\s*(?:([<>])\s*(\d+(?:\.\d+)?)b|(\d+(?:\.\d+)?)b\s*-\s*(\d+(?:\.\d+)?)b)\s*"
)


def billions(name: str) -> float | None:
    """Billions of parameters. None where the name does not say."""
    found = _SIZE.search(name)
    if found is None:
        return None
    experts, size = found.groups()
    return float(size) * int(experts or 1)


class Bounds(Struct, frozen=True):
    """`<8B` and `>13B` leave their number out, `8B-13B` has both ends in."""

    above: float = float("-inf")
    below: float = float("inf")
    least: float = float("-inf")
    most: float = float("inf")

    def hold(self, size: float) -> bool:
        return self.above < size < self.below and self.least <= size <= self.most


def bounds(text: str) -> Bounds:
    """Raises ValueError for what is none of `<8B`, `8B-13B`, `>13B`."""
    found = _BOUNDS.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is none of "<8B", "8B-13B", ">13B"')
    sign, number, least, most = found.groups()
    if sign == "<":
        return Bounds(below=float(number))
    if sign == ">":
        return Bounds(above=float(number))
    if float(least) > float(most):
        raise ValueError(f'"{text}" ends below where it begins')
    return Bounds(least=float(least), most=float(most))
