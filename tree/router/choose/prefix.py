"""Where the longest beginning of the prompt was read before, unless it is too busy. Pure.

    most blocks read ─ busy? ─▶ next most ─ busy? ─▶ … ─▶ nobody read any: by the first block

Busy: more in flight than `load_factor` times its fair share, as in `router.affinity`. Among equals
the fewest in flight per weight, then in turn. What nobody has read goes by rendezvous hashing of
its first block, so that routers that never talk agree; a prompt shorter than a block holds nothing
worth keeping and goes by least requests.

An upstream has read what was sent to it (`took`), until its engine reports far fewer cached tokens
than that (`told`): then these blocks are forgotten for it.
"""

from collections.abc import Sequence

from router import affinity
from router.choose import least_requests
from router.choose.asked import Asked, Candidates, in_flight
from router.choose.blocks import Block, Holders, Index, blocks
from router.choose.least import least
from router.config import Config
from router.envelope import PREFIX_KEPT_BYTES
from router.upstream import Upstream

#: Below this share of what was believed cached the engine is believed instead. Templates and
#: tokens that straddle blocks make smaller differences.
FAR_FEWER = 0.5


class Note:
    """A request's blocks, and how many of them its upstream had read when it was sent there."""

    __slots__ = ("believed", "chain", "models", "text_bytes")

    def __init__(self, models: tuple[str, ...], chain: list[Block], text_bytes: int) -> None:
        self.models = models
        self.chain = chain
        self.text_bytes = text_bytes
        self.believed = 0


class Prefix:
    learns = True

    def __init__(self, config: Config) -> None:
        self._config = config.prefix
        self._limit = config.prefix.block_bytes * config.prefix.blocks_max
        self.index = Index(config.prefix.memory_bytes_max)

    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        if len(candidates) == 1:
            return candidates[0]
        chain = self._noted(asked).chain
        if not chain:
            return least_requests.choose(candidates, asked.rotation)
        share = affinity.fair_share(candidates, self._config.load_factor)
        found = self._read(candidates, chain, share)
        if not found:
            return affinity.place(candidates, int.from_bytes(chain[0], "big"), share)
        if len(found) == 1:
            return found[0]
        loads = [upstream.node.in_flight / upstream.weight for upstream in found]
        return least(found, loads, asked.rotation)

    def _read(self, candidates: Candidates, chain: Sequence[Block], share: float) -> list[Upstream]:
        """Those that have read the most of it and are not too busy."""
        by_name: dict[str, Upstream] | None = None
        seen: Holders = ()
        for block in reversed(chain):
            holders = self.index.holders(block)
            if holders is seen or not holders:
                continue  # the same tuple as of the block after it: all of them are too busy
            seen = holders
            if by_name is None:
                by_name = {upstream.name: upstream for upstream in candidates}
            found = []
            for life in holders:
                upstream = by_name.get(life.name)
                if (
                    upstream is not None
                    and upstream.node.in_flight < share * upstream.weight
                    and upstream.identity == life.identity
                    and not life.gone
                ):
                    found.append(upstream)
            if found:
                return found
        return []

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        note = self._note(asked)
        if not note.chain:
            return {u.name: f"prompt shorter than a block, {in_flight(u)}" for u in candidates}
        share = affinity.fair_share(candidates, self._config.load_factor)
        return {
            upstream.name: f"{self.index.depth(upstream, note.chain)} of {len(note.chain)} blocks "
            f"cached, {in_flight(upstream)}"
            + ("" if upstream.node.in_flight < share * upstream.weight else ", too busy")
            for upstream in candidates
        }

    def took(self, upstream: Upstream, asked: Asked) -> None:
        note = self._noted(asked)
        note.believed = self.index.depth(upstream, note.chain)
        self.index.learn(upstream, note.chain)

    def told(self, upstream: Upstream, asked: Asked, cached_tokens: int, tokens: int) -> None:
        note = asked.note
        if not isinstance(note, Note) or not note.believed or tokens <= 0:
            return
        # Tokens are as long as they are on this prompt's average.
        block_tokens = tokens * self._config.block_bytes / note.text_bytes
        if cached_tokens < FAR_FEWER * note.believed * block_tokens:
            self.index.forget(upstream, note.chain[int(cached_tokens / block_tokens) :])

    def _noted(self, asked: Asked) -> Note:
        """Made once per request and target."""
        note = asked.note
        if not isinstance(note, Note) or note.models != asked.models:
            note = asked.note = self._note(asked)
        return note

    def _note(self, asked: Asked) -> Note:
        old = asked.note
        if isinstance(old, Note) and old.models == asked.models:
            return old
        models = asked.models
        text = asked.envelope.prefix(self._limit)
        config = self._config
        chain = blocks(text, "|".join(models), config.block_bytes, config.blocks_max)
        size = len(text)
        if size >= min(self._limit, PREFIX_KEPT_BYTES):  # it was cut there
            size = max(size, asked.envelope.text_bytes())
        return Note(models, chain, size)
