"""What a restart leaves behind that is interrupted, against a registry that answers late."""

import argparse
import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from common import tasks
from ctl.client import Client
from ctl.errors import CtlError
from ctl.output import Output
from ctl.render import PLAIN
from ctl.restart import _Rolling
from ctl.roll import Roll
from ctl.views import engine_views
from tests.ctl.fleets import engine, fleet, service


class Fleet:
    """A registry and a router at one URL, with one engine. The first mark is set, and its answer
    withheld."""

    def __init__(self) -> None:
        self.marks: list[str] = []
        self.marked, self.answers = asyncio.Event(), asyncio.Event()
        self.engine = engine_views(fleet([service("a@h", ["m"])], [engine("a@h", "READY", ["m"])]))[
            0
        ]
        self.app = web.Application()
        self.app.router.add_get("/services", self._services)
        self.app.router.add_post("/services/{name}/{verb}", self._mark)

    async def _mark(self, request: web.Request) -> web.Response:
        self.marks.append(request.path.rpartition("/")[2])
        if self.marks == ["drain"]:
            self.marked.set()
            await self.answers.wait()
            assert request.transport is not None
            request.transport.close()
        return web.json_response({})

    async def _services(self, _: web.Request) -> web.Response:
        return web.json_response({"services": [], "total": 0, "registry_url": ""})

    def restart(self, client: Client, url: str) -> _Rolling:
        return _Rolling(
            client,
            url,
            url,
            Roll(engines=(self.engine,), floors={}),
            {self.engine.service: False},
            argparse.Namespace(timeout=30.0, limit=30.0),
            Output(False, PLAIN, PLAIN),
        )


async def test_a_mark_that_was_set_unheard_is_taken_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C comes when the registry has the mark, and its answer is still on the way."""
    here = Fleet()
    async with TestServer(here.app) as server, Client(None) as client:
        rolling = here.restart(client, f"http://127.0.0.1:{server.port}")
        running = tasks.spawn(rolling.run(), "restart")
        try:
            await asyncio.wait_for(here.marked.wait(), 30)
            await tasks.cancel(running)
        finally:
            here.answers.set()
    assert running.cancelled()
    assert here.marks == ["drain", "undrain"]
    assert "a@h was not restarted, and takes requests again." in capsys.readouterr().err


async def test_a_mark_whose_answer_is_lost_is_taken_away() -> None:
    here = Fleet()
    here.answers.set()
    async with TestServer(here.app) as server, Client(None) as client:
        with pytest.raises(CtlError):
            await here.restart(client, f"http://127.0.0.1:{server.port}").run()
    assert here.marks == ["drain", "undrain"]
