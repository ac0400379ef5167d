"""The WebSocket echo, on bytes alone."""

import os

from hypothesis import given
from hypothesis import strategies as st

from babysitter.mock.websocket import PAYLOAD_BYTES_MAX, Echo, accept_key, frame

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


def masked(first_byte: int, payload: bytes) -> bytes:
    """A frame as clients send it."""
    key = os.urandom(4)
    plain = frame(first_byte, payload)
    head = plain[: len(plain) - len(payload)]
    mixed = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return head[:1] + bytes((head[1] | 0x80,)) + head[2:] + key + mixed


def test_the_handshake_is_proved_as_in_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.binary(max_size=70_000), st.integers(1, 5000))
def test_any_payload_comes_back_however_it_was_split(payload: bytes, step: int) -> None:
    echo = Echo()
    raw = masked(BINARY, payload)
    answer = b"".join(echo.feed(raw[i : i + step]) for i in range(0, len(raw), step))
    assert answer == frame(BINARY, payload)


def test_a_ping_gets_a_pong_and_a_pong_nothing() -> None:
    echo = Echo()
    assert echo.feed(masked(PING, b"x") + masked(PONG, b"y")) == frame(PONG, b"x")


def test_a_close_is_answered_and_ends_it() -> None:
    echo = Echo()
    assert echo.feed(masked(CLOSE, b"\x03\xe8") + masked(TEXT, b"late")) == frame(
        CLOSE, b"\x03\xe8"
    )
    assert echo.closed


def test_a_frame_beyond_the_limit_is_refused_by_its_head_alone() -> None:
    head = bytes((BINARY, 0x80 | 127)) + (PAYLOAD_BYTES_MAX + 1).to_bytes(8, "big")
    echo = Echo()
    assert echo.feed(head + b"abcd") == frame(CLOSE, (1009).to_bytes(2, "big"))
    assert echo.closed
