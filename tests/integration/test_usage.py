"""Usage on real processes: who asked for what, what it cost, and that it is still known later."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import creche
from tests.support.fake_provider import fake_provider
from tests.support.fleet import Answer, Fleet, Part, answer_of, ask, chat, mock
from tests.support.ports import free_port
from tests.support.redis import RedisServer
from tests.support.until import until_sync

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"
PRICES = {"input_per_million": 2.0, "output_per_million": 8.0}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """An engine of our own without a price, and a cloud with one. Keys are asked for."""
    with fake_provider(models=["cloud-model"]) as cloud, Fleet(tmp_path) as made:
        made.registry()
        made.babysitter("sitter", [mock("one", "own-model")])
        made.router(
            client_keys="required",
            providers={"cloud": cloud.table(cost=PRICES)},
            usage={"write_s": 0.1},
        )
        made.wait_models("own-model", "cloud-model")
        yield made


def key(fleet: Fleet, name: str, **more: Any) -> dict[str, str]:
    """A new key, as the header that a client sends."""
    status, made = ask(f"{fleet.url}/admin/keys", {"name": name, **more})
    assert status == 201, made
    return {"authorization": f"Bearer {made['text']}"}


def total(router: Part) -> dict[str, Any]:
    found: dict[str, Any] = router.get("/admin/usage?by=day")["total"]
    return found


def some_requests(fleet: Fleet) -> None:
    ana, bob = key(fleet, "ana", tenant="lab"), key(fleet, "bob")
    url = fleet.url + CHAT
    for _ in range(3):
        assert ask(url, chat("cloud-model"), ana)[0] == 200
    assert ask(url, chat("cloud-model", stream=True), bob)[0] == 200
    assert ask(url, chat("own-model", max_tokens=5), ana)[0] == 200
    assert ask(url, chat("own-model", stream=True, max_tokens=5), ana)[0] == 200
    assert ask(url, chat("typo"), bob)[0] == 503
    assert ask(url, chat("own-model"))[0] == 401


def test_each_key_and_model_has_its_line(fleet: Fleet) -> None:
    some_requests(fleet)
    said = creche(fleet, "usage", "--since", "2026-01-01")
    assert said.err == ""
    assert said.out.splitlines() == [
        "KEY       MODEL        REQUESTS  FAILED  TOKENS IN  TOKENS OUT  UNKNOWN    COST",
        "(no key)  -                   1       1          0           0        0       -",
        "ana       cloud-model         3       0          9           6        0  0.0001",
        "ana       own-model           2       0          1           5        1       -",
        "bob       -                   1       1          0           0        0       -",
        "bob       cloud-model         1       0          3           2        0  0.0000",
        "total                         8       2         13          13        1  0.0001",
        "",
        "unknown: 1 request whose service told no tokens, in no other sum; streams tell them with"
        '  "stream_options": {"include_usage": true}',
        "cost: without 1 request whose service declares no price for them",
        "since 2026-01-01 00:00 UTC: this router's own requests; others count theirs",
    ]
    said = creche(fleet, "usage", "--by", "tenant,service", "--model", "cloud-model", "--csv")
    assert said.out.splitlines() == [
        "tenant,service,requests,ok,failed,unknown,unpriced,tokens_in,tokens_cached,tokens_out,cost",
        ",cloud,1,1,0,0,0,3,0,2,0.000022000",
        "lab,cloud,3,3,0,0,0,9,0,6,0.000066000",
    ]
    table = creche(fleet, "usage", "--by", "day,served", "--key", "ana", "--json").json
    days = {one["names"]["day"] for one in table["rows"]}
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", day) for day in days)
    assert {one["names"]["served"] for one in table["rows"]} == {"own-model", "cloud-model"}
    assert creche(fleet, "usage", "--until", "2026-01-02", "--since", "2026-01-01").out.startswith(
        "Nothing was asked for in this time.\n"
    )


def test_what_a_stop_or_kill_9_leaves_is_all_that_was_written(fleet: Fleet) -> None:
    some_requests(fleet)
    router = fleet.parts["router"]
    before = total(router)  # asking writes
    assert before["requests"] == 8
    router.kill9()
    router.start()
    assert total(router) == before
    assert ask(fleet.url + CHAT, chat("own-model"))[0] == 401
    router.stop()  # … and so does stopping
    router.start()
    assert total(router)["requests"] == 9


def test_a_damaged_file_is_told_and_costs_no_request(fleet: Fleet) -> None:
    router = fleet.parts["router"]
    router.stop()
    file = fleet.folder / "state" / "router" / "usage.db"
    file.write_bytes(b"not what was written" * 1_000)
    router.start()
    fleet.wait_models("own-model")
    some_requests(fleet)
    assert total(router)["requests"] == 8
    said = router.get("/health")["usage_message"]
    assert "was damaged (file is not a database) and set aside as usage.db.damaged-" in said
    assert said in router.get("/admin/usage")["message"]


def test_a_reload_turns_it_off_and_on(fleet: Fleet) -> None:
    ana = key(fleet, "ana")
    router = fleet.parts["router"]
    text = router.config.read_text()
    counted = []
    for enabled in ("false", "true"):
        router.config.write_text(text.replace("[usage]", f"[usage]\nenabled = {enabled}"))
        assert router.post("/admin/reload")[0] == 200
        assert ask(fleet.url + CHAT, chat("own-model"), ana)[0] == 200
        found = router.get("/admin/usage")
        counted.append((found["total"]["requests"], found["message"]))
    assert counted == [(0, "usage is not counted: [usage] enabled is false"), (1, "")]


def test_a_key_sees_it_that_may_read(tmp_path: Path) -> None:
    token = tmp_path / "cluster.token"
    token.write_text("cluster-token-of-the-usage-test")
    token.chmod(0o600)
    with Fleet(tmp_path) as fleet:
        engine = {"name": "a", "host": "127.0.0.1", "port": free_port()}
        fleet.router(
            registries=[],
            static_services=[engine],
            client_keys="required",
            token_file=str(token),
        )
        admin = {"authorization": f"Bearer {token.read_text()}"}
        url = f"{fleet.url}/admin/"
        asked = {}
        for scope in ("use", "read", "admin"):
            made = ask(url + "keys", {"name": scope, "scope": scope}, admin)[1]
            asked[scope] = ask(url + "usage", headers={"authorization": f"Bearer {made['text']}"})
        assert ask(url + "usage")[0] == 401
        assert {scope: status for scope, (status, _) in asked.items()} == {
            "use": 403,
            "read": 200,
            "admin": 200,
        }


def test_routers_that_share_a_redis_have_one_account(tmp_path: Path) -> None:
    with fake_provider() as cloud, Fleet(tmp_path) as fleet:
        redis = RedisServer(fleet.processes, tmp_path, keeps="always").start()
        config: dict[str, Any] = {
            "registries": [],
            "providers": {"cloud": cloud.table(cost=PRICES)},
            "redis": redis.url,
            "usage": {"write_s": 0.1},
        }
        one = fleet.router(**config)
        two = fleet.router(name="other", **config)
        for part in (one, two, two):
            assert ask(part.url + CHAT, chat("gpt-a"))[0] == 200
        two.stop()
        assert creche(fleet, "usage", "--by", "service").out.splitlines()[:2] == [
            "SERVICE  REQUESTS  FAILED  TOKENS IN  TOKENS OUT  UNKNOWN    COST",
            "cloud           3       0          9           6        0  0.0001",
        ]
        redis.kill9()
        assert ask(one.url + CHAT, chat("gpt-a"))[0] == 200
        until_sync(lambda: "kept in memory: Redis" in one.get("/health")["message"])
        assert creche(fleet, "usage").code == 1
        redis.start()
        until_sync(lambda: (total(one)["requests"], one.get("/health")["usage_message"]) == (4, ""))
        assert creche(fleet, "usage").out.endswith(": all routers together\n")


def test_what_a_router_and_its_successor_answer_is_one_account(tmp_path: Path) -> None:
    with fake_provider() as cloud, Fleet(tmp_path) as fleet:
        router = fleet.router(
            replaceable=True, registries=[], providers={"cloud": cloud.table(cost=PRICES)}
        )
        for replaced in range(3):
            if replaced:
                router.process.signal(signal.SIGUSR2)
                until_sync(lambda n=replaced: router.process.log.count('"replaced: ') == n)
            for _ in range(4):
                assert ask(fleet.url + CHAT, chat("gpt-a"))[0] == 200
        # What the ones before counted last they write when they end.
        until_sync(lambda: total(router)["requests"] == 12)


def test_a_budget_that_is_used_up_refuses_until_it_is_raised(tmp_path: Path) -> None:
    with fake_provider() as cloud, Fleet(tmp_path) as fleet:  # 5 tokens a request
        router = fleet.router(
            registries=[],
            client_keys="required",
            providers={"cloud": cloud.table(cost=PRICES)},
            tenants={"lab": {"budget": {"tokens_monthly": 40}}},
            usage={"write_s": 0.05},
        )
        ana = key(fleet, "ana", tenant="lab", budget={"cost_monthly": 0.0001})
        bob, eve = key(fleet, "bob", tenant="lab"), key(fleet, "eve")

        def used_up(who: dict[str, str]) -> Answer | None:
            found = answer_of(fleet.url + CHAT, chat("gpt-a"), who)
            return None if found.status == 200 else found

        refused = until_sync(lambda: used_up(ana))
        assert refused is not None
        assert (refused.status, refused.headers["x-should-retry"]) == (429, "false")
        error = refused.body["error"]
        assert error["code"] == error["type"] == "insufficient_quota"
        assert "The API key 'ana' has used up its budget for 20" in error["message"]
        refused = until_sync(lambda: used_up(bob))
        assert refused is not None
        assert "The tenant 'lab' has used up its budget" in refused.body["error"]["message"]
        assert used_up(eve) is None
        total(router)  # asking writes
        router.kill9()  # what was used is known again at once
        router.start()
        assert used_up(bob) is not None
        text = router.config.read_text()
        router.config.write_text(text.replace("tokens_monthly = 40", "tokens_monthly = 4000"))
        assert router.post("/admin/reload")[0] == 200
        until_sync(lambda: used_up(bob) is None)
        assert used_up(ana) is not None
        assert "0.0001 cost/month" in creche(fleet, "key", "list").out
