"""Two registries on a primary that dies: sentinels replace it, and no request notices."""

import asyncio
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, mock
from tests.support.load import many, statuses
from tests.support.redis import RedisServer, Sentinels
from tests.support.until import until

pytestmark = pytest.mark.real

LEASE = {"beat_s": 1, "lease_s": 8}
#: A sentinel that stood still for two seconds does nothing for the next thirty.
FAILED_OVER_S = 120


async def test_a_fleet_lives_through_a_fail_over(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        primary = RedisServer(fleet.processes, tmp_path, keeps="always").start()
        RedisServer(fleet.processes, tmp_path, keeps="always", replica_of=primary).start()
        sentinels = Sentinels(fleet.processes, tmp_path, primary)
        state = sentinels.url
        registries = [
            fleet.registry(name=name, state=state, lease=LEASE) for name in ("one", "other")
        ]
        urls = [one.url for one in registries]
        sitter = fleet.babysitter("sitter", [mock("e", "m")], start=False, registries=urls)
        sitter.start(ready=None)
        fleet.router(registries=urls)
        sitter.process.ready_sync(sitter.url + "/health", 60)
        fleet.wait_service("e@test", healthy=True, timeout_s=60)
        before = [one.get("/health")["epoch"] for one in registries]
        life = sitter.get("/engines/e")["instance_id"]

        def all_say(status: str) -> bool:
            return all(one.get("/health")["status"] == status for one in registries)

        sentinels.want(sentinels.COUNT + 1)  # until this was seen
        primary.kill9()
        await until(lambda: asyncio.to_thread(all_say, "degraded"), what="both miss it")
        assert statuses(await many(fleet.url, 50, model="m")) == {200: 50}
        sentinels.want(sentinels.QUORUM)
        another = "both have another"
        await until(lambda: asyncio.to_thread(all_say, "healthy"), FAILED_OVER_S, another)
        assert [one.get("/health")["epoch"] for one in registries] == before
        assert sitter.get("/engines/e")["instance_id"] == life

        assert registries[1].post("/services/e@test/drain")[0] == 200
        await asyncio.to_thread(fleet.wait_service, "e@test", draining=True, healthy=False)
        assert registries[0].post("/services/e@test/undrain")[0] == 200
        await asyncio.to_thread(fleet.wait_service, "e@test", draining=False, healthy=True)
