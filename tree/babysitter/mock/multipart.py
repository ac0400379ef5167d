"""The fields of a multipart form body. Pure."""

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header


def form_fields(content_type: str, body: bytes) -> dict[str, str | bytes]:
    """Field name to its text, or to its bytes if it is a file. A broken form gives what it had."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    fields: dict[str, str | bytes] = {}
    if not boundary:
        return fields
    header = [b"", b""]
    part: dict[str, bytes] = {}
    data: list[bytes] = []

    def on_part_begin() -> None:
        part.clear()
        data.clear()

    def on_header_field(chunk: bytes, start: int, end: int) -> None:
        header[0] += chunk[start:end]

    def on_header_value(chunk: bytes, start: int, end: int) -> None:
        header[1] += chunk[start:end]

    def on_header_end() -> None:
        part[header[0].decode("latin-1").lower()] = header[1]
        header[:] = [b"", b""]

    def on_part_data(chunk: bytes, start: int, end: int) -> None:
        data.append(chunk[start:end])

    def on_part_end() -> None:
        _, found = parse_options_header(part.get("content-disposition", b""))
        name = found.get(b"name", b"").decode("utf-8", "replace")
        content = b"".join(data)
        fields[name] = content if b"filename" in found else content.decode("utf-8", "replace")

    callbacks = {
        "on_part_begin": on_part_begin,
        "on_header_field": on_header_field,
        "on_header_value": on_header_value,
        "on_header_end": on_header_end,
        "on_part_data": on_part_data,
        "on_part_end": on_part_end,
    }
    try:
        parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError:
        pass
    return fields
