"""What operators are told of the cache: counts, metrics, the access log."""

from router import views
from router.accesslog import console, line
from router.outcome import Outcome
from router.seam import End
from tests.router.cache.requests import Asked, caching
from tests.router.test_metrics import value


def end() -> End:
    found = End(Outcome.OK, 200, 1.0)
    found.first_byte = 0.5
    return found


def test_hits_misses_and_what_they_take_are_counted() -> None:
    found = caching()
    Asked(found).answered()
    for _ in range(2):
        Asked(found).ends()
    stats = views.stats(found, now=1.0, started=0.0)
    told = stats.cache
    assert (told.hits, told.misses, told.waits, told.entries) == (2, 1, 0, 1)
    assert told.bytes == found.cache.memory.bytes > 0
    assert (stats.total_requests, stats.successful_requests) == (3, 3)
    assert value(found, "creche_cache_hits_total", model="m") == 2
    assert value(found, "creche_cache_misses_total", model="m") == 1
    assert value(found, "creche_cache_entries") == 1
    assert value(found, "creche_cache_bytes") == told.bytes
    assert value(found, "creche_cache_shared_away") is None, "it shares with nobody"


def test_a_model_whose_answers_are_not_kept_is_no_label() -> None:
    found = caching()
    Asked(found, model="plain").answered()
    assert value(found, "creche_cache_misses_total", model="plain") is None


def test_no_tokens_are_counted_for_a_hit() -> None:
    found = caching()
    Asked(found).answered()
    before = value(found, "creche_tokens_total", model="m", direction="in")
    hit = Asked(found)
    ended = end()
    hit.plan.ended(ended)
    assert (ended.tokens_in, ended.tokens_out) == (0, 0)
    assert value(found, "creche_tokens_total", model="m", direction="in") == before


def test_the_log_says_hit_or_miss_and_names_nobody_for_a_hit() -> None:
    found = caching()
    miss = Asked(found)
    miss.answered()
    hit = Asked(found)
    hit.plan.ended(end())
    lines = [line(one.plan, end(), "t") for one in (miss, hit)]
    assert [one.cache for one in lines] == ["miss", "hit"]
    assert [one.service for one in lines] == ["a@h", None]
    assert [one.attempts for one in lines] == [1, 0]
    assert "from the cache" in console(hit.plan, end(), "09:14:03")
    assert "from the cache" not in console(miss.plan, end(), "09:14:03")
    plain = Asked(found, model="plain")
    plain.answered()
    assert line(plain.plan, end(), "t").cache is None
