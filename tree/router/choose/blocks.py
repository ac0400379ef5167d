"""Which upstream has read which beginnings of prompts: an index bounded in bytes. Pure.

A prompt's text is cut into blocks, and each block's hash covers all before it: equal hashes mean
equal beginnings. Hashes are salted with the model's name, so one index serves all models.

    block ─▶ the lives that read it, the latest last (at most HOLDERS_MAX)

A life is one instance of a service: the next one, of the same name, starts with nothing read. What
was used longest ago is forgotten first, and of one prompt the end before the beginning.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from router.upstream import Identity, Upstream

#: So many places to choose from are enough; more would cost memory for each block.
HOLDERS_MAX = 32
#: Of a block in the index, its holders apart: hash, slots and links. A test measures it.
BLOCK_BYTES = 256
#: Of each holder of a block, were its list shared with no other block.
HOLDER_BYTES = 8
#: Names whose present life is known. Above it, the one known for longest is forgotten.
LIVES_MAX = 10_000

Block = bytes


def blocks(text: bytes, model: str, block_bytes: int, blocks_max: int) -> list[Block]:
    """A hash for each whole block of `text`, at most `blocks_max`.

    A rest shorter than a block is no part: the next request's text goes on there.
    """
    hashed = blake2b(model.encode(), digest_size=8)
    chain = []
    for start in range(0, min(len(text), block_bytes * blocks_max) - block_bytes + 1, block_bytes):
        hashed.update(text[start : start + block_bytes])
        chain.append(hashed.digest())
    return chain


class Life:
    """One instance of a service, as the index names it."""

    __slots__ = ("gone", "identity", "name")

    def __init__(self, name: str, identity: Identity) -> None:
        self.name = name
        self.identity = identity
        #: Another instance has its name now.
        self.gone = False


Holders = tuple[Life, ...]


class Index:
    def __init__(self, memory_bytes_max: int) -> None:
        self._max = memory_bytes_max
        #: What all of it takes, at most.
        self.bytes = 0
        self._holders: OrderedDict[Block, Holders] = OrderedDict()
        self._lives: dict[str, Life] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def holders(self, block: Block) -> Holders:
        """Who read it, those that are gone included."""
        return self._holders.get(block, ())

    def depth(self, upstream: Upstream, chain: Sequence[Block]) -> int:
        """How many blocks from the beginning `upstream` has read."""
        life = self._lives.get(upstream.name)
        if life is None or life.identity != upstream.identity:
            return 0
        seen: Holders = ()
        for at in range(len(chain), 0, -1):
            holders = self.holders(chain[at - 1])
            if holders is not seen and life in holders:
                return at
            seen = holders
        return 0

    def learn(self, upstream: Upstream, chain: Sequence[Block]) -> None:
        """`upstream` reads all of it now."""
        life = self._life(upstream)
        index = self._holders
        before: Holders | None = None
        after: Holders = ()
        # Backwards: so the beginning, which more prompts share, is the last to be forgotten.
        for block in reversed(chain):
            holders = index.get(block)
            if holders is None:
                holders = ()
                self.bytes += BLOCK_BYTES
            if holders is not before:  # neighbours mostly share one tuple, and go on doing so
                before, after = holders, _with(holders, life)
            if after is not holders:
                self.bytes += HOLDER_BYTES * (len(after) - len(holders))
                index[block] = after
            index.move_to_end(block)
        while self.bytes > self._max and index:
            _, holders = index.popitem(last=False)
            self.bytes -= BLOCK_BYTES + HOLDER_BYTES * len(holders)

    def forget(self, upstream: Upstream, chain: Sequence[Block]) -> None:
        """`upstream` has these no more."""
        life = self._lives.get(upstream.name)
        if life is None:
            return
        for block in chain:
            holders = self.holders(block)
            if life in holders:
                left = tuple([one for one in holders if one is not life])
                self.bytes -= HOLDER_BYTES * (len(holders) - len(left))
                self._holders[block] = left

    def _life(self, upstream: Upstream) -> Life:
        lives = self._lives
        life = lives.get(upstream.name)
        if life is None or life.identity != upstream.identity:
            if life is not None:
                life.gone = True
            elif len(lives) >= LIVES_MAX:
                lives.pop(next(iter(lives))).gone = True
            life = lives[upstream.name] = Life(upstream.name, upstream.identity)
        return life


def _with(holders: Holders, life: Life) -> Holders:
    """`life` added, the gone left out, the earliest when there are too many."""
    if life in holders:
        return holders
    kept = [one for one in holders if not one.gone]
    return (*kept[-(HOLDERS_MAX - 1) :], life)
