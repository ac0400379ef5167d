"""The words a mock engine says: the same for the same model and prompt, streamed or not. Pure."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from zlib import crc32

_FILLER = """
the quick engine answers every request with care and counts its tokens while the router waits
a queue drains slowly behind warm caches under one lease no stream is lost today
"""
_WORDS = tuple(_FILLER.split())

#: How much of the last message, and of the first of a conversation, is said back.
ECHO_WORDS_MAX = 6
REMEMBERED_TOKENS_MAX = 256

#: As token ids: a prompt's bytes from here on, and an answer's tokens by their place in it.
BYTE_IDS = 256
ANSWER_IDS = 100_000
_SPEAKER = re.compile(r"[^\s:]+:")


def tokens(name: str | None, model: str, heard: Sequence[str], count: int) -> Iterator[str]:
    """`count` tokens that join to the answer's text: who speaks, what was heard, then filler.

    `heard` is what the user said, oldest first.
    """
    if count <= REMEMBERED_TOKENS_MAX:
        return iter(_remembered(name, model, tuple(heard), count))
    return islice(_endless(name, model, heard), count)


@lru_cache(maxsize=256)
def _remembered(
    name: str | None, model: str, heard: tuple[str, ...], count: int
) -> tuple[str, ...]:
    """As a benchmark's upstream it says the same thing thousands of times a second."""
    return tuple(islice(_endless(name, model, heard), count))


def _endless(name: str | None, model: str, heard: Sequence[str]) -> Iterator[str]:
    yield f"{name}:" if name else "mock:"
    yield f" turn {len(heard)}."
    if heard:
        for word in heard[-1].split(None, ECHO_WORDS_MAX)[:ECHO_WORDS_MAX]:
            yield " " + word
    if len(heard) > 1:
        yield " Earlier:"
        for word in heard[0].split(None, ECHO_WORDS_MAX)[:ECHO_WORDS_MAX]:
            yield " " + word
    state = _seed(model, "\0".join(heard))
    while True:
        state = _step(state)
        yield " " + _WORDS[(state >> 8) % len(_WORDS)]


def said_tokens(name: str | None, model: str, heard: Sequence[str], said: str) -> int:
    """How many tokens of the answer `said` holds, whoever of several engines began it."""
    count = 0
    for token in _endless(name, model, heard):
        speaker = None if count else _SPEAKER.match(said)
        if speaker is not None:
            said = said[speaker.end() :]
        elif said and said.startswith(token):
            said = said[len(token) :]
        else:
            break
        count += 1
    return count


def prompt_ids(text: str) -> list[int]:
    return [BYTE_IDS + byte for byte in text.encode("utf-8", "replace")]


def of_prompt_ids(ids: Sequence[int]) -> str:
    """The text again; of ids that are none of `prompt_ids`, their numbers."""
    if all(BYTE_IDS <= one < 2 * BYTE_IDS for one in ids):
        return bytes(one - BYTE_IDS for one in ids).decode("utf-8", "replace")
    return " ".join(map(str, ids))


def token_count(text: str) -> int:
    """What `usage` calls this text's tokens: its words, at least one."""
    return max(1, len(text.split()))


def embedding(model: str, text: str, dim: int) -> list[float]:
    """`dim` numbers within -1..1 that depend on model and text alone."""
    state = _seed(model, text)
    numbers: list[float] = []
    for _ in range(dim):
        state = _step(state)
        numbers.append(round((state >> 8) / 0x3FFFFF - 1.0, 6))
    return numbers


def _seed(model: str, text: str) -> int:
    return crc32(f"{model}\0{text}".encode("utf-8", "replace"))


def _step(state: int) -> int:
    """A linear congruential generator's next number: small, and the same on every machine."""
    return (state * 1103515245 + 12345) & 0x7FFFFFFF
