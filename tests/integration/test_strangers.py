"""What somebody without the token tries on real daemons, and that nothing comes of it.

Every daemon has a token_file. A stranger may see health and readiness, and the models where
client_keys = "none"; they neither register nor read, stop nothing, and lead no daemon to a URL: a
trap listens, and nobody ever connects to it.
"""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, ask, chat, mock
from tests.support.until import until_sync

pytestmark = pytest.mark.real

TOKEN = "stranger-test-token-0123456789abcdef"
#: Who is asked, for what, and how. TRAP stands for the trap's address.
REGISTER = {
    "name": "evil", "host": "127.0.0.1", "port": 1, "hostname": "evil", "url": "http://TRAP",
    "status": "running", "metadata": {"type": "openai-api", "models": ["evil"],
                                      "babysitter_url": "http://TRAP"},
}  # fmt: skip
REGISTRY = [
    ("GET", "/services"), ("HEAD", "/services"), ("GET", "/services?healthy=true"),
    ("GET", "/services/one@test"), ("GET", "/services/one@test/health"), ("GET", "/stats"),
    ("GET", "/metrics"), ("GET", "/watch"), ("POST", "/services"), ("PUT", "/services/one@test"),
    ("DELETE", "/services/one@test"), ("POST", "/services/one@test/heartbeat"),
    ("POST", "/services/one@test/drain"), ("POST", "/services/one@test/undrain"),
]  # fmt: skip
BABYSITTER = [
    ("GET", "/info"), ("GET", "/models"), ("GET", "/metrics"), ("GET", "/engines"),
    ("GET", "/engines/one"), ("GET", "/engines/one/log"), ("GET", "/engines/one/log?follow=1"),
    ("POST", "/engines/one/stop"), ("POST", "/engines/one/kill"), ("POST", "/engines/one/restart"),
    ("POST", "/engines/one/start"), ("POST", "/reload"),
]  # fmt: skip
ROUTER = [
    ("GET", "/services"), ("GET", "/services?type=any"), ("GET", "/stats"), ("GET", "/metrics"),
    ("GET", "/explain?model=m"), ("POST", "/explain"), ("GET", "/admin/config"),
    ("POST", "/admin/reload"), ("POST", "/admin/rollback"), ("GET", "/admin/keys"),
    ("POST", "/admin/keys"), ("DELETE", "/admin/keys/x"),
]  # fmt: skip
#: What is sent instead of the token.
PRETENCES = {
    "nothing": b"",
    "a wrong token": b"Authorization: Bearer wrong-token-0123456789abcdef\r\n",
    "an empty token": b"Authorization: Bearer \r\n",
    "half the token": b"Authorization: Bearer " + TOKEN[:12].encode() + b"\r\n",
    "basic": b"Authorization: Basic " + TOKEN.encode() + b"\r\n",
    "the token elsewhere": b"X-Api-Key: " + TOKEN.encode() + b"\r\nCookie: token=" + TOKEN.encode()
    + b"\r\n",
    "a local address": b"X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n",
    "another path": b"X-Original-URL: /health\r\nX-Rewrite-URL: /health\r\n",
    "another method": b"X-HTTP-Method-Override: GET\r\n",
}  # fmt: skip
#: Other spellings of a guarded path: answered with no more than a refusal.
SPELLINGS = (
    "/health/../{}", "/health/%2e%2e/{}", "/health%2f..%2f{}", "//{}", "/./{}", "/{}/", "/{}%00",
    "/health;/../{}", "/ready?/../{}", "/%2f{}", "/health/..%5c{}", "/{}?token=TOKEN",
    "http://localhost/{}", "http://TRAP/{}", "http://localhost@TRAP/{}",
)  # fmt: skip


