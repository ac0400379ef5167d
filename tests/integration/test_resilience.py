"""Resilience: clouds, breakers, chains, timeouts, retries and limits, on one router that has every
feature configured at once; and the registries' Redis.

Each test that does harm has an engine or a provider of its own.
"""

import asyncio
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.registry.peers import peer, same
from tests.support.fake_provider import Authority, FakeProvider, fake_provider
from tests.support.fleet import Answer, Fleet, Part, answer_of, ask, chat, toml
from tests.support.load import Reply, one, session
from tests.support.mock import ProcessMock, start_mock
from tests.support.ports import free_ports
from tests.support.processes import ROOT, Processes
from tests.support.redis import RedisServer
from tests.support.until import until, until_sync

pytestmark = pytest.mark.real

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
KEY, CLAUDES_KEY, WRONG_KEY = "sk-live-1f0c55ad", "sk-ant-live-77aa10e3", "sk-live-wrong-0000"
#: One engine for each, of the same name.
ENGINES = ("big", "mid", "trip", "stuck")
CLOUD = ("gpt-a", "gpt-b", "gpt-few")
#: Of each cloud model: requests and tokens a minute.
LIMITS = {
    "gpt-a": (600, 90_000),
    "gpt-b": (300, 60_000),
    "gpt-few": (3, 9_000),
    "opus": (50, 7_000),
}
CHAINS = {"big": ["mid", "gpt-a"], "mid": ["gpt-a"], "code": ["gpt-b"]}
#: Other names of "stuck", each with one limit of its own; the others are a minute and more.
LIMIT_S, OTHERS_S = 0.4, 60.0
TIMED = {"begins": "first_event_s", "goes-on": "between_chunks_s", "ends": "total_s"}
CONNECT_S = 0.3


