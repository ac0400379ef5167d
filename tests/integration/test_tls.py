"""A fleet that speaks TLS on every port of its own, and shows certificates to each other."""

import http.client
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.fleet import Fleet, Part, chat, mock
from tests.support.processes import ROOT
from tests.support.until import until_sync

pytestmark = pytest.mark.real


class Secured:
    """`router` shows a certificate and asks for none; registry and babysitter ask for one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self.fleet = Fleet(folder)
        mutual = {"ca_file": str(self.ca_file), "client_ca_file": str(self.ca_file)}
        registry = self.fleet.registry(start=False, tls={**self.issue("registry"), **mutual})
        registry.start(ready=None)
        address = f"https://127.0.0.1:{registry.port}"
        self.fleet.babysitter(
            "sitter",
            [mock("one", "m")],
            start=False,
            registries=[address],
            tls={**self.issue("babysitter"), **mutual},
        ).start(ready=None)
        self.router = self.fleet.router(
            start=False,
            registries=[address],
            tls={**self.issue("router"), "ca_file": str(self.ca_file)},
        ).start(ready=None)

    def issue(self, name: str) -> dict[str, str]:
        """A new certificate in the files of `name`."""
        issued = self.ca.issue_cert("127.0.0.1", "localhost")
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        return {"cert_file": str(cert), "key_file": str(key)}

    def connect(self, part: Part, *, cert: str | None = None) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if cert is not None:
            context.load_cert_chain(self.folder / f"{cert}.pem", self.folder / f"{cert}.key")
        return http.client.HTTPSConnection("127.0.0.1", part.port, timeout=20, context=context)

    def get(self, part: Part, path: str, *, cert: str | None = None) -> Any:
        wire = self.connect(part, cert=cert)
        try:
            wire.request("GET", path)
            return json.loads(wire.getresponse().read())
        finally:
            wire.close()

    def creche(self, *arguments: str, **config: str) -> "subprocess.CompletedProcess[str]":
        home = self.folder / "home" / "creche"
        home.mkdir(parents=True, exist_ok=True)
        lines = [f"{name} = {json.dumps(value)}" for name, value in config.items()]
        (home / "creche.toml").write_text("\n".join(lines))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CRECHE_")}
        return subprocess.run(
            [
                *(sys.executable, "-m", "ctl", "--url", f"https://127.0.0.1:{self.router.port}"),
                *arguments,
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            env={**kept, "XDG_CONFIG_HOME": str(self.folder / "home")},
        )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("tls"))
    try:
        until_sync(lambda: _serves(made), 30, "the router lists the engine's model")
        yield made
    finally:
        made.fleet.processes.close()


def _serves(made: Secured) -> bool:
    try:
        return [one["id"] for one in made.get(made.router, "/v1/models")["data"]] == ["m"]
    except OSError:
        return False


def test_a_chat_and_a_stream_over_tls_on_one_connection(secured: Secured) -> None:
    wire = secured.connect(secured.router)
    for stream in (False, True, False):
        body = json.dumps(chat("m", stream=stream))
        wire.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        answer = wire.getresponse()
        read = answer.read()
        assert answer.status == 200
        assert (b"data: [DONE]" in read) is stream
    wire.close()


def test_plain_http_is_not_spoken_there(secured: Secured) -> None:
    wire = http.client.HTTPConnection("127.0.0.1", secured.router.port, timeout=20)
    try:
        with pytest.raises((http.client.HTTPException, OSError)):
            wire.request("GET", "/health")
            wire.getresponse()
    finally:
        wire.close()


def test_who_shows_no_certificate_is_not_let_in_where_one_is_wanted(secured: Secured) -> None:
    registry = secured.fleet.parts["registry"]
    with pytest.raises((ssl.SSLError, http.client.HTTPException, OSError)):
        secured.get(registry, "/health")
    assert secured.get(registry, "/health", cert="router")["status"] == "healthy"
    other = trustme.CA().issue_cert("127.0.0.1")
    other.cert_chain_pems[0].write_to_path(str(secured.folder / "stranger.pem"))
    other.private_key_pem.write_to_path(str(secured.folder / "stranger.key"))
    with pytest.raises((ssl.SSLError, http.client.HTTPException, OSError)):
        secured.get(registry, "/health", cert="stranger")


def test_a_renewed_certificate_is_shown_without_a_restart(secured: Secured) -> None:
    def serial() -> str:
        wire = secured.connect(secured.router)
        try:
            wire.connect()
            shown = wire.sock.getpeercert() or {}
        finally:
            wire.close()
        return str(shown["serialNumber"])

    before = serial()
    kept = secured.connect(secured.router)
    kept.connect()
    secured.issue("router")
    until_sync(lambda: serial() != before, 30, "the new certificate is shown")
    kept.request("POST", "/v1/chat/completions", json.dumps(chat("m")), {"x": "y"})
    assert kept.getresponse().status == 200, "a connection of before goes on"
    kept.close()


def test_the_operators_command_believes_what_it_is_told_to(secured: Secured) -> None:
    ours = {"ca_file": str(secured.ca_file)}
    shown = {
        "cert_file": str(secured.folder / "router.pem"),
        "cert_key_file": str(secured.folder / "router.key"),
    }
    well = secured.creche("engines", **ours, **shown)
    assert well.returncode == 0, well.stderr
    assert "one@test" in well.stdout
    assert secured.creche("logs", "one", **ours, **shown).returncode == 0
    wary = secured.creche("engines")
    assert wary.returncode == 2
    assert "certificate" in wary.stderr
