import pytest
from msgspec.structs import replace

from common.wire.registry import Health
from router import table
from router.table import Table
from router.upstream import Upstream, address
from tests.router import making
from tests.router.making import service, target, upstream


def of(*upstreams: Upstream) -> Table:
    return table.EMPTY.apply({one.name: one for one in upstreams})


def names(found: Table, model: str | None = None, capability: str | None = None) -> list[str]:
    return [one.name for one in found.pool(target(model), capability).fit]


def test_two_openai_services_kept_and_one_babysitter_filtered() -> None:
    found = of(
        upstream("a@h", "m"),
        upstream("b@h", "m"),
        upstream("sitter@h", metadata={"type": "babysitter"}),
    )
    assert names(found) == ["a@h", "b@h"]
    assert len(found.upstreams) == 3


def test_weights_1_and_2_are_kept() -> None:
    found = of(upstream("a@h", "m", weight=1.0), upstream("b@h", "m", weight=2.0))
    assert [one.weight for one in found.pool(target("m"), None).fit] == [1.0, 2.0]


def test_only_the_fit_are_candidates() -> None:
    found = of(
        upstream("fit@h", "m"),
        upstream("unfit@h", "m", is_healthy=False, health_status=Health.UNHEALTHY),
        upstream("draining@h", "m", draining=True),
        upstream("loading@h", "m", status="starting"),
        upstream("unknown@h", "m", health_status=Health.UNKNOWN),
    )
    assert names(found, "m") == ["fit@h", "unknown@h"]


def test_suspects_stand_apart_and_draining_ones_are_none() -> None:
    found = of(
        upstream("a@h", "m", is_healthy=False, health_status=Health.SUSPECT),
        upstream("b@h", "m", is_healthy=False, health_status=Health.SUSPECT, draining=True),
    )
    pool = found.pool(target("m"), None)
    assert pool.fit == ()
    assert [one.name for one in pool.suspect] == ["a@h"]


def test_capabilities_filter_with_and_without_a_model() -> None:
    found = of(
        upstream("all@h", "m"),
        upstream("embed@h", "m", metadata={"capabilities": ["embed"]}),
        upstream("many@h", "n", metadata={"capabilities": ["embed", "custom:ocr"]}),
    )
    assert names(found, "m", "embed") == ["all@h", "embed@h"]
    assert names(found, "m", "generate") == ["all@h"]
    assert names(found, None, "embed") == ["all@h", "embed@h", "many@h"]
    assert names(found, None, "custom:ocr") == ["all@h", "many@h"]
    assert names(found, None, "custom:nobody") == ["all@h"]
    assert names(found, None, None) == ["all@h", "embed@h", "many@h"]


def test_names_that_nobody_offers_are_not_kept() -> None:
    found = of(upstream("a@h", "m"))
    for at in range(100):
        found.pool(target(f"model-{at}"), "generate")
        found.pool(target("m"), f"custom:{at}")
    assert len(found.pools) == 1


def test_a_table_is_replaced_never_edited() -> None:
    before = of(upstream("a@h", "m"), upstream("b@h", "n"))
    kept = before.pool(target("n"), None)
    after = before.apply({"a@h": None, "c@h": upstream("c@h", "m")})
    assert names(before, "m") == ["a@h"]
    assert names(after, "m") == ["c@h"]
    assert after.pool(target("n"), None) is kept, "what a change does not touch stays"


def test_a_model_that_moves_leaves_nothing_behind() -> None:
    found = of(upstream("a@h", "old")).apply({"a@h": upstream("a@h", "new")})
    assert set(found.models) == {"new"}
    assert found.apply({"a@h": None}).models == {}


def test_a_later_capability_splits_what_was_one_pool() -> None:
    found = of(upstream("a@h", "m"))
    assert names(found, "m", "custom:ocr") == ["a@h"]
    more = found.apply({"b@h": upstream("b@h", "m", metadata={"capabilities": ["custom:ocr"]})})
    assert names(more, "m", "custom:ocr") == ["a@h", "b@h"]
    assert names(more, "m", "embed") == ["a@h"]


def test_models_list_comes_first_and_models_is_the_fallback() -> None:
    both = {"models_list": [{"id": "listed", "max_model_len": 5}, {"id": "listed"}]}
    assert upstream("a@h", "plain", metadata=both).models == ("listed",)
    assert upstream("a@h", "plain").models == ("plain",)


def test_requests_go_where_the_url_says() -> None:
    where = address(service("a", url="http://10.0.0.1:81/base/"))
    assert (where.host, where.port, where.tls, where.path_prefix) == (
        "10.0.0.1",
        81,
        False,
        "/base",
    )
    assert address(service("a", url="https://x")).port == 443
    broken = address(service("a", url="nonsense", port=8100))
    assert (broken.host, broken.port) == ("127.0.0.1", 8100)


@pytest.mark.parametrize(
    "url",
    [
        "http://\u00fcn\u00ef\u2192/",
        "http://a b/",
        "http://h\x00/",
        "http://" + "a" * 300 + "/",
        "http://h/caf\u00e9 \u2192/a b\x00?q\ud800",
        "http://h/\ud800",
        "http://h/x HTTP/1.1\r\nX-Injected: 1\r\n",
    ],
)
def test_what_a_record_calls_itself_breaks_no_head_and_no_table(url: str) -> None:
    found = making.brain(service("a@h", "m", url=url), service("b@h", "m"))
    assert len(found.table.models["m"]) == 2
    node = found.table.upstreams["a@h"].node
    start = f"GET {node.path_prefix}/v1/models HTTP/1.1".encode("ascii")
    assert start.count(b" ") == 2
    assert (start + node.head).isascii() and node.head.count(b"\r\n") == 1


def test_a_record_without_a_usable_host_leads_nowhere() -> None:
    where = address(replace(service("a", url="nonsense"), host="h\r\nX: y"))
    assert where.host == "unusable.invalid"


def test_ten_thousand_services_and_one_put() -> None:
    found = table.EMPTY.apply({f"s{n}": upstream(f"s{n}", f"m{n % 50}") for n in range(10_000)})
    after = found.apply({"new": upstream("new", "m1")})
    assert len(after.pool(target("m1"), None).fit) == 201
    assert len(found.pool(target("m1"), None).fit) == 200
