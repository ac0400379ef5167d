"""Multipart forms, as clients send files to be transcribed."""

BOUNDARY = "creche-form"


def form(file: bytes, **fields: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers: `file` first, then the fields, as OpenAI's SDKs order them."""
    parts = [_part('name="file"; filename="a.wav"', file)]
    parts += [_part(f'name="{name}"', value.encode()) for name, value in fields.items()]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return body, {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def _part(disposition: str, content: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"
