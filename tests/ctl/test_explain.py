"""`creche explain`: where a request would go, as the router says it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ctl import explain
from tests.ctl.standin import StandIn, creche

Capture = pytest.CaptureFixture[str]


def candidate(name: str, state: str, why: str) -> dict[str, Any]:
    return {"name": name, "state": state, "why": why, "parts": None, "score": None, "tier": "well"}


CODE: dict[str, Any] = {
    "model": "code",
    "resolution": {
        "how": "exact",
        "why": "code is virtual → qwen3-coder (weight 9 of 10)",
        "place": "router.toml:21",
        "targets": ["qwen3-coder", "llama-3.3-70b"],
        "fallbacks": ["gpt-4o-mini"],
    },
    "needs": {"privacy": "internal", "region": "us-west", "gpu": None, "max_latency_ms": 800.0},
    "targets": [
        {
            "model": "qwen3-coder",
            "provider": None,
            "fallback": False,
            "strategy": "prefix",
            "candidates": [
                candidate("gpu-02", "chosen", "11 of 14 blocks cached   3 in flight"),
                candidate("gpu-03", "candidate", " 2 of 14 blocks cached   1 in flight"),
                candidate("gpu-05", "refused", "breaker open, trial in 12 s"),
            ],
        },
        {
            "model": "gpt-4o-mini",
            "provider": "openai",
            "fallback": True,
            "strategy": "score",
            "candidates": [
                {
                    **candidate("openai", "later", ""),
                    "score": 0.934,
                    "parts": {"health": 2.0, "latency": 0.991},
                }
            ],
        },
        {"model": "llama-3.3-70b", "candidates": []},
    ],
    "chosen": "gpu-02",
    "error": None,
}


def test_what_the_cache_would_do_is_told_where_the_router_says_it() -> None:
    said = explain.lines(explain.convert({**CODE, "cache": "not kept: temperature is not 0"}))
    assert said[4] == "  cache     not kept: temperature is not 0"


def test_it_reads_as_a_story_of_one_request() -> None:
    assert explain.lines(explain.convert(CODE)) == [
        "code → gpu-02   nothing was sent",
        "",
        "  resolve   code is virtual → qwen3-coder (weight 9 of 10)   router.toml:21",
        "  needs     privacy internal, region us-west, max_latency_ms 800",
        "  choose    qwen3-coder, by prefix:",
        "              gpu-02   11 of 14 blocks cached   3 in flight   ◀ chosen",
        "              gpu-03    2 of 14 blocks cached   1 in flight",
        "              gpu-05   refused: breaker open, trial in 12 s",
        "  fallback  gpt-4o-mini at openai:",
        "              openai   scores 0.934: health 2, latency 0.99",
        "  then      llama-3.3-70b: nobody has it",
    ]


async def test_it_asks_as_the_client_would(router: StandIn, capsys: Capture) -> None:
    router.answers["/explain"] = (200, CODE)
    words = ("--model", "code", "--stream", "--header", "X-Creche-Region: us-west")
    ran = await creche(capsys, "explain", *words, url=router.url)
    assert ran.code == 0
    method, path, headers, _ = router.asked[0]
    assert (method, path) == ("GET", "/explain?path=/v1/chat/completions&model=code&stream=1")
    assert headers["x-creche-region"] == "us-west"


async def test_a_body_goes_as_it_is(router: StandIn, tmp_path: Path, capsys: Capture) -> None:
    router.answers["/explain"] = (200, CODE)
    body = b'{"model": "code",  "input": ["a", "b"]}'
    (tmp_path / "body.json").write_bytes(body)
    words = ("--body", str(tmp_path / "body.json"), "--path", "/v1/embeddings")
    ran = await creche(capsys, "explain", *words, "--json", url=router.url)
    assert ran.json == CODE
    method, path, headers, sent = router.asked[0]
    assert (method, path, sent) == ("POST", "/explain?path=/v1/embeddings", body)
    assert headers["content-type"] == "application/json"


async def test_where_nobody_would_serve_it_the_status_is_1(
    router: StandIn, capsys: Capture
) -> None:
    nobody: dict[str, Any] = {
        "model": "gpt-9",
        "resolution": {"how": "none", "why": "nothing knows gpt-9"},
        "targets": [],
        "chosen": None,
        "error": "No healthy services available for model 'gpt-9'",
    }
    router.answers["/explain"] = (200, nobody)
    ran = await creche(capsys, "explain", "--model", "gpt-9", url=router.url)
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "gpt-9 → nobody   nothing was sent",
        "",
        "  resolve   nothing knows gpt-9",
        "",
        "✗ No healthy services available for model 'gpt-9'",
    ]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "a model is wanted"),
        (("01JD8Z7Q",), "requests of the past cannot be explained by their id"),
        (("--model", "m", "--header", "nonsense"), "--header 'nonsense' is no header"),
        (("--model", "m", "--header", "a: b\r\nc: d"), "--header 'a: b"),
        (("--model", "m", "--header", "Authorization: Bearer x"), "--header Authorization cannot"),
        (("--model", "m", "--body", "x"), "a body says its model"),
        (("--body", "/not/there"), "cannot read /not/there"),
    ],
)
async def test_what_cannot_be_asked_is_wrong_usage(
    words: tuple[str, ...], what: str, capsys: Capture
) -> None:
    ran = await creche(capsys, "explain", *words)
    assert ran.code == 64
    assert ran.end is not None and ran.end.what.startswith(what)


async def test_an_older_router_or_another_port_is_told(router: StandIn, capsys: Capture) -> None:
    ran = await creche(capsys, "explain", "--model", "m", url=router.url)
    assert ran.code == 1
    assert ran.end is not None and ran.end.what == f"{router.url} does not explain"
    router.answers["/explain"] = (200, {"unknown": json.dumps("shape")})
    ran = await creche(capsys, "explain", "--model", "m", url=router.url)
    assert ran.end is not None and ran.end.what == "the router explains in another shape"
