"""What belongs together goes to one upstream: rendezvous hashing with bounded load. Pure.

By the request's key; without one by the first block of its prompt's text; without text there is
nothing to keep together, and the fewest in flight serve. See `router.affinity`.
"""

from hashlib import blake2b

from router import affinity
from router.choose import least_requests
from router.choose.asked import Asked, Candidates, Forgetful, in_flight
from router.config import Config
from router.upstream import Upstream


class ConsistentHash(Forgetful):
    def __init__(self, config: Config) -> None:
        self._load_factor = config.affinity.load_factor
        self._prefix_bytes = config.prefix.block_bytes

    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        if len(candidates) == 1:
            return candidates[0]
        key = self._key(asked)
        if key is None:
            return least_requests.choose(candidates, asked.rotation)
        share = affinity.fair_share(candidates, self._load_factor)
        return affinity.place(candidates, key, share)

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        key = self._key(asked)
        if key is None:
            return {u.name: f"no key and no prompt, {in_flight(u)}" for u in candidates}
        return _places(candidates, key, self._load_factor)

    def _key(self, asked: Asked) -> int | None:
        if asked.key is not None:
            return affinity.name_hash(asked.key)
        text = asked.envelope.prefix(self._prefix_bytes)
        return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") if text else None


def places(candidates: Candidates, key: str, load_factor: float) -> dict[str, str]:
    """What decides where a request's own key goes, whatever the strategy, as /explain shows it."""
    return _places(candidates, affinity.name_hash(key), load_factor)


def _places(candidates: Candidates, key: int, load_factor: float) -> dict[str, str]:
    share = affinity.fair_share(candidates, load_factor)
    order = sorted(candidates, key=lambda u: affinity.score(key, u.hash, u.weight), reverse=True)
    return {
        upstream.name: f"{place} of {len(order)} for this key, {in_flight(upstream)} "
        f"of {share * upstream.weight:.2f}"
        for place, upstream in enumerate(order, 1)
    }
