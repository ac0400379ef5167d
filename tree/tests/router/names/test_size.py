"""What a model's name says of its size, and the bounds of rules."""

import pytest

from router.names.size import billions, bounds


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("qwen3-8b", 8),
        ("Llama-3.3-70B", 70),
        ("mixtral-8x7b", 56),
        ("mixtral-8x22b-v0.1", 176),
        ("Qwen/Qwen3-0.6B", 0.6),
        ("qwen2.5-coder:7b-instruct-q4_K_M", 7),
        ("Qwen3-30B-A3B-Instruct", 30),
        ("phi_14b", 14),
        ("8b", 8),
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", 405),
        ("gpt-4o", None),
        ("model-8bit", None),
        ("bitnet-b1.58", None),
        ("v2.8b", None),
        ("", None),
    ],
)
def test_billions(name: str, size: float | None) -> None:
    assert billions(name) == size


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("<8B", [0.6, 7.9], [8, 70]),
        (">13B", [13.1, 70], [8, 13]),
        ("8B-13B", [8, 10, 13], [7.9, 13.1]),
        (" 0.5b - 1.5b ", [0.5, 1.5], [0.4, 1.6]),
    ],
)
def test_bounds(text: str, inside: list[float], outside: list[float]) -> None:
    found = bounds(text)
    assert all(map(found.hold, inside))
    assert not any(map(found.hold, outside))


@pytest.mark.parametrize("text", ["", "8B", "<8", "8-13", "13B-8B", "<=8B", "<8B,>13B"])
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        bounds(text)
