"""With limits that routers share: the cache comes first, and a hit asks for none of them."""

from router.named import Limits, Model
from router.seam import Attempt, Wait
from router.shares import Shares
from tests.router.cache.requests import GOOD, Asked, Later, caching


def test_a_hit_asks_for_no_limit_and_a_miss_does() -> None:
    found = caching(named={"m": Model(cache=True, limits=Limits(rpm=1))})
    shares = Shares("here", timeout_s=0.2)
    shares.up = True
    found.share(shares)
    asks: list[None] = []
    shares.asks_wait = lambda: asks.append(None)
    miss, waits = Asked(found), Asked(found)
    assert isinstance(miss.step, Wait)
    assert len(asks) == 1, "who waits for the answer of another asks for nothing either"
    assert isinstance(miss.goes_on(5.0), Attempt)  # Redis said nothing: by its own limits
    miss.answered(now=5.0)
    later = found.cache.soon
    assert isinstance(later, Later)
    later.run()
    waits.goes_on(5.0)
    hit = Asked(found, now=6.0)
    assert waits.hit == hit.hit == GOOD
    assert len(asks) == 1
    hit.ends(now=6.0)
    waits.ends(now=6.0)
    assert all(state.in_flight == 0 for state in found.states())
