"""The registry dies with -9: no request notices, and nothing is forgotten or invented after."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, ask, chat, mock
from tests.support.load import acts, many, statuses
from tests.support.until import until, until_sync

pytestmark = pytest.mark.real

#: Longer than any pause of a shared machine, shorter than the default: one test waits for its end.
LEASE = {"beat_s": 1, "lease_s": 8}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("killed")) as fleet:
        fleet.registry(lease=LEASE)
        fleet.babysitter("sitter", [mock("one", "m", "only-one"), mock("two", "m")])
        fleet.router()
        yield fleet


@pytest.fixture
def fleet(whole: Fleet) -> Fleet:
    """All of it runs, whatever the test before ended."""
    for part in whole.parts.values():
        if not part.process.alive:
            part.start(ready=None)
    sitter = whole.parts["sitter"]
    sitter.process.ready_sync(sitter.url + "/ready")
    sitter.post("/engines/two/start")
    until_sync(lambda: sitter.get("/info")["registered"], what="its own record")
    for name in ("one@test", "two@test"):
        whole.wait_service(name, healthy=True, timeout_s=60)
    return whole


async def test_none_of_500_requests_fails_while_it_dies_and_returns(fleet: Fleet) -> None:
    registry = fleet.parts["registry"]
    before = registry.get("/services")
    epoch = registry.get("/health")["epoch"]

    during = acts({100: registry.kill9, 300: registry.start})
    replies = await many(fleet.url, 500, model="m", during=during)
    assert statuses(replies) == {200: 500}

    # State is there, in the same epoch, under the same lives.
    after = registry.get("/services")
    lives = {one["name"]: one["instance_id"] for one in before["services"]}
    assert {one["name"]: one["instance_id"] for one in after["services"]} == lives
    assert registry.get("/health")["epoch"] == epoch

    # The watch resumes, and what changes now arrives.
    def connected() -> bool:
        return bool(fleet.parts["router"].get("/health")["registry_connected"])

    await until(lambda: asyncio.to_thread(connected), what="the watch is back")
    fleet.parts["sitter"].post("/engines/two/stop")
    await until(
        lambda: asyncio.to_thread(
            lambda: (fleet.service("two@test") or {}).get("healthy") is not True
        ),
        what="a stop after the restart reaches the router",
    )
    assert fleet.parts["router"].get("/services")["total"] <= 2


async def test_a_service_that_ended_while_it_was_down_is_no_ghost(fleet: Fleet) -> None:
    registry, sitter = fleet.parts["registry"], fleet.parts["sitter"]
    registry.kill9()
    assert sitter.stop() == 0
    registry.start()
    # Nobody beats for them: each gets one full lease, then none is fit.
    await until(
        lambda: asyncio.to_thread(lambda: registry.get("/health")["healthy_services"] == 0),
        60,
        "no ghost is fit one lease after the restart",
    )
    await until(
        lambda: asyncio.to_thread(lambda: not fleet.models()), what="the router lists no ghost"
    )


async def test_a_router_started_without_it_serves_from_its_snapshot(fleet: Fleet) -> None:
    router = fleet.parts["router"]
    assert router.stop() == 0  # writes the snapshot
    fleet.parts["registry"].kill9()
    router.start()
    assert fleet.models() == ["m", "only-one"]
    status, _ = await asyncio.to_thread(ask, f"{fleet.url}/v1/chat/completions", chat("only-one"))
    assert status == 200
    health = router.get("/health")
    assert health["registry_connected"] is False
    assert health["status"] == "healthy"


async def test_a_router_killed_with_9_finds_its_snapshot_too(fleet: Fleet) -> None:
    router = fleet.parts["router"]
    snapshot = fleet.folder / "state" / "router" / "snapshot.json"

    def holds_both() -> bool:
        text = snapshot.read_text()
        return "one@test" in text and "two@test" in text

    await until(holds_both, what="the snapshot on disk holds what the router knows")
    router.kill9()
    fleet.parts["registry"].kill9()
    router.start()
    assert fleet.models() == ["m", "only-one"]
