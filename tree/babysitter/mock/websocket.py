"""A WebSocket that says back what it hears (RFC 6455). Pure: bytes in, bytes out."""

from base64 import b64encode
from hashlib import sha1

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE, _PING, _PONG = 8, 9, 10
#: One frame's payload. Longer ones are answered by close code 1009 (too big).
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024


def accept_key(key: str) -> bytes:
    """What proves to a client that its handshake was read (RFC 6455, 4.2.2)."""
    return b64encode(sha1((key + _GUID).encode(), usedforsecurity=False).digest())


def frame(first_byte: int, payload: bytes) -> bytes:
    """An unmasked frame, as servers send them."""
    size = len(payload)
    if size < 126:
        head = bytes((first_byte, size))
    elif size < 65536:
        head = bytes((first_byte, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first_byte, 127)) + size.to_bytes(8, "big")
    return head + payload


class Echo:
    """Data frames come back as they are, fragments too; pings get pongs, close gets close."""

    def __init__(self) -> None:
        self.closed = False
        self._buffer = b""

    def feed(self, data: bytes) -> bytes:
        """What to send back for `data`. After a close frame nothing more is read."""
        self._buffer += data
        answer = b""
        while not self.closed:
            found = self._next_frame()
            if found is None:
                break
            answer += self._answer(*found)
        return answer

    def _answer(self, first_byte: int, payload: bytes) -> bytes:
        opcode = first_byte & 0x0F
        if opcode == _CLOSE:
            self.closed = True
            return frame(first_byte, payload)
        if opcode == _PING:
            return frame(0x80 | _PONG, payload)
        if opcode == _PONG:
            return b""
        return frame(first_byte, payload)

    def _next_frame(self) -> tuple[int, bytes] | None:
        """The first byte and the unmasked payload of a whole frame, if there is one."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:start], "big")
        if size > PAYLOAD_BYTES_MAX:
            self._buffer = b""
            return 0x80 | _CLOSE, (1009).to_bytes(2, "big")
        masked = buffer[1] & 0x80
        end = start + (4 if masked else 0) + size
        if len(buffer) < end:
            return None
        self._buffer = buffer[end:]
        payload = buffer[end - size : end]
        return buffer[0], _unmask(payload, buffer[start : start + 4]) if masked else payload


def _unmask(payload: bytes, key: bytes) -> bytes:
    if not payload:
        return payload
    stretched = (key * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")
    return mixed.to_bytes(len(payload), "big")