class Trap:
    """Whoever connects has been led here."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.caught = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            self.caught += 1
            one.close()


class Guarded:
    def __init__(self, fleet: Fleet, trap: Trap) -> None:
        self.fleet = fleet
        self.trap = trap

    def say(self, part: str, method: str, target: str, more: bytes = b"") -> tuple[int, bytes]:
        """Status of the answer to exactly this, and all of it; 0 for none."""
        target = target.replace("TRAP", self.trap.address).replace("TOKEN", TOKEN)
        body = json.dumps(REGISTER).replace("TRAP", self.trap.address).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
        if method in ("POST", "PUT"):
            head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        else:
            body = b""
        port = self.fleet.parts[part].port
        with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
            raw.sendall(head + more + b"\r\n" + body)
            answer = b""
            while piece := raw.recv(65_536):
                answer += piece
        return int(answer.split(b" ", 2)[1]) if answer else 0, answer

    def knows(self, path: str, part: str = "registry") -> object:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        return ask(self.fleet.parts[part].url + path, headers=bearer)[1]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("strangers")
    token = folder / "cluster.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    trap = Trap()
    with Fleet(folder) as fleet:
        guarded = Guarded(fleet, trap)
        fleet.registry(token_file=str(token))
        fleet.babysitter("sitter", [mock("one", "m")], token_file=str(token))
        fleet.router(token_file=str(token), client_keys="none")
        until_sync(lambda: "one@test" in str(guarded.knows("/services", "router")))
        until_sync(lambda: "'sitter'" in str(guarded.knows("/services")), what="its own record")
        yield guarded
    trap.listener.close()


ASKED = [
    *(("registry", *one) for one in REGISTRY),
    *(("sitter", *one) for one in BABYSITTER),
    *(("router", *one) for one in ROUTER),
]


@pytest.mark.parametrize(("part", "method", "path"), ASKED)
def test_whatever_a_stranger_says_instead_of_the_token(
    guarded: Guarded, part: str, method: str, path: str
) -> None:
    for name, pretence in PRETENCES.items():
        status, said = guarded.say(part, method, path, pretence)
        assert status == 401, name
        assert b"one@test" not in said and b"mock" not in said, name


@pytest.mark.parametrize("part", ["registry", "sitter", "router"])
@pytest.mark.parametrize("path", ["services", "engines", "metrics", "admin/config"])
def test_no_other_spelling_of_a_path_goes_round_the_token(
    guarded: Guarded, part: str, path: str
) -> None:
    """What is none of its own paths the router relays: it is the engine that answers then."""
    for spelling in SPELLINGS:
        for method in ("GET", "POST"):
            status, said = guarded.say(part, method, spelling.format(path))
            if part == "router" and b"\r\nx-creche-service: " in said:
                continue
            if not spelling.startswith("/ready?"):
                assert status in (400, 401, 403, 404, 405, 421), (method, spelling, status)
            assert b"one@test" not in said and b"creche_" not in said, (method, spelling)


@pytest.mark.parametrize("part", ["registry", "sitter", "router"])
def test_no_daemon_is_a_proxy(guarded: Guarded, part: str) -> None:
    for method, target in (("GET", "http://TRAP/x"), ("CONNECT", "TRAP"), ("POST", "http://TRAP/")):
        assert guarded.say(part, method, target)[0] >= 400
    guarded.say(part, "GET", "/x", b"X-Forwarded-Host: TRAP\r\nX-Upstream: http://TRAP\r\n")
    assert guarded.trap.caught == 0


def test_a_stranger_may_use_the_models_and_learns_no_more(guarded: Guarded) -> None:
    url = guarded.fleet.url
    assert ask(f"{url}/v1/chat/completions", chat("m"))[0] == 200
    explain = b"x-creche-explain: 1\r\n"
    _, said = guarded.say("router", "GET", "/v1/models", explain)
    assert b"x-creche-explain" not in said


def test_a_web_page_of_another_origin_has_nothing_done(guarded: Guarded) -> None:
    """Even with the token, should a browser have it."""
    page = b"Origin: http://evil.test\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    for part, path in (
        ("registry", "/services"),
        ("sitter", "/engines/one/stop"),
        ("router", "/admin/reload"),
    ):
        assert guarded.say(part, "POST", path, page)[0] == 403
        _, said = guarded.say(part, "OPTIONS", path, b"Origin: http://evil.test\r\n")
        assert b"access-control" not in said.lower()


def test_a_compressed_body_is_not_opened(guarded: Guarded) -> None:
    mine = b"Content-Encoding: gzip\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    assert guarded.say("registry", "POST", "/services", mine)[0] in (400, 415)


def test_after_all_of_it_the_fleet_is_as_it_was(guarded: Guarded) -> None:
    services = guarded.knows("/services")
    assert isinstance(services, dict)
    assert sorted(one["name"] for one in services["services"]) == ["one@test", "sitter"]
    engine = guarded.knows("/engines/one", "sitter")
    assert isinstance(engine, dict)
    assert (engine["state"], engine["restarts"]) == ("READY", 0)
    assert not any(one["draining"] for one in services["services"])
    assert guarded.trap.caught == 0


def test_the_token_opens_what_was_refused(guarded: Guarded) -> None:
    mine = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
    for part, method, path in ASKED:
        if method == "GET" and "follow" not in path and path != "/watch":
            assert guarded.say(part, method, path, mine)[0] == 200, path
