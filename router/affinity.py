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
from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.upstream import Upstream

_MASK = (1 << 64) - 1


def name_hash(text: str) -> int:
    """64 bits that are the same in every process, unlike `hash`."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def mix(key: int, name: int) -> int:
    """Both 64-bit hashes into 64 even bits, as splitmix64 does."""
    mixed = (key ^ (name * 0x9E3779B97F4A7C15)) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def score(key: int, name: int, weight: float = 1.0) -> float:
    """The pair's score, from both 64-bit hashes. It grows with `mix`."""
    # 53 bits fit a float exactly; the half keeps u away from 0 and 1.
    return -weight / log(((mix(key, name) >> 11) + 0.5) / (1 << 53))


def fair_share(candidates: Sequence["Upstream"], load_factor: float) -> float:
    """How many requests per weight an upstream may have in flight, the one that comes included,
    before others are preferred. With less than this in flight per weight it can take one more;
    at least one of the candidates always can."""
    in_flight = 1
    weights = 0.0
    for upstream in candidates:
        in_flight += upstream.node.in_flight
        weights += upstream.weight
    return load_factor * in_flight / weights


def choose(candidates: Sequence["Upstream"], key: str, load_factor: float) -> "Upstream":
    """The key's best candidate that is not overloaded. `candidates` may not be empty."""
    return place(candidates, name_hash(key), fair_share(candidates, load_factor))


def place(candidates: Sequence["Upstream"], key: int, share: float) -> "Upstream":
    """The best for a 64-bit `key` of those with less than `share` in flight per weight."""
    best = candidates[0]
    weight = best.weight
    top = -1
    for upstream in candidates:
        if upstream.node.in_flight < share * upstream.weight:
            if upstream.weight != weight:
                return _place_weighted(candidates, key, share)
            # `mix` and `score` order equal weights alike, and a logarithm costs.
            mixed = (key ^ (upstream.hash * 0x9E3779B97F4A7C15)) & _MASK
            mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
            mixed ^= mixed >> 31
            if mixed > top:
                best, top = upstream, mixed
    return best


def _place_weighted(candidates: Sequence["Upstream"], key: int, share: float) -> "Upstream":
    """Of equal weights the highest `mix` is the highest score: one logarithm for each weight."""
    tops: dict[float, tuple[int, Upstream]] = {}
    for upstream in candidates:
        weight = upstream.weight
        if upstream.node.in_flight < share * weight:
            mixed = mix(key, upstream.hash)
            top = tops.get(weight)
            if top is None or mixed > top[0]:
                tops[weight] = mixed, upstream
    best = candidates[0]
    most = -1.0
    for _, upstream in tops.values():
        points = score(key, upstream.hash, upstream.weight)
        if points > most:
            best, most = upstream, points
    return best
