"""Secrets do not get through; ordinary texts do, unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.redact import HIDDEN, Secrets, hide_shapes

KEY = "s3cr3t-V4lue/0123="


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {KEY}",
        f"authorization: bearer {KEY}",
        f"b'Authorization: Bearer {KEY}\\r\\n'",
        f"{{'Authorization': 'Bearer {KEY}'}}",
        f'{{"authorization": "Basic {KEY}"}}',
        f"Authorization: {KEY}",
        f"x-api-key: {KEY}",
        f'"api_key": "{KEY}"',
        f"api-key={KEY}",
        f"Cookie: {KEY}",
        f"http://user:{KEY.replace('/', '')}@host/x",
        f"redis://:{KEY.replace('/', '')}@10.0.0.5:6379/0",
        f"OPENAI_API_KEY={KEY}",
        f"HF_TOKEN={KEY}",
        f"--token={KEY}",
        f"password: {KEY}",
        f"?access_token={KEY}&x=1",
        "sk-proj-abcdefghijklmnop",
        "['--api-key', 'sk-abcdefghijklmnop']",
    ],
)
def test_what_looks_like_a_credential_is_hidden(text: str) -> None:
    hidden = hide_shapes(text)
    assert HIDDEN in hidden
    assert KEY not in hidden and KEY.replace("/", "") not in hidden
    assert "abcdefghijklmnop" not in hidden


@pytest.mark.parametrize(
    "text",
    [
        "",
        "service qwen3-32b@gpu-07 lapsed",
        "tokens_in=812 tokens_out=240 max_tokens: 4096",
        "http://10.0.0.5:6379/0",
        "2026-11-21T09:14:03.221Z",
        'token_file = "/etc/creche/cluster.token"',
        "the bearer of this key",
        "task-12345678 risk-management",
        "prompt_cache_key",
    ],
)
def test_ordinary_texts_pass_unchanged(text: str) -> None:
    assert hide_shapes(text) == text


def test_added_values_are_hidden_wherever_they_stand() -> None:
    secrets = Secrets(["abcdefgh"])
    assert secrets.hide("xxabcdefghyy") == f"xx{HIDDEN}yy"


def test_a_secret_that_contains_another_is_hidden_whole() -> None:
    secrets = Secrets(["abcdefgh", "abcdefghij"])
    assert secrets.hide("abcdefghij") == HIDDEN


def test_short_values_are_ignored() -> None:
    assert Secrets(["the", None, ""]).hide("the cat") == "the cat"  # type: ignore[list-item]


@given(st.text(min_size=8), st.text(), st.text())
def test_no_added_secret_survives(secret: str, before: str, after: str) -> None:
    # What is left over may by chance spell it only out of our own mark.
    hidden = Secrets([secret]).hide(before + secret + after)
    assert secret not in hidden.replace(HIDDEN, "\x00") or secret in before + after
