"""What travels: open metadata is read key by key, model lists in either shape."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire.registry import Beat, Registration, Service, known_metadata, model_objects

_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
)


def test_one_bad_key_does_not_hide_the_others() -> None:
    found = known_metadata({"type": "openai-api", "models": 7, "cost": 0.5, "whatever": [1]})
    assert (found.type, found.models, found.cost) == ("openai-api", (), 0.5)


@given(st.dictionaries(st.sampled_from(["type", "models", "models_list", "gpu", "cost"]), _json))
def test_any_metadata_is_readable(table: dict[str, Any]) -> None:
    for item in model_objects(known_metadata(table)):
        assert item["id"] and isinstance(item["id"], str)


def test_models_list_comes_first_and_keeps_its_fields() -> None:
    found = known_metadata({"models": ["old"], "models_list": [{"id": "new", "max_model_len": 5}]})
    assert model_objects(found) == [
        {"id": "new", "max_model_len": 5, "object": "model", "owned_by": "creche"}
    ]
    assert [one["id"] for one in model_objects(known_metadata({"models": ["old", ""]}))] == ["old"]
    assert (
        model_objects(known_metadata({"models_list": [{"x": 1}], "models": ["a"]}))[0]["id"] == "a"
    )


def test_unknown_fields_of_newer_peers_are_ignored() -> None:
    body = b'{"name":"a","host":"h","port":1,"hostname":"h","url":"u","status":"running","new":[1]}'
    assert msgspec.json.decode(body, type=Registration).weight is None
    full = body.replace(b'"new"', b'"timestamp":"t","last_heartbeat":"t","new"')
    assert msgspec.json.decode(full, type=Service).is_healthy


@pytest.mark.parametrize("body", [b"{}", b'{"status":"odd-word"}', b'{"load":{"in_flight":1}}'])
def test_a_beat_says_only_what_it_holds(body: bytes) -> None:
    assert msgspec.json.encode(msgspec.json.decode(body, type=Beat)) == body.replace(
        b":1}", b":1.0}"
    )
