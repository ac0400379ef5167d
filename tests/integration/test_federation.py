"""Federation flow: five nodes in three regions behind the strategy `score`, with its numbers.

whisper-v3 on us-west-gpu (45 ms) and eu-west-gpu (120 ms), llama-70b on us-east-gpu, bge-large on
embed-us and embed-eu. Health comes from real successes: 3 each, 1 for us-east-gpu. Scores are
computed here from the p50 that /stats tells, by the formula alone.
"""

import asyncio
import json
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import pytest
from msgspec import Struct

from tests.support.fleet import Answer, Fleet, Part, answer_of, ask, chat
from tests.support.forms import form
from tests.support.mock import ProcessMock, start_mock
from tests.support.ports import free_port
from tests.support.until import until_sync

pytestmark = pytest.mark.real

TRANSCRIBE, CHAT, EMBED = "/v1/audio/transcriptions", "/v1/chat/completions", "/v1/embeddings"
FILE = b"RIFF" + bytes(196)
MODELS = {"whisper-v3": TRANSCRIBE, "llama-70b": CHAT, "bge-large": EMBED}
#: A p50 further from its delay than this says more of the machine than of the node. Those of one
#: model are further apart.
NOISE_MS = 70
#: What /explain leaves out of its numbers.
ROUNDED = 0.00051
BROKEN = {"x-mock-status": "500"}


class Place(Struct, frozen=True):
    name: str
    model: str
    region: str
    capabilities: tuple[str, ...]
    delay_ms: int = 0
    successes: int = 3


US_WEST = Place("us-west-gpu", "whisper-v3", "us-west", ("transcribe",), 45)
EU_WEST = Place("eu-west-gpu", "whisper-v3", "eu-west", ("transcribe",), 120)
US_EAST = Place("us-east-gpu", "llama-70b", "us-east", ("generate", "code"), successes=1)
EMBED_US = Place("embed-us", "bge-large", "us-west", ("embed",))
EMBED_EU = Place("embed-eu", "bge-large", "eu-west", ("embed",))
PLACES = (US_EAST, US_WEST, EU_WEST, EMBED_US, EMBED_EU)


class Counts(Struct, frozen=True):
    """Of /stats. Two differ by what came between them."""

    total: int
    successful: int
    failed: int
    cancelled: int

    def since(self, before: "Counts") -> tuple[int, ...]:
        return tuple(getattr(self, key) - getattr(before, key) for key in self.__struct_fields__)


