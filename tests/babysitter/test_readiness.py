"""Whose socket listens, and where: looks at a real listener that stands in for an engine."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from babysitter import events, readiness, traffic
from babysitter.kinds import Given, Probe
from babysitter.probe import Prober
from babysitter.readiness import Elsewhere
from babysitter.settings import Settings
from babysitter.shim_client import ShimHandle
from common.http import client
from tests.support.fleet import chat
from tests.support.mock import mock_here
from tests.support.processes import Processes

ELSEWHERE = Elsewhere("10.0.0.21", "10.0.0.10")


@dataclass
class OurEngine:
    """What a look needs of a handle: this process is the engine."""

    shim_pid: int = os.getpid()
    instance_id: str = "a"


HANDLE = cast(ShimHandle, OurEngine())


def engine(host: str, port: int) -> Settings:
    return Settings(given=Given(name="coder", host=host, port=port, python="python3"), kind="mock")


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    async with client() as http:
        yield Prober(http, "127.0.0.1", 1, Probe(), ())


async def test_a_command_that_binds_loopback_is_told_what_settles_it(prober: Prober) -> None:
    """Its config says an address that routers reach; the program does not keep to it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        seen = await readiness.look(HANDLE, engine("10.0.0.21", port), prober, ELSEWHERE)
    assert isinstance(seen.event, events.NotAnswered)
    assert seen.mistake
    assert seen.text == seen.event.text
    assert seen.text == (
        f"the engine listens on 127.0.0.1:{port} but the registry is on 10.0.0.10; "
        "no router could reach it.\n"
        "  Start it on 10.0.0.21: in  command  and  args  {host} stands for that."
    )


async def test_it_listens_and_answers() -> None:
    async with client() as http, mock_here(models=["m"]) as mock:
        prober = Prober(http, mock.host, mock.port, Probe(), ())
        seen = await readiness.look(HANDLE, engine(mock.host, mock.port), prober, None)
        assert seen.event == events.Answered("a")
        assert [one["id"] for one in seen.models] == ["m"]


async def test_nobody_listens_yet(prober: Prober) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        seen = await readiness.look(HANDLE, engine("127.0.0.1", port), prober, None)
    assert seen.event == events.NotAnswered("a", f"does not listen on 127.0.0.1:{port} yet")
    assert not seen.mistake


async def test_a_stranger_that_answers_well_is_a_stranger(prober: Prober, tmp_path: Path) -> None:
    """The same listener, seen from an engine that is another process."""
    async with mock_here(models=["m"]) as mock:
        processes = Processes(tmp_path)
        try:
            other = processes.start(["sleep", "60"])
            handle = cast(ShimHandle, OurEngine(shim_pid=other.pid))
            seen = await readiness.look(handle, engine(mock.host, mock.port), prober, None)
        finally:
            processes.close()
    assert isinstance(seen.event, events.PortFoundTaken)
    assert f"pid {os.getpid()}" in seen.event.text


async def test_a_pooled_connection_holds_up_no_stop(prober: Prober) -> None:
    """Of a kind that does not tell its load, whose client keeps its connection for later."""
    async with mock_here(models=["m"]) as mock, client() as http:
        given = Given(name="x", host="127.0.0.1", port=mock.port, python="python3")
        settings = Settings(given=given, kind="command", drain_idle_s=0.05)
        later = {"x-mock-delay-ms": "30"}
        url = f"http://127.0.0.1:{mock.port}/v1/chat/completions"
        async with http.post(url, json=chat("m"), headers=later) as answer:
            assert answer.status == 200
            await answer.read()
        assert len(traffic.connections(mock.port)) == 1
        async with asyncio.timeout(30):
            await readiness.until_drained(prober, settings, 0.0)
        assert len(traffic.connections(mock.port)) == 1
