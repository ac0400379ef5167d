"""What is let in, and the sentence for what is not."""

import json
from typing import Any

import pytest
from msgspec import UNSET

from common.wire.registry import Beat
from registry import admission
from registry.admission import Fault

GOOD: dict[str, Any] = {
    "name": "a@h",
    "host": "10.0.0.1",
    "port": 8100,
    "hostname": "h",
    "url": "http://10.0.0.1:8100",
    "status": "running",
}


def post(**more: Any) -> Any:
    return admission.registration(json.dumps({**GOOD, **more}).encode(), 1000)


def test_the_older_clients_registration_is_let_in() -> None:
    got = post(timestamp="2024-01-01T00:00:00", metadata={"type": "openai-api", "babysitter": "x"})
    assert (got.weight, got.instance_id, got.lease_s) == (1.0, None, None)
    assert post(metadata=None).metadata == {}


@pytest.mark.parametrize("field", list(GOOD))
def test_each_required_field_is_named_when_it_is_missing(field: str) -> None:
    body = {key: value for key, value in GOOD.items() if key != field}
    with pytest.raises(Fault, match=f"^Missing required field: {field}$"):
        admission.registration(json.dumps(body).encode(), 1000)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "[::]", "*", "0", "0x0", "127.1"])
def test_a_host_that_leads_every_router_to_itself_is_refused(host: str) -> None:
    with pytest.raises(Fault, match="host"):
        post(host=host)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "", "may not be empty"),
        ("name", "a/b", "not '/'"),
        ("name", "x" * 129, "at most 128"),
        ("name", "..", "means a folder"),
        ("name", 5, "Expected `str`"),
        ("host", "a b", "neither a host name"),
        ("host", "http://x", "neither a host name"),
        ("port", 0, "between 1 and 65535"),
        ("port", 65536, "between 1 and 65535"),
        ("port", "8100", "Expected `int`"),
        ("hostname", "h" * 300, "256 at most"),
        ("url", "ftp://x", "http"),
        ("url", "10.0.0.1:8100", "no URL"),
        ("url", "http://", "names no host"),
        ("url", "http://0.0.0.0:1", "leads every router to itself"),
        ("url", "http://u:p@h", "password"),
        ("url", "http://h/\n", "control character"),
        ("url", "http://h/" + "x" * 3000, "2048 at most"),
        ("status", "", "printable"),
        ("status", "x" * 65, "printable"),
        ("weight", 0, "above 0"),
        ("weight", -1, "above 0"),
        ("lease_s", 0, "positive"),
        ("instance_id", "", "printable"),
        ("instance_id", "x" * 129, "printable"),
        ("metadata", {"x": "y" * 1000}, "metadata_bytes_max"),
        ("metadata", [1], "Expected `object`"),
    ],
)
def test_a_bad_field_is_refused_with_a_sentence(field: str, value: Any, says: str) -> None:
    with pytest.raises(Fault) as caught:
        post(**{field: value})
    assert says in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 5000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Fault):
        admission.registration(body, 1000)


def nested(levels: int) -> Any:
    """A list in a list, `levels` deep."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_what_nests_so_deep_that_readers_would_break_is_refused() -> None:
    assert post(metadata={"x": nested(31), "y": [1]}).metadata["x"]
    deep = {"x": nested(32)}
    models = [{"id": "m", "x": nested(31)}]
    for refused in (
        lambda: post(metadata=deep),
        lambda: post(metadata={"x": {"y": nested(900)}}),
        lambda: admission.update("a", json.dumps({"metadata": deep}).encode(), None, 1000),
        lambda: admission.beat(json.dumps({"models_list": models}).encode(), 1000),
    ):
        with pytest.raises(Fault, match="32 levels at most"):
            refused()


def test_the_outer_weight_wins_over_the_one_in_metadata() -> None:
    assert post(metadata={"weight": 2}).weight == 2.0
    assert post(metadata={"weight": 2}, weight=3).weight == 3.0
    for unusable in (0, -1, "2", None, True, 1e300):
        assert post(metadata={"weight": unusable}).weight == 1.0


def test_a_put_may_hold_any_of_the_fields() -> None:
    got = admission.update("a", b'{"status": "draining"}', None, 1000)
    assert got.status == "draining"
    assert got.host is UNSET
    assert got.weight is UNSET
    assert admission.update("a", b'{"metadata": {"weight": 4}}', None, 1000).weight == 4.0
    assert admission.update("a", b'{"metadata": null}', None, 1000).metadata == {}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"name": "b"}', "can't be changed"),
        (b'{"host": "0.0.0.0"}', "leads every router"),
        (b'{"url": "x"}', "no URL"),
        (b'{"port": -1}', "between"),
        (b'{"weight": 0}', "above 0"),
        (b"no", "Invalid JSON"),
    ],
)
def test_a_put_is_checked_as_a_post_is(body: bytes, says: str) -> None:
    with pytest.raises(Fault, match=says):
        admission.update("a", body, None, 1000)


def test_a_beat_may_be_empty() -> None:
    for body in (b"", b"  ", b"{}", b'{"status": null, "models_list": null, "load": null}'):
        assert admission.beat(body, 1000) == Beat()
    assert admission.beat(b'{"load": {"in_flight": 2}}', 1000).load == {"in_flight": 2.0}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"status": ""}',
        b'{"models_list": [1]}',
        b'{"load": {"x": "y"}}',
        json.dumps({"load": {str(n): n for n in range(17)}}).encode(),
        json.dumps({"models_list": [{"id": "x" * 2000}]}).encode(),
    ],
)
def test_a_bad_beat_is_refused(body: bytes) -> None:
    with pytest.raises(Fault):
        admission.beat(body, 1000)


def test_a_delete_names_its_life_in_the_query_or_the_body() -> None:
    assert admission.removal(b"", None) is None
    assert admission.removal(b"", "x") == "x"
    assert admission.removal(b'{"instance_id": "y"}', None) == "y"
    assert admission.removal(b"{}", "x") == "x"
    with pytest.raises(Fault):
        admission.removal(b"", "")
