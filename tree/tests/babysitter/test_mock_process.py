"""The mock engine as a process: its flags, its ready line, its end."""

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import openai
import pytest

from babysitter.mock.settings import settings_from_args
from common.tasks import spawn
from tests.support.mock import start_mock
from tests.support.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@pytest.mark.real
async def test_an_openai_client_is_served_and_logged(processes: Processes) -> None:
    mock = await start_mock(processes, name="mock-a", models=["m"])
    async with openai.AsyncOpenAI(base_url=mock.base_url, api_key="k", max_retries=0) as client:
        plain = await client.chat.completions.create(model="m", messages=HELLO)
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        vectors = await client.embeddings.create(model="m", input=["a", "b"])
    assert plain.system_fingerprint == "mock-a"
    assert streamed == plain.choices[0].message.content
    assert [len(one.embedding) for one in vectors.data] == [8, 8]
    stats = await mock.saw(completions=3)
    assert stats["by_model"] == {"m": 3}
    lines = [line for line in mock.log.splitlines() if " request id=" in line]
    assert len(lines) == 3
    assert all("model=m" in line for line in lines)


@pytest.mark.real
async def test_sigterm_ends_it_at_once_and_with_0(processes: Processes) -> None:
    mock = await start_mock(processes, fault=["hang=before"])
    async with aiohttp.ClientSession() as http:

        async def hang() -> None:
            with pytest.raises(aiohttp.ClientConnectionError):
                await http.get(f"{mock.url}/anything")

        hanging = spawn(hang(), "hanging")
        await mock.saw(in_flight=1)
        assert mock.terminate() == 0
        await hanging


@pytest.mark.real
async def test_an_exit_on_demand_ends_the_process(processes: Processes) -> None:
    mock = await start_mock(processes)
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(f"{mock.url}/anything", headers={"x-mock-exit": "before"})
    assert mock.process.wait() == 1


@pytest.mark.real
async def test_it_can_exit_by_itself_ignore_term_and_leave_workers(processes: Processes) -> None:
    brief = processes.python("-m", "babysitter.mock", "--exit-after-ms", "50", "--exit-code", "7")
    assert brief.wait() == 7
    stubborn = await start_mock(processes, name="stubborn", ignore_term=True, workers=2)
    stubborn.process.terminate()
    assert (await stubborn.stats())["name"] == "stubborn"
    stubborn.kill()
    assert len(processes.survivors()) == 2


@pytest.mark.real
async def test_a_taken_port_is_told(processes: Processes) -> None:
    mock = await start_mock(processes)
    late = processes.python("-m", "babysitter.mock", "--port", str(mock.port))
    assert late.wait() == 1
    assert f"port {mock.port} is taken by" in late.log


@pytest.mark.parametrize(
    "wrong",
    [["--fault", "bogus"], ["--tokens", "-1"], ["--api-key-file", "/nowhere"], ["--what"]],
)
def test_wrong_usage_exits_64(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        settings_from_args(wrong, None)
    assert exit_.value.code == 64
    assert "babysitter.mock: " in capsys.readouterr().err


def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("from-file\n")
    assert settings_from_args(["--api-key-file", str(path)], "from-env").api_key == "from-file"
    assert settings_from_args([], "from-env").api_key == "from-env"
    path.write_text("\n")
    with pytest.raises(SystemExit):
        settings_from_args(["--api-key-file", str(path)], None)


def test_help_tells_every_flag_and_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        settings_from_args(["--help"], None)
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for word in ("--max-concurrency", "error-event", "/mock/stats", "MOCK_API_KEY"):
        assert word in text
