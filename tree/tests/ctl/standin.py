"""A router that answers `creche`'s questions as a test wants, and verbs run against it."""

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ctl.__main__ import parser
from ctl.errors import CtlError
from ctl.find import Place
from ctl.output import Output
from ctl.render import PLAIN


class StandIn:
    """`answers`: path to (status, body). `asked`: method, path with query, headers, body."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def _answer(self, request: web.Request) -> web.Response:
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.asked.append((request.method, request.path_qs, headers, await request.read()))
        status, body = self.answers.get(
            request.path, (404, {"error": f"no such path: {request.path}"})
        )
        return web.json_response(body, status=status)


class Ran:
    """What a verb gave: `code`, or `end` where it raised; what it printed."""

    def __init__(self, code: int, out: str, err: str, end: CtlError | None) -> None:
        self.code = code
        self.out = out
        self.err = err
        self.end = end

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def creche(
    capsys: pytest.CaptureFixture[str], *argv: str, url: str = "http://127.0.0.1:1"
) -> Ran:
    """Run a verb here, as `creche --url URL argv…` would."""
    args = parser().parse_args(argv)
    out = Output(args.json, PLAIN, PLAIN)
    end = None
    capsys.readouterr()
    try:
        outcome = args.run(args, Place(url, None, "a test"), out)
        code = int(outcome if isinstance(outcome, int) else await outcome)
    except CtlError as error:
        end, code = error, int(error.code)
    said = capsys.readouterr()
    return Ran(code, said.out, said.err, end)