class House(Struct):
    router: Part
    engines: dict[str, ProcessMock]
    cloud: FakeProvider
    claude: FakeProvider
    lab: FakeProvider
    fleet: Fleet
    config: dict[str, Any]

    @property
    def url(self) -> str:
        return self.router.url

    def chat(self, model: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        return answer_of(self.url + CHAT, chat(model, **more), headers)

    def claudes(self, model: str) -> Answer:
        version = {"anthropic-version": "2023-06-01"}
        return answer_of(self.url + MESSAGES, chat(model, max_tokens=5), version)

    def saw(self, engine: str) -> dict[str, Any]:
        found: dict[str, Any] = ask(f"{self.engines[engine].url}/mock/stats")[1]
        return found

    def breaker(self, service: str) -> str:
        found: str = self.router.get("/stats")["services"][service]["breaker"]
        return found

    def listed(self) -> set[str]:
        return {one["id"] for one in self.router.get("/v1/models")["data"]}


@contextmanager
def black_hole() -> Iterator[int]:
    """A port where connections neither come about nor are refused: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def key_file(folder: Path, name: str, key: str) -> str:
    path = folder / f"{name}.key"
    path.write_text(key)
    path.chmod(0o600)
    return str(path)


def everything(
    folder: Path, engines: dict[str, ProcessMock], hole: int, **clouds: FakeProvider
) -> dict[str, Any]:
    """router.toml with every feature in it."""
    cloud, claude, lab = clouds["cloud"], clouds["claude"], clouds["lab"]
    good, bad = key_file(folder, "cloud", KEY), key_file(folder, "bad", WRONG_KEY)
    models: dict[str, Any] = {
        name: {"limits": {"rpm": rpm, "tpm": tpm}, "fallbacks": []}
        for name, (rpm, tpm) in LIMITS.items()
    }
    models |= {
        "code": {"targets": {"mid": 3, "big": 1}, "strategy": "least_latency"},
        "alias": {"backend_model": "gpt-a"},
        "trip": {"fallbacks": []},
        "stuck": {"fallbacks": []},
        "lab-m": {"fallbacks": []},
        "nowhere": {"fallbacks": []},
        "gpt-bad": {"fallbacks": []},
    }
    for name, key in TIMED.items():
        models[name] = {"backend_model": "stuck", "fallbacks": [], "timeouts": {key: LIMIT_S}}
    for name, chain in CHAINS.items():
        models.setdefault(name, {})["fallbacks"] = chain
    return {
        "registries": [],
        "strategy": "prefix",
        "default": "mid",
        "default_fallbacks": ["gpt-a"],
        "prefer_warm_ms": 10_000,
        "retry": {"attempts_per_target": 2, "attempts_max": 6, "error_cooldown": 100},
        "affinity": {"user": True},
        "needs": {"region": "eu-west", "cost_tolerance": 20},
        "score": {"latency": 2.0},
        "prefix": {"block_bytes": 128},
        "health": {"connect_probe_s": 0.1},
        "static_services": [
            {
                "name": name,
                "host": "127.0.0.1",
                "port": engine.port,
                "metadata": {"models": [name], "region": "eu-west"},
            }
            for name, engine in engines.items()
        ],
        "providers": {
            "cloud": cloud.table(api_key_file=good, cost={"relative": 0.9}),
            "bad": cloud.table(api_key_file=bad, models=["gpt-bad"]),
            "claude": claude.table(api_key_file=key_file(folder, "claude", CLAUDES_KEY)),
            "lab": lab.table(breaker={"failures": 2}),
            "hole": {
                "type": "openai_compatible",
                "base_url": f"http://127.0.0.1:{hole}/v1",
                "models": ["nowhere"],
                "connect_s": CONNECT_S,
            },
        },
        "models": models,
        "patterns": [{"match": "cloud/(.+)", "provider": "cloud", "rewrite": r"\1"}],
        "capabilities": {"talk": {"models": ["mid", "gpt-a"]}},
        "rules": [
            {"name": "gold", "when": {"header": {"x-tier": "gold"}}, "model": "gpt-b"},
        ],
    }


async def _start(fleet: Fleet) -> dict[str, ProcessMock]:
    # Two of them die, and nobody else may be given their ports until they are back.
    ports = zip(ENGINES, free_ports(len(ENGINES)), strict=True)
    started = await asyncio.gather(
        *(start_mock(fleet.processes, name=name, models=[name], port=port) for name, port in ports)
    )
    return {engine.name: engine for engine in started}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("resilience")
    authority = Authority(folder)
    with (
        fake_provider(key=KEY, models=CLOUD, authority=authority) as cloud,
        fake_provider("anthropic", key=CLAUDES_KEY, models=["opus"], authority=authority) as claude,
        fake_provider("openai_compatible", models=["lab-m"]) as lab,
        black_hole() as hole,
        Fleet(folder) as fleet,
    ):
        engines = asyncio.run(_start(fleet))
        config = everything(folder, engines, hole, cloud=cloud, claude=claude, lab=lab)
        router = fleet.router(**config)
        yield House(router, engines, cloud, claude, lab, fleet, config)


# --- a cloud --------------------------------------------------------------------------------------

SHOWN = ("/health", "/services?type=any", "/stats", "/metrics", "/v1/models", "/admin/config")


def test_a_clouds_key_is_set_and_never_shown(house: House) -> None:
    assert house.chat("gpt-a", {"authorization": "Bearer mine"}).status == 200
    assert house.cloud.seen[-1].headers["authorization"] == f"Bearer {KEY}"
    shown = [str(ask(house.url + path)[1]) for path in SHOWN]
    shown += [str(ask(f"{house.url}/explain?model={model}")[1]) for model in ("gpt-a", "opus")]
    answer = house.chat("gpt-a", {"x-creche-explain": "1"})
    shown += [str(answer.headers), house.router.process.log]
    state = house.fleet.folder / "state"
    shown += [one.read_text(errors="replace") for one in state.rglob("*") if one.is_file()]
    assert "gpt-a" in "".join(shown)
    for key in (KEY, CLAUDES_KEY, WRONG_KEY):
        assert not [text for text in shown if key in text]


def test_a_clouds_chat_works(house: House) -> None:
    assert house.cloud.base_url.startswith("https://")
    answer = house.chat("gpt-a")
    assert answer.status == 200
    assert answer.body["choices"][0]["message"]["content"] == "hello there"
    assert answer.headers["x-creche-service"] == "cloud"
    streamed = house.chat("gpt-a", stream=True)
    assert streamed.body.endswith("data: [DONE]\n\n")
    assert house.claudes("opus").body["content"][0]["text"] == "hello there"


def test_a_bad_key_is_refused(house: House) -> None:
    before = len(house.cloud.seen)
    answer = house.chat("gpt-bad")
    assert (answer.status, answer.body["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["x-creche-error"] == "upstream"
    assert len(house.cloud.seen) == before + 1, "and not tried again"
    assert house.breaker("bad") == "closed", "it answered"


def test_a_clouds_models_are_listed(house: House) -> None:
    assert house.listed() >= {*CLOUD, "opus"}
    status, found = ask(f"{house.url}/v1/models/gpt-a")
    assert (status, found["id"], found["object"]) == (200, "gpt-a", "model")


# --- breakers -------------------------------------------------------------------------------------


def test_the_breaker_is_configured_as_documented(house: House) -> None:
    documented = tomllib.loads((ROOT / "configs" / "router.toml").read_text())["breaker"]
    assert {key: documented[key] for key in ("failures", "open_s", "trials")} == {
        "failures": 5,
        "open_s": 30,
        "trials": 3,
    }
    assert "breaker" not in house.config, "so these are in force"
    faults = f"{house.engines['trip'].url}/mock/faults"
    assert ask(faults, {"status": 500})[0] == 200
    seen = []
    for _ in range(3):  # two attempts each, that count when their request ends
        seen.append((house.breaker("trip"), house.saw("trip")["requests"]))
        assert house.chat("trip").status == 500
    assert seen == [("closed", 0), ("closed", 2), ("closed", 4)]
    assert house.breaker("trip") == "open"
    found = ask(f"{house.url}/explain?model=trip")[1]["targets"][0]["candidates"][0]
    assert found["state"] == "refused"
    rest_s = int(found["why"].removeprefix("breaker open, trial in ").removesuffix(" s"))
    assert 10 < rest_s <= 30


def test_the_breaker_trips(house: House) -> None:
    assert house.chat("lab-m").status == 200
    assert house.breaker("lab") == "closed"
    house.lab.fail(status=500, times=2)  # its own number of failures
    assert house.chat("lab-m").status == 500
    assert house.breaker("lab") == "open"
    before = len(house.lab.seen)
    refused = house.chat("lab-m")
    assert (refused.status, refused.body["error"]["code"]) == (503, "no_healthy_services")
    assert int(refused.headers["retry-after"]) > 0
    assert len(house.lab.seen) == before, "it is well again, and not asked"
    assert house.breaker("cloud") == "closed"


# --- chains ---------------------------------------------------------------------------------------


def checked(*files: Path) -> tuple[int, str]:
    """What `creche-router check` says."""
    argv = [sys.executable, "-m", "router", "check", *map(str, files)]
    done = subprocess.run(argv, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


class Broken(Struct):
    """Configurations that differ from the one that runs by one fault, and what is said of all."""

    files: dict[str, Path]
    status: int
    said: str


@pytest.fixture(scope="module")
def broken(house: House) -> Broken:
    def write(name: str, config: dict[str, Any]) -> Path:
        path = house.fleet.folder / f"{name}.toml"
        path.write_text(toml(config))
        return path

    def with_chain(owner: str, chain: list[str]) -> dict[str, Any]:
        config = tomllib.loads(house.router.config.read_text())
        config["models"][owner]["fallbacks"] = chain
        return config

    dangling = tomllib.loads(house.router.config.read_text())
    del dangling["providers"]["cloud"]["models"]
    files = {
        "ill-formed": write("ill-formed", with_chain("big", ["mid", "cloud"])),
        "cycle": write("cycle", with_chain("mid", ["big"])),
        "dangling": write("dangling", dangling),
    }
    status, said = checked(*files.values())
    return Broken(files, status, said)


def test_chains_are_well_formed(house: House, broken: Broken) -> None:
    status, said = checked(house.router.config)
    assert (status, said.partition(" ")[0]) == (0, "ok"), said
    for owner, chain in CHAINS.items():
        assert ask(f"{house.url}/explain?model={owner}")[1]["resolution"]["fallbacks"] == chain
    assert broken.status == 1
    assert 'the fallbacks of "big" name "cloud": a provider, where a model belongs' in broken.said


def test_chains_have_no_cycles(broken: Broken) -> None:
    for model in CHAINS:
        met = list(CHAINS[model])
        for name in met:
            met += [following for following in CHAINS.get(name, ()) if following not in met]
        assert model not in met, f"{model} leads back to itself"
    assert "fallbacks go round: big → mid → big" in broken.said


def test_every_model_in_every_chain_is_listed(house: House, broken: Broken) -> None:
    in_chains = {name for chain in CHAINS.values() for name in chain}
    assert {*in_chains, *house.config["default_fallbacks"]} <= house.listed()
    for model in in_chains:
        assert house.chat(model).status == 200

    for missing in ("gpt-a", "gpt-b"):
        assert f'"{missing}", which nobody will list' in broken.said
    for owner in CHAINS:
        assert f'the fallbacks of "{owner}"' in broken.said
    assert "[providers.cloud] (line " in broken.said
    file = broken.files["dangling"]
    refused = house.fleet.processes.python("-m", "router", "--config", file, name="dangling")
    assert refused.wait() == 1, "nor does a router start with it"
    assert "which nobody will list" in refused.log


def test_a_chain_really_executes(house: House) -> None:
    def served() -> tuple[str, str, str | None, str]:
        answer = house.chat("big")
        assert answer.status == 200, answer.body
        headers = answer.headers
        return (
            headers["x-creche-service"],
            answer.body["model"],
            headers.get("x-creche-fallback"),
            headers["x-creche-attempts"],
        )

    assert served() == ("big", "big", None, "1")
    house.engines["big"].kill()
    first = house.chat("big")
    assert first.status == 200, first.body
    assert first.headers["x-creche-service"] == "mid"
    assert first.headers["x-creche-model"] == first.body["model"] == "mid"
    assert (first.headers["x-creche-fallback"], first.headers["x-creche-attempts"]) == ("1", "2")
    assert "set aside" in house.router.get("/health")["message"]
    assert served() == ("mid", "mid", "1", "1"), "the dead one is not tried again"

    house.engines["mid"].kill()
    assert served() == ("cloud", "gpt-a", "1", "2"), "the last of the chain"
    streamed = house.chat("big", stream=True)
    assert streamed.headers["x-creche-fallback"] == "1"
    assert streamed.body.endswith("data: [DONE]\n\n")

    for name in ("big", "mid"):
        again = start_mock(
            house.fleet.processes, name=name, models=[name], port=house.engines[name].port
        )
        house.engines[name] = asyncio.run(again)
    until_sync(lambda: served() == ("big", "big", None, "1"), what="the first serves again")
    until_sync(lambda: house.chat("mid").headers["x-creche-service"] == "mid", what="and mid")


# --- timeouts and retries -------------------------------------------------------------------------


async def timed(
    house: House, model: str, headers: dict[str, str], **more: Any
) -> tuple[Reply, float]:
    began = time.monotonic()
    async with session() as http:
        reply = await one(http, house.url, chat(model, **more), headers)
    return reply, time.monotonic() - began


async def test_timeouts_are_configured_apart(house: House) -> None:
    replies = await asyncio.gather(
        timed(house, "begins", {"x-mock-hang": "before"}, stream=True),
        timed(house, "goes-on", {"x-mock-hang": "middle"}, stream=True),
        timed(house, "ends", {"x-mock-hang": "before"}),
        # Beyond limits that are not their own.
        timed(house, "begins", {"x-mock-delay-ms": "800"}),
        timed(house, "goes-on", {"x-mock-delay-ms": "800"}),
        timed(house, "ends", {"x-mock-pace-ms": "200", "x-mock-tokens": "6"}, stream=True),
    )
    first, between, total, plain, other, long = (reply for reply, _ in replies)
    assert (first.status, total.status) == (504, 504)
    assert between.status == 200
    assert between.error_in_band and not between.is_done
    assert (plain.status, other.status) == (200, 200)
    assert long.is_done
    took = [seconds for _, seconds in replies]
    assert min(took) >= LIMIT_S
    assert max(took[:3]) < OTHERS_S


def test_a_connect_has_a_timeout_of_its_own(house: House) -> None:
    began = time.monotonic()
    answer = house.chat("nowhere")
    took_s = time.monotonic() - began
    assert (answer.status, answer.body["error"]["code"]) == (502, "upstream_unreachable")
    assert CONNECT_S <= took_s < OTHERS_S


def test_a_timeout_is_enforced(house: House) -> None:
    until_sync(lambda: house.saw("stuck")["in_flight"] == 0, what="nobody asks it")
    before = house.saw("stuck")["aborts"]["waiting"]
    began = time.monotonic()
    answer = house.chat("ends", {"x-mock-hang": "before"})
    took_s = time.monotonic() - began
    assert (answer.status, answer.body["error"]["code"]) == (504, "upstream_timeout")
    assert LIMIT_S <= took_s < OTHERS_S
    until_sync(
        lambda: house.saw("stuck")["aborts"]["waiting"] > before, what="the engine is let go"
    )
    assert house.saw("stuck")["in_flight"] == 0
    assert house.chat("stuck").status == 200


def test_retries_are_configured_and_are_one_layer(house: House) -> None:
    before = house.saw("big")["requests"], house.saw("mid")["requests"], len(house.cloud.seen)
    answer = house.chat("big", {"x-mock-status": "500"})
    after = house.saw("big")["requests"], house.saw("mid")["requests"], len(house.cloud.seen)
    assert (answer.status, answer.body["model"]) == (200, "gpt-a")
    asked = [b - a for a, b in zip(before, after, strict=True)]
    assert asked == [2, 2, 1], "attempts_per_target, and nobody retries below it"
    assert answer.headers["x-creche-attempts"] == str(sum(asked))
    assert (house.breaker("big"), house.breaker("mid")) == ("closed", "closed"), (
        "two broke on the same request: it is the request"
    )


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", LIMITS)
def test_each_cloud_model_has_its_limits(house: House, model: str) -> None:
    answer = house.claudes(model) if model == "opus" else house.chat(model)
    assert answer.status == 200
    rpm, tpm = LIMITS[model]
    assert answer.headers["x-ratelimit-limit-requests"] == str(rpm)
    assert answer.headers["x-ratelimit-limit-tokens"] == str(tpm)
    assert int(answer.headers["x-ratelimit-remaining-requests"]) < rpm
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < tpm


def test_a_limit_is_enforced(house: House) -> None:
    rpm, _ = LIMITS["gpt-few"]
    before = len(house.cloud.seen)
    answers = [house.chat("gpt-few")]
    while answers[-1].status == 200 and len(answers) <= rpm:
        answers.append(house.chat("gpt-few"))
    *passed, refused = answers
    assert refused.status == 429
    assert len(house.cloud.seen) - before == len(passed) <= rpm, "the cloud was spared"
    assert refused.headers["x-creche-error"] == "router"
    assert refused.body["error"]["code"] == "rate_limit_exceeded"
    assert "Rate limit reached for model 'gpt-few'" in refused.body["error"]["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60 // rpm
    assert 0 < int(refused.headers["retry-after-ms"]) <= 60_000 // rpm
    assert refused.headers["x-ratelimit-limit-requests"] == str(rpm)
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    assert house.chat("gpt-a").status == 200, "another model of the same cloud has its own"


# --- the shared state -----------------------------------------------------------------------------


async def after_a_restart(server: RedisServer, end: Callable[[], None]) -> None:
    """Two registries lose their Redis and have it back: nothing is missing, nobody starts anew."""
    async with peer(server.url) as one, peer(server.url) as other:
        await one.post("a", lease_s=600.0)  # nobody beats for it, however long this takes
        await other.drain("a")
        await until(lambda: same([one, other]) and one.table.drained)
        before, epoch = one.view(), one.table.epoch
        end()
        await until(lambda: one.keeper.away and other.keeper.away, what="both miss it")
        server.start()
        await until(lambda: not (one.keeper.away or other.keeper.away), what="both have it")
        assert (one.view(), other.view()) == (before, before)
        assert (one.table.epoch, one.resets, other.resets) == (epoch, 0, 0)
        await other.drain("a", on=False)
        await until(lambda: same([one, other]) and not one.table.drained)


def test_redis_answers(processes: Processes, tmp_path: Path) -> None:
    assert RedisServer(processes, tmp_path).start().ask("PING") == "+PONG\r\n"


async def test_redis_survives_a_restart_with_rdb(processes: Processes, tmp_path: Path) -> None:
    server = RedisServer(processes, tmp_path, keeps="rdb").start()
    await after_a_restart(server, server.stop)
    assert (server.folder / "dump.rdb").exists()


async def test_redis_survives_a_kill_with_aof_everysec(
    processes: Processes, tmp_path: Path
) -> None:
    server = RedisServer(processes, tmp_path, keeps="everysec").start()

    def end() -> None:
        """Once all is written: while the disk is slow, it writes up to two seconds later."""
        written = "aof_buffer_length:0\r\n"
        until_sync(lambda: written in server.ask("INFO persistence"), what="all is written")
        server.kill9()

    await after_a_restart(server, end)
    assert "everysec" in server.ask("CONFIG GET appendfsync")


async def test_redis_sets_and_gets(processes: Processes, tmp_path: Path) -> None:
    server = RedisServer(processes, tmp_path).start()
    async with peer(server.url, prefix="lab:") as one, peer(server.url, prefix="lab:") as other:
        await one.post("a", port=8123)
        assert '"port":8123' in server.ask("HGET lab:records a")
        await until(lambda: same([one, other]) and "a" in other.table.entries)
        await other.delete("a")
        assert server.ask("HGET lab:records a") == "$-1\r\n"
        await until(lambda: not one.table.entries)


# --- all of it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "headers", "how", "service"),
    [
        ("mid", {"x-tier": "gold"}, "rule", "cloud"),
        ("alias", {}, "exact", "cloud"),
        ("big", {}, "exact", "big"),
        ("talk", {}, "capability", "mid"),
        ("cloud/gpt-z", {}, "pattern", "cloud"),
        ("no-such-model", {}, "default", "mid"),
    ],
)
def test_all_features_are_configured(
    house: House, model: str, headers: dict[str, str], how: str, service: str
) -> None:
    in_force = house.router.get("/admin/config")
    assert (in_force["file"], in_force["message"]) == (str(house.router.config), "")
    explained = answer_of(f"{house.url}/explain", chat(model), headers).body
    assert explained["resolution"]["how"] == how
    answer = house.chat(model, headers)
    assert (answer.status, answer.headers["x-creche-service"]) == (200, service)


def test_overall_health(house: House) -> None:
    count = len(house.config["static_services"]) + len(house.config["providers"])
    health = house.router.get("/health")
    assert (health["status"], health["router"]) == ("healthy", "running")
    assert health["healthy_services"] == f"{count}/{count}"
    assert ask(house.url + "/ready")[0] == 200
    stats = house.router.get("/stats")
    assert len(stats["services"]) == count
    parts = ("successful_requests", "failed_requests", "client_errors", "cancelled")
    assert stats["total_requests"] == sum(stats[part] for part in parts)
    assert stats["active_streams"] == 0
    assert sum(one["in_flight"] for one in stats["services"].values()) == 0
    metrics = str(ask(house.url + "/metrics")[1]).splitlines()
    fit = [line for line in metrics if line.startswith("creche_upstream_fit{")]
    assert len(fit) == count and all(line.endswith(" 1.0") for line in fit)
