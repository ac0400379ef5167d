"""What a provider's table becomes: records, Nodes with keys, refusals."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from common import logs
from common.errors import RefusalError
from common.redact import SECRETS, redact
from router import lives
from router.nodes import Node
from router.providers import settle
from tests.router.making import service
from tests.router.providing import KEY, config, node_of
from tests.support.fake_provider import Authority

# --- records and nodes ----------------------------------------------------------------------------


def test_a_provider_is_a_service_of_the_table() -> None:
    found = settle(config(models=["a"], weight=2, region="eu"), {}).services["cloud"]
    assert (found.host, found.port, found.weight) == ("api.example.com", 443, 2)
    assert found.url == "https://api.example.com/v1"
    assert found.is_healthy
    assert found.metadata["models"] == ["a"]
    assert found.metadata["region"] == "eu"
    assert found.metadata["provider"] == "openai"


@pytest.mark.parametrize("status", ["disabled", "pending_integration", "template"])
def test_only_active_ones_are_in_the_table_and_want_their_key(status: str) -> None:
    assert settle(config(status=status, api_key_env="NOT_SET"), {}).services == {}


def test_a_node_has_its_own_numbers() -> None:
    numbers = {"breaker": {"failures": 7, "open_s": 9, "services": {"cloud": {"trials": 2}}}}
    table: dict[str, Any] = {"connect_s": 3, "breaker": {"failures": 4}}
    chosen = config(more=numbers, **table)
    found = node_of(chosen)
    assert found.connect_timeout_s == 3
    assert _numbers(found) == (4, 9, 2)
    engine = lives.engine(service("cloud"), chosen)
    assert _numbers(engine) == (7, 9, 2)
    assert engine.connect_timeout_s == chosen.timeouts.connect_s


def _numbers(found: Node) -> tuple[int, float, int]:
    breaker = found.breaker
    return breaker._failures, breaker._open_s, breaker._trials


def test_any_other_service_is_an_engine_without_a_key() -> None:
    chosen = config(api_key_env="K")
    found = settle(chosen, {"K": KEY})
    for other in (service("a@h"), service("cloud")):
        made = found.node(other, chosen)
        assert made.host == "127.0.0.1"
        assert made.key is None
        assert KEY.encode() not in made.head


def test_another_key_or_number_is_another_life() -> None:
    def life(key: str, **table: Any) -> str | None:
        found = settle(config(api_key_env="K", **table), {"K": key})
        return found.services["cloud"].instance_id

    assert life(KEY) == life(KEY)
    assert life(KEY) != life(KEY + "x")
    assert life(KEY) != life(KEY, connect_s=9)


# --- keys -----------------------------------------------------------------------------------------


def refusal(environ: dict[str, str] | None = None, **table: Any) -> str:
    with pytest.raises(RefusalError) as refused:
        settle(config(**table), environ or {}, "/etc/creche/router.toml")
    text = str(refused.value)
    assert text.startswith("/etc/creche/router.toml: [providers.cloud]")
    assert "\n  " in text, "a fix"
    return text


def test_a_missing_or_unusable_variable_is_refused() -> None:
    assert "[providers.cloud] api_key_env: CLOUD_KEY is not set" in refusal(api_key_env="CLOUD_KEY")
    assert "CLOUD_KEY is empty" in refusal({"CLOUD_KEY": " "}, api_key_env="CLOUD_KEY")
    text = refusal({"CLOUD_KEY": "two words-secret"}, api_key_env="CLOUD_KEY")
    assert "more than one word" in text
    assert "secret" not in text
    refusal({"CLOUD_KEY": "a\r\nx-evil: 1"}, api_key_env="CLOUD_KEY")


def test_a_key_in_the_place_of_its_variables_name_is_not_repeated() -> None:
    assert KEY not in refusal(api_key_env=KEY)


def test_a_missing_open_or_unusable_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert "cannot be read: No such file" in refusal(api_key_file=str(path))
    path.write_text("")
    path.chmod(0o600)
    assert "is empty" in refusal(api_key_file=str(path))
    path.write_text("one two-secret\n")
    assert "secret" not in refusal(api_key_file=str(path))
    path.write_text(KEY)
    path.chmod(0o644)
    text = refusal(api_key_file=str(path))
    assert f"chmod 600 {path}" in text
    assert KEY not in text
    assert "both set" in refusal(api_key_file=str(path), api_key_env="K")


def test_a_key_file_may_end_in_a_line_end(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    chosen = config(api_key_file=str(path))
    assert f"Authorization: Bearer {KEY}\r\n".encode() in node_of(chosen).head


def test_a_key_is_shown_nowhere() -> None:
    key = "sk-shown-nowhere-0123"
    chosen = config(api_key_env="K", models=["a"])
    found = settle(chosen, {"K": key})
    made = found.node(found.services["cloud"], chosen)
    one = found, found._settled["cloud"], found.services, made, made.key
    assert key not in repr(one)
    assert key not in repr(vars(found))
    assert key in SECRETS._values
    assert key not in redact(f"it was {key}")


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "cannot be read"), ("", "is empty"), ("no certificate", "holds no certificate")],
)
def test_certificates_that_cannot_be_read_are_refused(
    tmp_path: Path, content: str | None, why: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    text = refusal(ca_file=str(path))
    assert "[providers.cloud] ca_file" in text
    assert why in text


def test_a_url_or_name_that_cannot_be_used_is_refused() -> None:
    assert "base_url" in refusal(base_url="ftp://x")
    assert "hunter22" not in refusal(base_url="https://me:hunter22@x/v1")
    with pytest.raises(RefusalError):
        settle(config(name='"a b"'), {})


def test_a_key_over_an_open_network_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("router", form="json")
    settle(config(base_url="http://10.0.0.9:8000/v1", api_key_env="K"), {"K": KEY})
    said = capsys.readouterr()
    assert "in clear" in said.out + said.err
    settle(config(base_url="http://127.0.0.1:8000/v1", api_key_env="K"), {"K": KEY})
    said = capsys.readouterr()
    assert "in clear" not in said.out + said.err


def test_trust_in_a_private_authority_adds_to_the_systems(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    chosen = config(ca_file=str(authority.ca_file))
    context = node_of(chosen).tls
    assert context is not None
    count = context.cert_store_stats()["x509_ca"]
    assert count == ssl.create_default_context().cert_store_stats()["x509_ca"] + 1
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
