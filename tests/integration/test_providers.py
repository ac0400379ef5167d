"""Providers behind a real router process: a cloud over TLS with a key, an Ollama, an Anthropic."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_provider import Authority, FakeProvider, fake_provider
from tests.support.fleet import Fleet, ask, chat, toml
from tests.support.processes import Processes
from tests.support.until import until_sync

pytestmark = pytest.mark.real

KEY = "sk-live-7f3a91c04be2d586"
CHAT = "/v1/chat/completions"


def key_file(folder: Path, key: str = KEY, name: str = "cloud.key") -> Path:
    path = folder / name
    path.write_text(key + "\n")
    path.chmod(0o600)
    return path


def serving(fleet: Fleet, *providers: FakeProvider, **config: Any) -> str:
    """A router with these as providers "cloud", "cloud-1", …; its url."""
    tables = config.pop("providers", {})
    for number, one in enumerate(providers):
        name = f"cloud-{number}" if number else "cloud"
        table = one.table()
        if one.key is not None:
            table["api_key_file"] = str(key_file(fleet.folder, one.key, f"{name}.key"))
        tables[name] = {**table, **tables.get(name, {})}
    return fleet.router(registries=[], providers=tables, **config).url


def test_a_cloud_answers_over_tls_and_its_key_is_shown_nowhere(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with fake_provider(key=KEY, authority=authority) as cloud, Fleet(tmp_path) as fleet:
        url = serving(fleet, cloud)
        status, answer = ask(url + CHAT, chat("gpt-a"), {"authorization": "Bearer mine"})
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "hello there")
        status, events = ask(url + CHAT, chat("gpt-a", stream=True))
        assert status == 200
        assert events.endswith("data: [DONE]\n\n")
        cloud.fail(status=500, times=6)
        assert ask(url + CHAT, chat("gpt-a"))[0] >= 500
        cloud.mend()
        assert {one.headers["authorization"] for one in cloud.seen} == {f"Bearer {KEY}"}
        assert fleet.models() == ["gpt-a"]
        shown = [str(ask(url + path)[1]) for path in CONTROL_PATHS]
        assert "gpt-a" in "".join(shown)
        router = fleet.parts["router"]
        router.stop()
        for text in (*shown, router.process.log, _written(tmp_path / "state")):
            assert KEY not in text


CONTROL_PATHS = (
    "/health",
    "/services?type=any",
    "/stats",
    "/metrics",
    "/v1/models",
    "/v1/models/gpt-a",
    "/explain?model=gpt-a",
)


def _written(folder: Path) -> str:
    """All that the router keeps: snapshot, versions."""
    files = [one for one in folder.rglob("*") if one.is_file()]
    return "".join(one.read_text(errors="replace") for one in files)


def test_a_wrong_certificate_is_refused_and_the_log_says_so(tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    with (
        fake_provider(key=KEY, authority=Authority(tmp_path)) as cloud,
        Fleet(tmp_path) as fleet,
    ):
        url = serving(fleet, cloud, providers={"cloud": {"ca_file": str(other.ca_file)}})
        status, answer = ask(url + CHAT, chat("gpt-a"))
        assert status == 502
        assert answer["error"]["message"] == "'cloud' could not be reached"
        log = fleet.parts["router"].process
        until_sync(lambda: "its certificate is not trusted" in log.log, what="the log says why")
        line = until_sync(lambda: _request_line(log.log), what="the request's line")
        assert line is not None and line["outcome"] == "unreachable"
        assert not cloud.seen


def _request_line(log: str) -> dict[str, Any] | None:
    """Of the only request; None: it is not there whole."""
    lines = [one for one in log.splitlines(keepends=True) if '"event":"request"' in one]
    if not lines or not lines[-1].endswith("\n"):
        return None
    [line] = lines
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_key_that_the_provider_refuses_is_the_providers_401(tmp_path: Path) -> None:
    with fake_provider(key=KEY) as cloud, Fleet(tmp_path) as fleet:
        wrong = key_file(tmp_path, "sk-live-not-the-right-one", "wrong.key")
        table = {**cloud.table(), "api_key_file": str(wrong)}
        url = fleet.router(registries=[], providers={"cloud": table}).url
        for _ in range(5):
            status, answer = ask(url + CHAT, chat("gpt-a"))
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert len(cloud.seen) == 5, "where there is no other it passes, and is not asked twice"
        status, answer = ask(url + CHAT, chat("gpt-a"))
        assert (status, answer["error"]["code"]) == (503, "no_healthy_services")
        services = fleet.parts["router"].get("/services")["services"]
        assert [(one["error_count"], one["breaker"]) for one in services] == [(5, "open")]


def test_an_alias_is_rewritten_in_json_and_in_a_form(tmp_path: Path) -> None:
    with fake_provider(key=KEY, models=["gpt-a"]) as cloud, Fleet(tmp_path) as fleet:
        models = {"code": {"backend_model": "gpt-a"}, "hear": {"targets": {"gpt-a": 1}}}
        url = serving(fleet, cloud, models=models)
        body = b'{ "messages": [], "x": {"model": "code"}, "model" : "code" }'
        assert ask(url + CHAT, body)[0] == 200
        assert cloud.seen[-1].body == body.replace(b'"model" : "code"', b'"model" : "gpt-a"')
        form = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff'
            b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nhear\r\n--b--\r\n'
        )
        kind = {"content-type": "multipart/form-data; boundary=b"}
        assert ask(url + "/v1/audio/transcriptions", form, kind)[0] == 200
        assert cloud.seen[-1].body == form.replace(b"\r\nhear\r\n", b"\r\ngpt-a\r\n")


def test_a_pattern_asks_a_provider_for_what_it_does_not_list(tmp_path: Path) -> None:
    with fake_provider(key=KEY, models=["gpt-a"]) as cloud, Fleet(tmp_path) as fleet:
        pattern = {"match": "openai/(.+)", "provider": "cloud", "rewrite": r"\1"}
        url = serving(fleet, cloud, patterns=[pattern])
        assert ask(url + CHAT, chat("openai/gpt-z"))[0] == 200
        assert cloud.seen[-1].json["model"] == "gpt-z"


def test_ollamas_and_anthropics_own_routes_pass(tmp_path: Path) -> None:
    with (
        fake_provider("ollama", models=["llama3"]) as ollama,
        fake_provider("anthropic", key=KEY, models=["opus"], authority=Authority(tmp_path)) as opus,
        Fleet(tmp_path) as fleet,
    ):
        private = {"cloud-1": {"capabilities": ["generate"], "priority": 1}}
        url = serving(fleet, ollama, opus, strategy="priority", providers=private)
        status, tags = ask(url + "/api/tags")
        assert status == 200
        assert set(tags["models"][0]) == {"name", "digest"}
        assert ask(url + "/api/chat", chat("llama3"))[0] == 200
        version = {"anthropic-version": "2023-06-01"}
        status, answer = ask(url + "/v1/messages", chat("opus"), version)
        assert (status, answer["type"]) == (200, "message")
        assert opus.seen[-1].headers["x-api-key"] == KEY
        assert [one.target for one in ollama.seen] == ["/api/tags", "/api/chat"]


@pytest.mark.parametrize("status", ["disabled", "pending_integration", "template"])
def test_a_provider_that_is_not_active_is_not_there(status: str, tmp_path: Path) -> None:
    with fake_provider(models=["gpt-a"]) as cloud, Fleet(tmp_path) as fleet:
        away = {"away": {**cloud.table(), "status": status, "api_key_env": "NOT_SET_ANYWHERE"}}
        url = serving(fleet, cloud, providers=away)
        assert [one["name"] for one in ask(url + "/services?type=any")[1]["services"]] == ["cloud"]


def test_a_missing_key_refuses_the_start_and_names_the_fix(
    tmp_path: Path, processes: Processes
) -> None:
    config = tmp_path / "router.toml"
    table = {"type": "openai", "base_url": "https://127.0.0.1:1/v1", "models": ["m"]}
    table["api_key_env"] = "CLOUD_KEY_NOT_SET"
    config.write_text(
        toml({"listen": "127.0.0.1:0", "registries": [], "providers": {"cloud": table}})
    )
    process = processes.python("-m", "router", "--config", config, name="router")
    assert process.wait() == 1
    assert f"{config}: [providers.cloud] api_key_env: CLOUD_KEY_NOT_SET is not set" in process.log
    assert "\n  Set it where the router is started" in process.log


def test_a_reload_reads_the_key_anew_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    with fake_provider(key=KEY) as cloud, Fleet(tmp_path) as fleet:
        url = serving(fleet, cloud)
        router = fleet.parts["router"].process
        file = tmp_path / "cloud.key"
        assert ask(url + CHAT, chat("gpt-a"))[0] == 200

        file.write_text("")
        _hang_up(fleet)
        assert f"{file} is empty" in router.log
        assert ask(url + CHAT, chat("gpt-a"))[0] == 200

        cloud.key = "sk-live-the-next-one-0a1b"
        file.write_text(cloud.key)
        _hang_up(fleet)
        assert ask(url + CHAT, chat("gpt-a"))[0] == 200
        assert cloud.key not in router.log


def _hang_up(fleet: Fleet) -> None:
    """SIGHUP, and wait until it was obeyed."""
    before = _reloads(fleet)
    fleet.parts["router"].process.signal(signal.SIGHUP)
    until_sync(lambda: _reloads(fleet) > before, what="the reload is done")


def _reloads(fleet: Fleet) -> float:
    """Reloads that went one way or the other."""
    lines = fleet.parts["router"].get("/metrics").splitlines()
    counts = [line for line in lines if line.startswith("creche_config_reloads_total")]
    return sum(float(line.split()[1]) for line in counts)
