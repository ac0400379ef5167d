"""Keeping what belongs together on one upstream: rendezvous hashing with bounded load. Pure.

Every (key, service name) pair has a score that all routers compute alike; the highest wins. One
service joining or leaving moves only its own share. A key's upstream yields while it carries more
than `load_factor` times its fair part of what is in flight; then the key's second choice serves.

Weights enter as score = -weight / ln(u), u uniform in (0, 1): logarithmic-method weighted
rendezvous hashing (Schindelhauer and Schomaker, 2005). Bounded loads: Mirrokni, Thorup and
Zadimoghaddam, "Consistent hashing with bounded loads" (2018).
"""

from array import array
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from math import log
from sys import byteorder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.upstream import Upstream

_MASK = (1 << 64) - 1
_SPREAD, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def name_hash(text: str) -> int:
    """64 bits that are the same in every process, unlike `hash`."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def mix(key: int, name: int) -> int:
    """Both 64-bit hashes into 64 even bits, as splitmix64 does."""
    mixed = (key ^ (name * _SPREAD)) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * _FIRST) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * _SECOND) & _MASK
    return mixed ^ (mixed >> 31)


def mix_all(key: int, names: Sequence[int]) -> Sequence[int]:
    """`mix` of each name, four times as fast: all at once, as the lanes of one integer.

    A lane has 128 bits, so that a product stays in it; its value is in the lower 64.
    """
    size = 16 * len(names)
    ones, mask = _lanes(len(names))
    wide = array("Q", bytes(size))
    wide[_LOW::2] = array("Q", names)
    mixed = ((int.from_bytes(wide, byteorder) * _SPREAD) & mask) ^ (key * ones)
    mixed = ((mixed ^ ((mixed >> 30) & mask)) * _FIRST) & mask
    mixed = ((mixed ^ ((mixed >> 27) & mask)) * _SECOND) & mask
    mixed ^= (mixed >> 31) & mask
    return memoryview(mixed.to_bytes(size, byteorder)).cast("Q")[_LOW::2].tolist()


#: Which half of a lane is the lower one in memory.
_LOW = 0 if byteorder == "little" else 1


@lru_cache(maxsize=64)
def _lanes(count: int) -> tuple[int, int]:
    """So many lanes of 1, and of 64 bits set."""
    ones = int.from_bytes((b"\1" + bytes(15)) * count, "little")
    return ones, ones * _MASK


def score(key: int, name: int, weight: float = 1.0) -> float:
    """The pair's score, from both 64-bit hashes. It grows with `mix`."""
    # 53 bits fit a float exactly; the half keeps u away from 0 and 1.
    return -weight / log(((mix(key, name) >> 11) + 0.5) / (1 << 53))


def fair_share(candidates: Sequence["Upstream"], load_factor: float) -> float:
    """How many requests per weight an upstream may have in flight, the one that comes included,
    before others are preferred. With less than this in flight per weight it can take one more;
    at least one of the candidates always can."""
    in_flight = sum([upstream.node.in_flight for upstream in candidates])
    weights = sum([upstream.weight for upstream in candidates])
    return load_factor * (in_flight + 1) / weights


def choose(candidates: Sequence["Upstream"], key: str, load_factor: float) -> "Upstream":
    """The key's best candidate that is not overloaded. `candidates` may not be empty."""
    return place(candidates, name_hash(key), fair_share(candidates, load_factor))


def place(candidates: Sequence["Upstream"], key: int, share: float) -> "Upstream":
    """The best for a 64-bit `key` of those with less than `share` in flight per weight."""
    free = [one for one in candidates if one.node.in_flight < share * one.weight] or candidates
    mixed = mix_all(key, [one.hash for one in free])
    weights = {one.weight for one in free}
    if len(weights) == 1:  # `mix` and `score` order equal weights alike, and logarithms cost
        return free[mixed.index(max(mixed))]
    # So of each weight the highest mix, and of those the highest score.
    tops: dict[float, tuple[int, Upstream]] = {}
    for one, points in zip(free, mixed, strict=True):
        top = tops.get(one.weight)
        if top is None or points > top[0]:
            tops[one.weight] = points, one
    best = [one for _, one in tops.values()]
    return max(best, key=lambda one: score(key, one.hash, one.weight))