class View:
    """A router, asked."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.url = part.url

    def send(self, model: str, **headers: str) -> Answer:
        """A request of the model's kind."""
        url = self.url + MODELS[model]
        if model == "whisper-v3":
            body, kind = form(FILE, model=model)
            return answer_of(url, body, {**kind, **headers})
        if model == "bge-large":
            return answer_of(url, {"model": model, "input": "where"}, headers)
        return answer_of(url, chat(model), headers)

    def tokens(self, count: int, **headers: str) -> Generator[str]:
        """The texts of a stream's tokens, as they come. Closing the iterator leaves."""
        request = urllib.request.Request(
            self.url + CHAT,
            json.dumps(chat("llama-70b", stream=True)).encode(),
            {"content-type": "application/json", "x-mock-tokens": str(count), **headers},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            for line in answer:
                if line.startswith(b"data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        if text := choice["delta"].get("content"):
                            yield text

    def service(self, place: Place) -> dict[str, Any] | None:
        listed = self.part.get("/services")["services"]
        return next((one for one in listed if one["name"] == place.name), None)

    def health(self, place: Place) -> str:
        found = self.service(place)
        assert found is not None
        health: str = found["node_health"]
        return health

    def stats(self, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = self.part.get("/stats")["services"][place.name]
        return found

    def breaker(self, place: Place) -> str:
        found: str = self.stats(place)["breaker"]
        return found

    def p50_ms(self, place: Place) -> float:
        found: float = self.stats(place)["p50_ms"]
        return found

    def counts(self) -> Counts:
        found = self.part.get("/stats")
        keys = ("total_requests", "successful_requests", "failed_requests", "cancelled")
        return Counts(*(found[key] for key in keys))

    def explain(self, query: str) -> dict[str, Any]:
        """The answer of /explain; its candidates, by name, under "candidates"."""
        status, found = ask(f"{self.url}/explain?{query}")
        assert status == 200, found
        candidates = found["targets"][0]["candidates"]
        return {**found, "candidates": {one["name"]: one for one in candidates}}


class Federation:
    """The five engines and their registry, and routers that watch it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.registry = fleet.registry()
        self.engines = asyncio.run(self._start())
        self._lives = 0
        for place in PLACES:
            self._register(place)

    async def _start(self) -> dict[str, ProcessMock]:
        started = await asyncio.gather(
            *(
                start_mock(
                    self.fleet.processes,
                    name=place.name,
                    models=[place.model],
                    fault=[f"delay-ms={place.delay_ms}"],
                )
                for place in PLACES
            )
        )
        return {engine.name: engine for engine in started}

    def _register(self, place: Place) -> str:
        """A new life of it; its instance_id."""
        self._lives += 1
        port = self.engines[place.name].port
        record = {
            "name": place.name,
            "host": "127.0.0.1",
            "port": port,
            "hostname": "localhost",
            "url": f"http://127.0.0.1:{port}",
            "status": "running",
            "instance_id": f"life-{self._lives}",
            "metadata": {
                "type": "openai-api",
                "models": [place.model],
                "capabilities": place.capabilities,
                "region": place.region,
            },
        }
        status, answer = self.registry.post("/services", record)
        assert status == 201, answer
        return f"life-{self._lives}"

    def router(self, name: str, **config: Any) -> View:
        """One that knows all five and has asked none of them."""
        view = View(self.fleet.router(name=name, strategy="score", **config))
        until_sync(lambda: all(map(view.service, PLACES)), what="it knows the five")
        return view

    def reborn(self, view: View, place: Place) -> None:
        """The same engine in a new life, of which no router knows anything yet."""
        life = self._register(place)
        anew = f"{place.name} anew"
        until_sync(lambda: self._sees(view, place, "instance_id", life), what=anew)
        status, _ = ask(f"{self.engines[place.name].url}/mock/reset", b"")
        assert status == 200

    def feed(self, view: View, place: Place) -> None:
        """Its real successes. What serves the same model too is drained meanwhile."""
        others = [p for p in PLACES if p.model == place.model and p is not place]
        for other in others:
            self._drain(view, other, True)
        for _ in range(place.successes):
            served = view.send(place.model)
            assert served.headers["x-creche-service"] == place.name
        if place.delay_ms:
            until_sync(lambda: self._is_settled(view, place), what=f"the p50 of {place.name}")
        for other in others:
            self._drain(view, other, False)

    @staticmethod
    def _is_settled(view: View, place: Place) -> bool:
        """Its p50 is its own. A machine that stalls gives it more samples."""
        settled = view.p50_ms(place) - place.delay_ms < NOISE_MS
        if not settled:
            view.send(place.model)
        return settled

    def _drain(self, view: View, place: Place, wanted: bool) -> None:
        verb = "drain" if wanted else "undrain"
        status, answer = self.registry.post(f"/services/{place.name}/{verb}")
        assert status == 200, answer
        until_sync(lambda: self._sees(view, place, "draining", wanted), what=verb)

    @staticmethod
    def _sees(view: View, place: Place, key: str, value: object) -> bool:
        found = view.service(place)
        return found is not None and found[key] == value

    def saw(self, place: Place) -> dict[str, Any]:
        """What an engine counted."""
        found: dict[str, Any] = ask(f"{self.engines[place.name].url}/mock/stats")[1]
        return found


class Fed(Struct):
    """A router that has had its successes, and what was seen on the way."""

    view: View
    #: /stats before anybody asked.
    at_start: dict[str, Any]
    #: The first request of all, and the counts after it.
    first: Answer
    after_first: Counts


def score(health: float, p50_ms: float, locality: float = 0.65, cost: float = 0.5) -> float:
    """The formula, with the privacy that all of them have."""
    return (2 * health + (1 - p50_ms / 5000) + 1 + locality + cost) / 5


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Fleet(tmp_path_factory.mktemp("federation")) as fleet:
        yield Federation(fleet)


@pytest.fixture(scope="module")
def fed(federation: Federation) -> Fed:
    view = federation.router("router", retry={"attempts_per_target": 1})
    at_start = view.part.get("/stats")
    first = view.send("llama-70b")
    after_first = until_sync(lambda: view.counts().total and view.counts(), what="it is counted")
    assert isinstance(after_first, Counts)
    for place in PLACES:
        if place is not US_EAST:  # that one has had its success
            federation.feed(view, place)
    return Fed(view, at_start, first, after_first)


@pytest.fixture
def view(fed: Fed) -> View:
    return fed.view


# --- who gets what --------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [f"path={TRANSCRIBE}", f"path={TRANSCRIBE}&model=whisper-v3"])
def test_transcribe_has_two_candidates_and_their_scores_are_exact(view: View, query: str) -> None:
    found = view.explain(query)
    assert (found["capability"], found["targets"][0]["strategy"]) == ("transcribe", "score")
    assert found["candidates"].keys() == {"us-west-gpu", "eu-west-gpu"}
    for place in (US_WEST, EU_WEST):
        one, p50 = found["candidates"][place.name], view.p50_ms(place)
        assert one["score"] == pytest.approx(score(1, p50), abs=ROUNDED)
        assert one["parts"] == {
            "health": 2.0,
            "latency": pytest.approx(1 - p50 / 5000, abs=ROUNDED),
            "privacy": 1.0,
            "locality": 0.65,
            "cost": 0.5,
        }
    assert 45 <= view.p50_ms(US_WEST) < 120 <= view.p50_ms(EU_WEST)


def test_transcribe_goes_to_us_west_gpu(view: View) -> None:
    found = view.explain(f"path={TRANSCRIBE}&model=whisper-v3")
    assert found["chosen"] == "us-west-gpu"
    assert {name: one["state"] for name, one in found["candidates"].items()} == {
        "us-west-gpu": "chosen",
        "eu-west-gpu": "candidate",
    }
    served = view.send("whisper-v3")
    assert (served.status, served.headers["x-creche-service"]) == (200, "us-west-gpu")
    assert served.body["text"] == f"us-west-gpu heard {len(FILE)} bytes with whisper-v3"


def test_transcribe_goes_to_eu_west_gpu_for_those_who_are_there(view: View) -> None:
    body, kind = form(FILE, model="whisper-v3")
    here = {"x-creche-region": "eu-west"}
    found = answer_of(f"{view.url}/explain?path={TRANSCRIBE}", body, {**kind, **here}).body
    assert {one["name"]: one["score"] for one in found["targets"][0]["candidates"]} == {
        "us-west-gpu": pytest.approx(score(1, view.p50_ms(US_WEST), 0.5), abs=ROUNDED),
        "eu-west-gpu": pytest.approx(score(1, view.p50_ms(EU_WEST), 0.8), abs=ROUNDED),
    }
    assert found["chosen"] == "eu-west-gpu"
    assert view.send("whisper-v3", **here).headers["x-creche-service"] == "eu-west-gpu"


def test_generate_goes_to_the_only_node_though_its_health_is_unknown(
    federation: Federation, view: View
) -> None:
    federation.reborn(view, US_EAST)
    federation.feed(view, US_EAST)
    assert view.health(US_EAST) == "unknown", "one success is not two"
    found = view.explain(f"path={CHAT}&model=llama-70b")
    assert found["candidates"].keys() == {"us-east-gpu"}
    one = found["candidates"]["us-east-gpu"]
    assert one["parts"]["health"] == 0.6
    assert one["score"] == pytest.approx(score(0.3, view.p50_ms(US_EAST)), abs=ROUNDED)
    assert found["chosen"] == "us-east-gpu"
    assert view.send("llama-70b").headers["x-creche-service"] == "us-east-gpu"


def test_embed_has_two_candidates(view: View) -> None:
    for query in (f"path={EMBED}", f"path={EMBED}&model=bge-large"):
        found = view.explain(query)
        assert found["candidates"].keys() == {"embed-us", "embed-eu"}
        for place in (EMBED_US, EMBED_EU):
            one, p50 = found["candidates"][place.name], view.p50_ms(place)
            assert one["score"] == pytest.approx(score(1, p50), abs=ROUNDED)
        assert found["chosen"] in found["candidates"]
    assert view.send("bge-large").headers["x-creche-service"] in ("embed-us", "embed-eu")


def test_a_capability_filters_those_that_have_the_model(view: View) -> None:
    answer = view.send("llama-70b", **{"x-creche-capability": "embed"})
    assert answer.status == 503
    assert answer.body["error"]["message"] == "No healthy services available for model 'llama-70b'"
    assert view.send("llama-70b", **{"x-creche-capability": "code"}).status == 200


# --- what is told of it ---------------------------------------------------------------------------


def test_stats_are_all_zero_at_the_start(fed: Fed) -> None:
    found = fed.at_start
    for key in (
        "total_requests",
        "successful_requests",
        "failed_requests",
        "client_errors",
        "cancelled",
        "total_tokens",
        "active_streams",
        "avg_latency_ms",
    ):
        assert found[key] == 0, key
    assert found["services"].keys() == {place.name for place in PLACES}
    for one in found["services"].values():
        assert (one["request_count"], one["error_count"], one["in_flight"]) == (0, 0, 0)
        assert (one["p50_ms"], one["p99_ms"], one["ttft_p50_ms"]) == (None, None, None)
        assert one["breaker"] == "closed"


def test_the_answer_says_who_served_it_and_the_stats_are_1_1_0(fed: Fed) -> None:
    assert fed.first.status == 200
    assert fed.first.headers["x-creche-service"] == "us-east-gpu"
    assert fed.first.headers["x-creche-attempts"] == "1"
    assert fed.after_first == Counts(total=1, successful=1, failed=0, cancelled=0)


def test_three_models_are_listed(view: View) -> None:
    listed = view.part.get("/v1/models")
    assert [one["id"] for one in listed["data"]] == ["bge-large", "llama-70b", "whisper-v3"]


def test_all_five_nodes_have_health_and_us_west_gpu_is_healthy(view: View) -> None:
    listed = view.part.get("/services")["services"]
    found = {one["name"]: one["node_health"] for one in listed}
    assert found.keys() == {place.name for place in PLACES}
    assert set(found.values()) <= {"unknown", "healthy", "degraded", "unhealthy"}
    assert found["us-west-gpu"] == found["embed-eu"] == "healthy"


def test_two_successes_in_a_row_make_a_node_healthy(federation: Federation, view: View) -> None:
    federation.reborn(view, US_EAST)
    seen = []
    for _ in range(3):
        seen.append(view.health(US_EAST))
        assert view.send("llama-70b").status == 200
    assert seen == ["unknown", "unknown", "healthy"]


def test_with_no_services_one_request_is_total_1_failed_1(federation: Federation) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    part = federation.fleet.router(name="alone", start=False, registries=[nowhere])
    view = View(part.start(ready="/health"))
    answer = view.send("llama-70b")
    assert answer.status == 503
    assert answer.body["error"]["message"] == "No healthy services available for model 'llama-70b'"
    assert view.counts() == Counts(total=1, successful=0, failed=1, cancelled=0)
    part.stop()


# --- streams --------------------------------------------------------------------------------------


def test_a_stream_of_10_tokens_gives_10_tokens(federation: Federation, view: View) -> None:
    federation.reborn(view, US_EAST)
    texts = list(view.tokens(10))
    assert len(texts) == 10
    assert "".join(texts).startswith("us-east-gpu: turn 1. hi")
    until_sync(lambda: view.part.get("/stats")["active_streams"] == 0, what="none is left")


def test_a_stream_cancelled_after_2_tokens_gives_no_more(
    federation: Federation, view: View
) -> None:
    federation.reborn(view, US_EAST)
    before = view.counts()
    # So long that most of it is still to come when the client leaves.
    with closing(view.tokens(100, **{"x-mock-pace-ms": "500"})) as texts:
        assert next(texts) and next(texts)
        assert view.part.get("/stats")["active_streams"] == 1

    def departed() -> dict[str, Any] | None:
        found = federation.saw(US_EAST)
        return found if found["aborts"]["streaming"] == 1 else None

    found = until_sync(departed, what="the engine sees the departure")
    assert found is not None
    assert found["completions"] == 0
    assert 2 <= found["events"] < 100, "no more come"

    until_sync(lambda: view.counts().cancelled > before.cancelled, what="it is counted")
    assert view.counts().since(before) == (1, 0, 0, 1), "neither a success nor a failure"
    assert view.part.get("/stats")["active_streams"] == 0
    assert view.stats(US_EAST)["in_flight"] == 0
    assert view.health(US_EAST) == "unknown", "the node did nothing wrong"


# --- the breaker ----------------------------------------------------------------------------------


def test_5_failures_open_the_breaker_and_nobody_asks_the_node_then(
    federation: Federation, view: View
) -> None:
    federation.reborn(view, US_EAST)
    before = view.counts()
    for failures in range(5):
        assert view.breaker(US_EAST) == "closed", f"after {failures}"
        assert view.send("llama-70b", **BROKEN).status == 500
    assert view.breaker(US_EAST) == "open"
    assert view.counts().since(before) == (5, 0, 5, 0)
    refused = view.send("llama-70b")
    assert (refused.status, refused.headers["x-creche-error"]) == (503, "router")
    assert refused.body["error"]["code"] == "no_healthy_services"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    one = view.explain(f"path={CHAT}&model=llama-70b")["candidates"]["us-east-gpu"]
    assert one["state"] == "refused"
    assert one["why"].startswith("breaker open, trial in ")
    assert federation.saw(US_EAST)["requests"] == 5, "then it was not asked"
    for place in (US_WEST, EU_WEST, EMBED_US, EMBED_EU):
        assert view.breaker(place) == "closed"


def test_3_trials_close_the_breaker_and_a_failed_one_opens_it_again(
    federation: Federation,
) -> None:
    # Its rest is over before a client can ask again.
    quick = federation.router("quick", retry={"attempts_per_target": 1}, breaker={"open_s": 0.001})
    for _ in range(5):
        assert quick.send("llama-70b", **BROKEN).status == 500
    seen = [quick.breaker(US_EAST)]
    for fault in ({}, BROKEN, {}, {}, {}):
        quick.send("llama-70b", **fault)
        seen.append(quick.breaker(US_EAST))
    assert seen == ["open", "half_open", "open", "half_open", "half_open", "closed"]
