"""Keeping what belongs together on one upstream: rendezvous hashing with bounded load. Pure.

Every (key, service name) pair has a score that all routers compute alike; the highest wins. One
service joining or leaving moves only its own share. A key's upstream yields while it carries more
than `load_factor` times its fair part of what is in flight; then the key's second choice serves.

Weights enter as score = -weight / ln(u), u uniform in (0, 1): logarithmic-method weighted
rendezvous hashing (Schindelhauer and Schomaker, 2005). Bounded loads: Mirrokni, Thorup and
Zadimoghaddam, "Consistent hashing with bounded loads" (2018).
"""

from collections.abc import Sequence
from hashlib import blake2b
from math import ceil, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.upstream import Upstream

_MASK = (1 << 64) - 1


def name_hash(text: str) -> int:
    """64 bits that are the same in every process, unlike `hash`."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def score(key: int, name: int, weight: float = 1.0) -> float:
    """The pair's score, from both 64-bit hashes. Mixed as splitmix64 does."""
    mixed = (key ^ (name * 0x9E3779B97F4A7C15)) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    # 53 bits fit a float exactly; the half keeps u away from 0 and 1.
    return -weight / log(((mixed >> 11) + 0.5) / (1 << 53))


def choose(candidates: Sequence["Upstream"], key: str, load_factor: float) -> "Upstream":
    """The key's best candidate that is not overloaded. `candidates` may not be empty."""
    key_hash = name_hash(key)
    best = max(candidates, key=lambda upstream: score(key_hash, upstream.hash, upstream.weight))
    in_flight = 1
    weights = 0.0
    for upstream in candidates:
        in_flight += upstream.node.in_flight
        weights += upstream.weight
    share = load_factor * in_flight / weights
    if best.node.in_flight < ceil(share * best.weight):
        return best
    ranked = sorted(
        candidates,
        key=lambda upstream: score(key_hash, upstream.hash, upstream.weight),
        reverse=True,
    )
    for upstream in ranked:
        if upstream.node.in_flight < ceil(share * upstream.weight):
            return upstream
    return best
