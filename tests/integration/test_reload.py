"""The configuration changes while a real router serves real clients: none of them notices."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from common.tasks import spawn
from tests.support.fleet import Fleet, Part, ask, chat, toml
from tests.support.load import many, one, session, statuses
from tests.support.mock import ProcessMock, start_mock
from tests.support.ports import free_port
from tests.support.until import until_sync

pytestmark = pytest.mark.real


class Router:
    """A router whose file is edited."""

    def __init__(self, fleet: Fleet, **config: Any) -> None:
        self.part: Part = fleet.router(start=False, registries=[], **config)
        self.config: dict[str, Any] = {
            "listen": f"127.0.0.1:{self.part.port}",
            "state_dir": str(fleet.folder / "state" / "router"),
            "registries": [],
            "reload": {"rollback_after_s": 0},
        }

    def start(self, **config: Any) -> "Router":
        self.write(**config)
        self.part.start()
        return self

    def write(self, **config: Any) -> None:
        self.config.update(config)
        self.text = toml(self.config)
        fresh = self.part.config.with_suffix(".new")
        fresh.write_text(self.text)
        fresh.replace(self.part.config)

    def reload(self, **config: Any) -> dict[str, Any]:
        self.write(**config)
        status, answer = self.part.post("/admin/reload")
        assert status == 200, answer
        found: dict[str, Any] = answer
        return found

    def hang_up(self) -> None:
        """SIGHUP, and wait until it was obeyed."""
        before = self.done()
        self.part.process.signal(signal.SIGHUP)
        until_sync(lambda: self.done() > before, what="the reload is done")

    def done(self) -> float:
        """Reloads that went one way or the other."""
        return sum(
            float(line.split()[1])
            for line in self.part.get("/metrics").splitlines()
            if line.startswith("creche_config_reloads_total")
        )

    def about(self) -> dict[str, Any]:
        found: dict[str, Any] = self.part.get("/admin/config")
        return found

    def message(self) -> str:
        return str(self.part.get("/health")["message"])

    def models(self) -> list[str]:
        return [one["id"] for one in self.part.get("/v1/models")["data"]]


async def eventually(ask: Callable[[], bool], what: str) -> None:
    """Ask, off the loop, until it is so."""
    await asyncio.to_thread(until_sync, ask, what=what)


def static(name: str, port: int, *models: str) -> dict[str, Any]:
    return {"name": name, "host": "127.0.0.1", "port": port, "metadata": {"models": list(models)}}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


@pytest.fixture
def router(fleet: Fleet) -> Router:
    return Router(fleet)


async def engine(fleet: Fleet, name: str, *models: str, **flags: Any) -> ProcessMock:
    return await start_mock(fleet.processes, name=name, models=models, **flags)


#: A stream's events, and how many come before the engine waits.
EVENTS = [
    *(f'data: {{"choices":[{{"delta":{{"content":"{n} "}}}}]}}\n\n' for n in range(20)),
    "data: [DONE]\n\n",
]
BEGUN = 2


@asynccontextmanager
async def streaming(goes_on: asyncio.Event) -> AsyncIterator[int]:
    """An engine whose streams stand still until they may go on; its port."""

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await stream.prepare(request)
        for event in EVENTS[:BEGUN]:
            await stream.write(event.encode())
        await goes_on.wait()
        for event in EVENTS[BEGUN:]:
            await stream.write(event.encode())
        return stream

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server:
        try:
            assert server.port is not None
            yield server.port
        finally:
            goes_on.set()


async def test_50_running_streams_are_neither_dropped_nor_altered(
    fleet: Fleet, router: Router
) -> None:
    goes_on = asyncio.Event()
    async with streaming(goes_on) as port, session() as http:
        await asyncio.to_thread(router.start, static_services=[static("a@h", port, "m")])
        streamed = chat("m", stream=True)
        streams = [spawn(one(http, router.part.url, streamed), "a client") for _ in range(50)]

        def active() -> int:
            found: int = router.part.get("/stats")["active_streams"]
            return found

        await eventually(lambda: active() == 50, "50 streams")
        await asyncio.to_thread(router.write, timeouts={"total_s": 7})
        await asyncio.to_thread(router.hang_up)
        await asyncio.to_thread(router.part.config.write_text, 'strategey = "prefix"')
        await asyncio.to_thread(router.hang_up)
        # Not even where their engine is named no more.
        other = static("b@h", free_port(), "other")
        await asyncio.to_thread(router.reload, static_services=[other])
        assert await asyncio.to_thread(active) == 50, "all of that while all of them ran"
        assert await asyncio.to_thread(router.models) == ["other"]
        goes_on.set()
        replies = await asyncio.gather(*streams)
    assert [reply.status for reply in replies] == [200] * 50
    assert {reply.text for reply in replies} == {"".join(EVENTS)}


async def test_20_reloads_in_a_row_cost_none_of_400_requests(fleet: Fleet, router: Router) -> None:
    mocks = [await engine(fleet, name, "m") for name in ("a", "b")]
    services = [static(f"{mock.name}@h", mock.port, "m") for mock in mocks]
    await asyncio.to_thread(router.start, static_services=services)
    reloads = 0
    one_editor = asyncio.Lock()

    async def during(ended: int) -> None:
        nonlocal reloads
        if ended % 20 == 0:
            async with one_editor:
                reloads += 1
                # Now one engine, now both, each time with other numbers.
                found = services[: 1 + reloads % 2]
                await asyncio.to_thread(
                    router.reload, static_services=found, timeouts={"total_s": 100 + reloads}
                )

    replies = await many(router.part.url, 400, model="m", at_once=8, during=during)
    assert reloads == 20
    assert statuses(replies) == {200: 400}
    about = await asyncio.to_thread(router.about)
    assert [one["version"] for one in about["versions"]] == list(range(21, 11, -1))
    assert about["versions"][0]["in_force"]


def test_a_bad_file_stays_out_and_everybody_is_told(router: Router) -> None:
    router.start(static_services=[static("a@h", free_port(), "m")])
    router.part.config.write_text(router.text.replace("rollback_after_s", "rolback_after_s"))
    router.hang_up()
    assert 'unknown key \\"rolback_after_s\\"' in router.part.process.log
    assert "the reload at" in router.message() and "1 error in" in router.message()
    status, answer = router.part.post("/admin/reload")
    assert status == 400
    assert answer["error"].endswith("the old configuration stays")
    assert answer["problems"][0]["fix"] == 'did you mean "rollback_after_s"?'
    assert answer["problems"][0]["line"] > 1
    assert router.models() == ["m"]
    assert 'creche_config_reloads_total{outcome="failed"} 2.0' in router.part.get("/metrics")
    assert "creche_config_last_reload_ok 0.0" in router.part.get("/metrics")
    router.reload()
    assert "failed" not in router.message()
    assert "creche_config_last_reload_ok 1.0" in router.part.get("/metrics")


def test_what_waits_for_a_restart_is_said_and_the_rest_is_in_force(router: Router) -> None:
    router.start(static_services=[static("a@h", free_port(), "m")])
    answer = router.reload(
        listen=f"127.0.0.1:{free_port()}", static_services=[static("a@h", free_port(), "new")]
    )
    assert answer["needs_restart"] == ["listen"]
    assert answer["changed"] == ["static_services"]
    assert router.models() == ["new"]
    assert '"listen"' in router.part.process.log
    assert router.about()["needs_restart"] == ["listen"]


def test_a_rollback_outlives_a_restart(router: Router) -> None:
    router.start(static_services=[static("a@h", free_port(), "good")])
    good = router.text
    router.reload(static_services=[static("a@h", free_port(), "worse")])
    worse = router.text
    assert router.models() == ["worse"]
    status, answer = router.part.post("/admin/rollback", {"version": None})
    assert (status, answer["status"], answer["file_written"]) == (200, "rolled back", True)
    assert router.models() == ["good"]
    assert router.part.config.read_text() == good
    assert Path(answer["rejected_file"]).read_text() == worse
    router.part.stop()
    router.part.start()
    assert router.models() == ["good"]
    about = router.about()
    assert [(one["version"], one["rejected"]) for one in about["versions"]] == [
        (2, True),
        (1, False),
    ]
    assert (about["version"], about["by"]) == (1, "start")
    assert router.part.post("/admin/rollback", {"version": 2})[0] == 200
    assert router.models() == ["worse"]
    assert router.part.post("/admin/rollback", {"version": 77})[0] == 404
    assert router.part.post("/admin/rollback", {"version": "x"})[0] == 400


async def test_a_reload_that_stops_serving_undoes_itself(fleet: Fleet, router: Router) -> None:
    mock = await engine(fleet, "a", "m")
    services = [static("a@h", mock.port, "m")]
    await asyncio.to_thread(router.start, expect=["m"], static_services=services)
    answer = await asyncio.to_thread(
        router.reload,
        static_services=[static("a@h", free_port(), "m")],  # a typing error in the port
        reload={"rollback_after_s": 0.2},
    )
    assert answer["undo_after_s"] == 0.2
    await eventually(lambda: "undone" in router.message(), "the reload is undone")
    message = await asyncio.to_thread(router.message)
    assert '"m" cannot be served with the new file' in message or "nothing can be" in message
    assert str(router.part.config) in message
    about = await asyncio.to_thread(router.about)
    assert (about["by"], about["file_differs"]) == ("automatic rollback", True)
    assert (await asyncio.to_thread(ask, f"{router.part.url}/v1/chat/completions", chat("m")))[
        0
    ] == 200
    assert '"reload undone"' in router.part.process.log
    metrics = await asyncio.to_thread(router.part.get, "/metrics")
    assert 'creche_config_reloads_total{outcome="undone"} 1.0' in metrics


async def test_a_provider_is_switched_off_and_on(fleet: Fleet, router: Router) -> None:
    mock = await engine(fleet, "a", "m")
    provider = {"type": "vllm", "base_url": mock.url, "models": ["m"]}
    services = [static("s@h", free_port(), "other")]
    await asyncio.to_thread(router.start, providers={"p": provider}, static_services=services)
    assert await asyncio.to_thread(router.models) == ["m", "other"]
    for status, listed, answered in (("disabled", ["other"], 503), ("active", ["m", "other"], 200)):
        answer = await asyncio.to_thread(
            router.reload, providers={"p": {**provider, "status": status}}
        )
        assert answer["changed"] == ["providers.p"]
        assert await asyncio.to_thread(router.models) == listed
        url = f"{router.part.url}/v1/chat/completions"
        assert (await asyncio.to_thread(ask, url, chat("m")))[0] == answered


async def test_an_engine_that_dies_after_a_reload_undoes_nothing(
    fleet: Fleet, router: Router
) -> None:
    mock = await engine(fleet, "a", "m")
    services = [static("a@h", mock.port, "m")]
    await asyncio.to_thread(router.start, expect=["m"], static_services=services)
    await asyncio.to_thread(
        router.reload, reload={"rollback_after_s": 0.3}, timeouts={"total_s": 9}
    )
    await asyncio.to_thread(mock.kill)
    await eventually(lambda: router.about()["undo_until"] is None, "the reload is final")
    assert (await asyncio.to_thread(router.about))["by"] == "reload"


def test_a_state_folder_that_cannot_be_written_stops_no_reload(
    fleet: Fleet, router: Router
) -> None:
    folder = fleet.folder / "state" / "router"
    folder.mkdir(parents=True)
    (folder / "config-versions").write_text("a file where the folder should be")
    router.start(static_services=[static("a@h", free_port(), "m")])
    answer = router.reload(static_services=[static("a@h", free_port(), "new")])
    assert answer["version"] is None
    assert "could not be kept" in answer["notes"][0]
    assert router.models() == ["new"]


def test_admin_paths_are_where_control_listen_says_and_want_the_token(
    fleet: Fleet, router: Router
) -> None:
    token = fleet.folder / "token"
    token.write_text("a-long-enough-token")
    token.chmod(0o600)
    control = f"127.0.0.1:{free_port()}"
    router.start(
        control_listen=control,
        token_file=str(token),
        static_services=[static("a@h", free_port(), "m")],
    )
    assert router.part.post("/admin/reload")[0] == 404
    here = f"http://{control}/admin"
    for path, body in (("/config", None), ("/reload", {}), ("/rollback", {})):
        assert ask(here + path, body)[0] == 401
    bearer = {"Authorization": "Bearer a-long-enough-token"}
    assert ask(here + "/reload", {}, bearer)[0] == 200
    # Another token is wanted from the next request on.
    token.write_text("the-token-of-tomorrow")
    assert ask(here + "/reload", {}, bearer)[0] == 200
    assert ask(here + "/config", None, bearer)[0] == 401
    assert ask(here + "/config", None, {"Authorization": "Bearer the-token-of-tomorrow"})[0] == 200


async def test_another_registry_is_followed_without_losing_the_table(
    fleet: Fleet, tmp_path: Path
) -> None:
    mock = await engine(fleet, "a", "m")
    first = await asyncio.to_thread(fleet.registry)
    second = await asyncio.to_thread(lambda: fleet._part("second", "registry", {}, start=True))
    record = {
        "name": "a@h", "host": "127.0.0.1", "port": mock.port, "hostname": "h", "url": mock.url,
        "status": "running", "metadata": {"type": "openai-api", "models": ["m"]},
    }  # fmt: skip
    for registry, models in ((first, ["m"]), (second, ["m", "more"])):
        record["metadata"] = {"type": "openai-api", "models": models}
        status, answer = await asyncio.to_thread(registry.post, "/services", record)
        assert status == 201, answer
    router = Router(fleet)
    await asyncio.to_thread(router.start, registries=[first.url])
    await eventually(lambda: router.models() == ["m"], "the first registry's")

    async def during(ended: int) -> None:
        if ended == 50:
            await asyncio.to_thread(router.reload, registries=[second.url])
            await eventually(lambda: router.models() == ["m", "more"], "the second one's")

    replies = await many(router.part.url, 150, model="m", at_once=4, during=during)
    assert statuses(replies) == {200: 150}
    assert (await asyncio.to_thread(router.part.get, "/health"))["registry_url"] == second.url
    # No registry is left: what it said is gone, what the file says is there.
    answer = await asyncio.to_thread(
        router.reload, registries=[], static_services=[static("s@h", mock.port, "m")]
    )
    assert answer["status"] == "reloaded"
    await eventually(lambda: router.models() == ["m"], "the file's alone")
