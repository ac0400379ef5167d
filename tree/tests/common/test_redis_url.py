"""Where a shared store is: read, shown without secrets, refused in one sentence."""

import pytest

from common.redis_url import Where, is_redis, parse


@pytest.mark.parametrize(
    ("text", "where", "shown"),
    [
        ("redis://h", Where(hosts=(("h", 6379),)), "redis://h:6379/0"),
        ("redis://h:1/3", Where(hosts=(("h", 1),), db=3), "redis://h:1/3"),
        ("rediss://bob@h", Where(hosts=(("h", 6379),), tls=True, user="bob"), "rediss://h:6379/0"),
        ("redis://[::1]:2/0", Where(hosts=(("::1", 2),)), "redis://[::1]:2/0"),
        (
            "redis+sentinel://a:1,b/main/2",
            Where(hosts=(("a", 1), ("b", 26379)), master="main", db=2),
            "redis+sentinel://a:1,b:26379/main/2",
        ),
    ],
)
def test_it_is_read_and_shown(text: str, where: Where, shown: str) -> None:
    assert is_redis(text)
    assert parse(text) == where
    assert str(where) == shown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("redis://:sesame@h", "password"),
        ("redis://bob:sesame@h", "password"),
        ("redis://h/sesame", "no number"),
        ("redis://h/0/1", "no number"),
        ("redis://a,b", "too many hosts"),
        ("redis://", "no host"),
        ("redis://h?db=1", "query"),
        ("redis+sentinel://a,b", "name of the master"),
        ("http://h", "no redis:// URL"),
    ],
)
def test_what_means_nothing_is_refused_without_telling_a_secret(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        parse(text)
    assert "sesame" not in str(refused.value)
