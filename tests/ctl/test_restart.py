"""What a restart leaves behind that is interrupted, against a registry that answers late."""

import argparse
import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from common import tasks
from ctl.client import Client
from ctl.output import Output
from ctl.render import PLAIN
from ctl.restart import _Rolling
from ctl.roll import Roll
from ctl.views import engine_views
from tests.ctl.fleets import engine, fleet, service


async def test_a_mark_that_was_set_unheard_is_taken_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C comes when the registry has the mark, and its answer is still on the way."""
    marks: list[str] = []
    marked, answers = asyncio.Event(), asyncio.Event()

    async def registry(request: web.Request) -> web.Response:
        marks.append(request.path.rpartition("/")[2])
        if marks == ["drain"]:
            marked.set()
            await answers.wait()
        return web.json_response({})

    async def services(_: web.Request) -> web.Response:
        return web.json_response({"services": [], "total": 0, "registry_url": ""})

    app = web.Application()
    app.router.add_get("/services", services)
    app.router.add_post("/services/{name}/{verb}", registry)
    one = engine_views(fleet([service("a@h", ["m"])], [engine("a@h", "READY", ["m"])]))[0]
    async with TestServer(app) as server, Client(None) as client:
        url = f"http://127.0.0.1:{server.port}"
        rolling = _Rolling(
            client,
            url,
            url,
            Roll(engines=(one,), floors={}),
            {one.service: False},
            argparse.Namespace(timeout=30.0, limit=30.0),
            Output(False, PLAIN, PLAIN),
        )
        running = tasks.spawn(rolling.run(), "restart")
        try:
            await asyncio.wait_for(marked.wait(), 30)
            await tasks.cancel(running)
        finally:
            answers.set()
    assert running.cancelled()
    assert marks == ["drain", "undrain"]
    assert f"{one.service} was not restarted, and takes requests again." in capsys.readouterr().err
