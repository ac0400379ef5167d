"""Clients' keys on real processes: who is let in, for what, and how soon not any more."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Answer, Fleet, ask, chat, mock
from tests.support.fleet import answer_of as answer
from tests.support.processes import ROOT
from tests.support.until import until_sync

pytestmark = pytest.mark.real

TOKEN = "cluster-token-of-the-keys-tests"
CHAT = "/v1/chat/completions"


class Guarded:
    """A fleet whose router wants keys."""

    def __init__(self, fleet: Fleet, token_file: Path) -> None:
        self.fleet = fleet
        self.token_file = token_file
        self.texts: list[str] = []

    def creche(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CRECHE_")}
        return subprocess.run(
            [sys.executable, "-m", "ctl", "--url", self.fleet.url, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            env={
                **kept,
                "XDG_CONFIG_HOME": "/nonexistent",
                "CRECHE_TOKEN_FILE": str(self.token_file),
                **environ,
            },
        )

    def key(self, name: str, **more: Any) -> str:
        status, made = ask(self.fleet.url + "/admin/keys", {"name": name, **more}, bearer(TOKEN))
        assert status == 201, made
        text: str = made["text"]
        self.texts.append(text)
        return text

    def post(self, key: str | None, body: object, path: str = CHAT, **headers: str) -> Answer:
        return answer(self.fleet.url + path, body, {**bearer(key), **headers})


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("keys")
    token_file = folder / "cluster.token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    with Fleet(folder) as fleet:
        guarded = Guarded(fleet, token_file)
        fleet.registry(token_file=str(token_file))
        fleet.babysitter("sitter", [mock("one", "m", "other")], token_file=str(token_file))
        fleet.router(
            token_file=str(token_file),
            client_keys="required",
            tenants={"lab": {"limits": {"rpm": 3}}},
        )
        fleet.parts["router"].process.ready_sync(fleet.url + "/ready")
        operator = bearer(TOKEN)
        until_sync(lambda: "one@test" in str(ask(fleet.url + "/services", headers=operator)[1]))
        yield guarded
        for process in fleet.processes.all:
            for secret in (*guarded.texts, TOKEN):
                assert secret not in process.log, f"{process.name} wrote a secret down"


def test_a_stranger_is_told_how_to_send_a_key(guarded: Guarded) -> None:
    refused = guarded.post(None, chat("m"))
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.body["error"]["code"] == "invalid_api_key"
    assert guarded.post("sk-creche-wrong", chat("m")).body["error"]["message"] == (
        "Incorrect API key provided"
    )


def test_a_stranger_sends_no_body(guarded: Guarded) -> None:
    with socket.create_connection(("127.0.0.1", guarded.fleet.parts["router"].port)) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n"
            b"Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n"
        )
        assert raw.recv(65_536).startswith(b"HTTP/1.1 401 ")


def test_a_key_opens_the_models_and_no_more(guarded: Guarded) -> None:
    key = guarded.key("ana")
    assert guarded.post(key, chat("m")).status == 200
    assert ask(guarded.fleet.url + "/v1/models", headers=bearer(key))[0] == 200
    for path in ("/stats", "/services", "/metrics", "/admin/keys", "/explain?model=m"):
        assert ask(guarded.fleet.url + path, headers=bearer(key))[0] == 403
    deleted = answer(guarded.fleet.url + "/api/delete", headers=bearer(key), method="DELETE")
    assert (deleted.status, deleted.body["error"]["code"]) == (403, "insufficient_scope")
    assert (
        "x-creche-explain" not in guarded.post(key, chat("m"), **{"x-creche-explain": "1"}).headers
    )


def test_readers_read_and_admins_order(guarded: Guarded) -> None:
    reader, admin = guarded.key("scraper", scope="read"), guarded.key("op", scope="admin")
    url = guarded.fleet.url
    assert ask(url + "/metrics", headers=bearer(reader))[0] == 200
    assert ask(url + "/admin/keys", headers=bearer(reader))[0] == 403
    assert ask(url + "/admin/keys", headers=bearer(admin))[0] == 200
    assert "x-creche-explain" in guarded.post(admin, chat("m"), **{"x-creche-explain": "1"}).headers


def test_health_is_open_and_what_tells_of_models_is_not(guarded: Guarded) -> None:
    url = guarded.fleet.url
    assert [ask(url + path)[0] for path in ("/health", "/status", "/ready")] == [200, 200, 200]
    assert [ask(url + path)[0] for path in ("/models", "/v1/models", "/v1/models/m")] == [401] * 3
    assert [ask(url + path)[0] for path in ("/stats", "/services", "/metrics")] == [401] * 3


def test_a_key_for_certain_models_sees_and_gets_these_alone(guarded: Guarded) -> None:
    key = guarded.key("narrow", models=["oth*"])
    listed = ask(guarded.fleet.url + "/v1/models", headers=bearer(key))[1]["data"]
    assert [one["id"] for one in listed] == ["other"]
    assert ask(guarded.fleet.url + "/v1/models/m", headers=bearer(key))[0] == 404
    assert guarded.post(key, chat("other")).status == 200
    refused = guarded.post(key, chat("m"))
    assert (refused.status, refused.body["error"]["code"]) == (403, "model_not_allowed")
    assert refused.headers["x-should-retry"] == "false"
    nameless: dict[str, Any] = {"messages": []}
    assert guarded.post(key, nameless).body["error"]["code"] == "model_required"


def test_a_keys_limit_is_its_own_and_a_tenants_is_shared(guarded: Guarded) -> None:
    one, other = guarded.key("lim-1", limits={"rpm": 2}), guarded.key("lim-2")
    assert [guarded.post(one, chat("m")).status for _ in range(3)] == [200, 200, 429]
    assert guarded.post(other, chat("m")).status == 200
    first, second = guarded.key("lab-1", tenant="lab"), guarded.key("lab-2", tenant="lab")
    answers = [guarded.post(key, chat("m")) for key in (first, second, first, second)]
    assert [one.status for one in answers] == [200, 200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
    assert "tenant 'lab'" in answers[3].body["error"]["message"]
    assert int(answers[3].headers["retry-after"]) <= 20


def test_a_revoked_key_is_refused_at_once_on_the_connection_it_used(
    guarded: Guarded,
) -> None:
    key = guarded.key("gone")
    port = guarded.fleet.parts["router"].port

    def status(wire: HTTPConnection) -> int:
        body = json.dumps(chat("m"))
        wire.request("POST", CHAT, body, {"content-type": "application/json", **bearer(key)})
        found = wire.getresponse()
        found.read()
        return found.status

    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as wire:
        assert [status(wire), status(wire)] == [200, 200]
        url = guarded.fleet.url + "/admin/keys/gone"
        assert answer(url, headers=bearer(TOKEN), method="DELETE").status == 200
        assert status(wire) == 401


def test_the_operators_words_for_keys(guarded: Guarded) -> None:
    made = guarded.creche(
        "key", "create", "bob", "--rpm", "600", "--models", "m", "--expires", "30d"
    )
    lines = made.stdout.splitlines()
    assert lines[0].startswith("✓ bob   scope use   models m   600 requests/min   until 20")
    guarded.texts.append(lines[1].strip())
    assert lines[2].startswith("    shown this once")
    again = guarded.creche("key", "create", "bob")
    assert (again.returncode, again.stderr.splitlines()[0]) == (
        1,
        "✗ a key named 'bob' holds already",
    )
    listed = guarded.creche("key", "list").stdout
    row = next(line for line in listed.splitlines() if " bob " in line)
    assert "600 requests/min" in row
    assert lines[1].strip() not in listed
    assert guarded.creche("key", "revoke", "bob").returncode == 0
    assert " bob " not in guarded.creche("key", "list").stdout
    assert "revoked" in guarded.creche("key", "list", "--all").stdout
    gone = guarded.creche("key", "revoke", "bob")
    assert gone.returncode == 1
    assert "no key named 'bob' holds" in gone.stderr
    log = guarded.creche("key", "log").stdout
    assert "DELETE /admin/keys/bob" in log
    assert "the cluster token" in log


def test_keys_outlive_the_router(guarded: Guarded) -> None:
    key = guarded.key("lasting")
    router = guarded.fleet.parts["router"]
    router.kill9()
    router.start()
    until_sync(lambda: guarded.post(key, chat("m")).status == 200)


def test_creche_chat_sends_a_key_and_says_so_where_it_is_wanted(guarded: Guarded) -> None:
    refused = guarded.creche("chat", "--model", "m", "hello")
    assert refused.returncode == 1
    assert "No API key was given" in refused.stderr
    assert "CRECHE_KEY" in refused.stderr
    told = guarded.creche("chat", "--model", "m", "hello", CRECHE_KEY=guarded.key("talker"))
    assert told.returncode == 0, told.stderr
