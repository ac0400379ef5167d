"""What a request's body says about where it should go. Pure: bytes in, an Envelope out.

msgspec silently takes the last of two keys, and other parsers the first: a body that could be read
in two ways must not be routed by one reading and billed by another. So a body with a second
`"model"` text, or with an escape that could spell one, goes through a slow, strict scan, and two
top-level ones get 400. A body that is not JSON, or names no model, is routed without one.
"""

import json
from typing import Any
from urllib.parse import parse_qsl

from msgspec import DecodeError, Raw, Struct, ValidationError
from msgspec.json import Decoder
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from router import edit, prompt
from router.edit import ESCAPED_LETTER, MODEL_KEY, Edit, Place
from router.errors import RequestError, invalid
from router.prompt import NO_PROMPT, Prompt
from router.route import Route

#: A longer name is nobody's, and would be copied into every log line and message.
MODEL_LENGTH_MAX = 256
#: Keys only steer: a longer one is cut.
AFFINITY_LENGTH_MAX = 512

#: Bodies above this are read off the loop: what may be asked of them is worked out there too.
MEASURED_ABOVE = 1 << 20
#: What is kept of such a prompt's beginning: the default of `prefix.block_bytes`, 256 times.
PREFIX_KEPT_BYTES = 128 * 1024


class Contents:
    """What a request's body holds beside its model. Nothing of it changes once it is made."""

    def __init__(
        self,
        *,
        text_bytes: int = 0,
        prompt: Prompt = NO_PROMPT,
        prefix: bytes = b"",
        place: Place | None = None,
        names_otherwise: bool = False,
    ) -> None:
        self.names_otherwise = names_otherwise
        self.text_bytes = text_bytes
        self.prompt = prompt
        self.prefix = prefix
        #: Where the model's name stands.
        self.place = place


_NOTHING = Contents()


class _Lazy:
    """A small JSON body: each question is answered when it is first asked."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._counted: tuple[int, Prompt] | None = None
        self._prefix: tuple[int, bytes] = (0, b"")
        self._place: Place | None = None
        self._placed = False

    def counted(self) -> tuple[int, Prompt]:
        if self._counted is None:
            self._counted = prompt.count(prompt.read(self.body))
        return self._counted

    def prefix(self, limit_bytes: int) -> bytes:
        limit, found = self._prefix
        if limit < limit_bytes:
            found = prompt.prefix(prompt.read(self.body), limit_bytes)
            self._prefix = limit_bytes, found
        return found[:limit_bytes]

    def place(self, named: bool) -> Place | None:
        if not self._placed:
            self._placed = True
            self._place = edit.in_json(self.body, named=named)
        return self._place


class Envelope:
    """`model` None: routed by capability alone. The methods cost nothing until they are called."""

    __slots__ = ("_contents", "affinity_key", "model", "stream", "user")

    def __init__(
        self,
        model: str | None = None,
        stream: bool = False,
        affinity_key: str | None = None,
        user: str | None = None,
        text: bytes | Contents = _NOTHING,
    ) -> None:
        """`text` is a JSON body, to be looked into when asked, or what is known of another."""
        self.model = model
        self.stream = stream
        self.affinity_key = affinity_key
        self.user = user
        self._contents: bytes | Contents | _Lazy = text

    def text_bytes(self) -> int:
        """UTF-8 bytes of message or prompt text."""
        known = self._known()
        return known.text_bytes if isinstance(known, Contents) else known.counted()[0]

    def prompt(self) -> Prompt:
        """How much is said."""
        known = self._known()
        return known.prompt if isinstance(known, Contents) else known.counted()[1]

    def prefix(self, limit_bytes: int) -> bytes:
        """How the prompt begins, as the engine will see it: at most `limit_bytes`, and of a body
        that was read off the loop at most PREFIX_KEPT_BYTES. Equal for equal beginnings only."""
        known = self._known()
        if isinstance(known, Contents):
            return known.prefix[:limit_bytes]
        return known.prefix(limit_bytes)

    def body(self) -> bytes | None:
        """The body itself, where it is JSON and was small enough to be read at once."""
        known = self._contents
        if isinstance(known, Contents):
            return None
        return known if isinstance(known, bytes) else known.body

    def names_otherwise(self) -> bool:
        """Its JSON has a key that servers which compare them without case take for `model`."""
        known = self._contents
        if isinstance(known, Contents):
            return known.names_otherwise
        return _names_otherwise(known if isinstance(known, bytes) else known.body)

    def edit(self, name: str) -> Edit | None:
        """What makes the request name `name`, every other byte kept. None: it names no model."""
        known = self._known()
        place = known.place if isinstance(known, Contents) else known.place(self.model is not None)
        return None if place is None else place.edit(name)

    def _known(self) -> Contents | _Lazy:
        known = self._contents
        if isinstance(known, bytes):
            known = self._contents = _Lazy(known)
        return known


EMPTY = Envelope()


class _Fields(Struct):
    model: Any = None
    stream: Any = None
    prompt_cache_key: Any = None
    user: Any = None


_decode = Decoder(_Fields).decode


def read_json(body: bytes, *, measure: bool = False) -> Envelope:
    """Raises RequestError (400) for two models, a model that is no string, and endless nesting.

    `measure` looks into it now and keeps nothing of it: for large bodies, read off the loop.
    """
    if (body.count(MODEL_KEY) > 1 or body.find(ESCAPED_LETTER) >= 0) and not _names_one_model(body):
        return EMPTY
    try:
        fields = _decode(body)
    except ValidationError:
        return EMPTY  # JSON, but no object
    except (DecodeError, UnicodeDecodeError):
        return EMPTY
    except RecursionError:
        raise _too_deep() from None
    model = fields.model
    if type(model) is not str or not model or len(model) > MODEL_LENGTH_MAX:
        model = None if model is None else _checked(model)
    key = fields.prompt_cache_key
    user = fields.user
    if key is None and user is None and not measure:
        return Envelope(model, fields.stream is True, None, None, body)
    return Envelope(
        model,
        fields.stream is True,
        key[:AFFINITY_LENGTH_MAX] if isinstance(key, str) and key else None,
        user[:AFFINITY_LENGTH_MAX] if isinstance(user, str) and user else None,
        _measured(body, model is not None) if measure else body,
    )


def _measured(body: bytes, named: bool) -> Contents:
    said = prompt.read(body)
    text_bytes, counted = prompt.count(said)
    return Contents(
        text_bytes=text_bytes,
        prompt=counted,
        prefix=prompt.prefix(said, PREFIX_KEPT_BYTES),
        place=edit.in_json(body, named=named),
        names_otherwise=_names_otherwise(body),
    )


_keys_of = Decoder(dict[str, Raw]).decode


def _names_otherwise(body: bytes) -> bool:
    try:
        keys = _keys_of(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return True
    return any(key != "model" and key.casefold() == "model" for key in keys)


def _checked(model: object) -> str | None:
    if not isinstance(model, str):
        raise RequestError(invalid("'model' must be a string", param="model"))
    if len(model) > MODEL_LENGTH_MAX:
        text = f"'model' has {len(model)} characters; at most {MODEL_LENGTH_MAX} are read"
        raise RequestError(invalid(text, param="model"))
    return model or None


def _too_deep() -> RequestError:
    return RequestError(invalid("the body is nested too deeply"))


def _names_one_model(body: bytes) -> bool:
    """False for what is not JSON: msgspec takes some of it, where it skips what is not asked for.

    The hook is called for inner objects first, so its last call saw the outermost one.
    """
    keys: list[str] = []

    def see(pairs: list[tuple[str, Any]]) -> None:
        keys[:] = [key for key, _ in pairs]

    try:
        outermost_is_object = body.lstrip(b" \t\r\n").startswith(b"{")
        # Numbers stay texts: Python refuses to read those of many digits, and others don't.
        json.loads(body.decode(), object_pairs_hook=see, parse_int=str, parse_float=str)
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        return False
    if outermost_is_object and keys.count("model") > 1:
        raise RequestError(invalid("the body names 'model' twice", param="model"))
    return True


def text_bytes(body: bytes) -> int:
    """UTF-8 bytes of the text in `messages`, `prompt` or `input`. 0 where there is none."""
    return prompt.count(prompt.read(body))[0]


def read_query(query: str) -> Envelope:
    """`model` of a WebSocket route's query (without its `?`). Raises RequestError for two."""
    try:
        fields = parse_qsl(query, max_num_fields=100)
    except ValueError:
        return EMPTY
    models = [value for key, value in fields if key == "model"]
    if len(models) > 1:
        raise RequestError(invalid("the query names 'model' twice", param="model"))
    if not models:
        return EMPTY
    return Envelope(_checked(models[0]), text=Contents(place=edit.in_query(query)))


def multipart_boundary(content_type: str) -> bytes | None:
    """The boundary of a `multipart/form-data` content type; None for anything else."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    return boundary if kind == b"multipart/form-data" and boundary else None


#: A form with more parts, or a longer part head, is passed on unread.
_PARTS_MAX = 1_000
_PART_HEAD_BYTES_MAX = 8_192


_M = ("m", "M")


def read(route: Route, content_type: str, body: bytes, path: str) -> Envelope:
    """A POST's body by its content type; for routes that take no body, the query of `path`.

    Meant for POST bodies and for upgrades: any other GET has no model and is not read at all.
    Raises RequestError.
    """
    if not route.takes_model:
        return read_query(path.partition("?")[2])
    if content_type[:1] in _M and content_type[:10].lower() == "multipart/":
        boundary = multipart_boundary(content_type)
        return EMPTY if boundary is None else read_form(body, boundary)
    return read_json(body, measure=len(body) > MEASURED_ABOVE)


class FormReader:
    """Finds the fields `model` and `stream` in a multipart body that arrives in pieces.

    `model` may come after the file. Nothing of a file is kept. A body that is no form, or goes
    over a limit, names no model.
    """

    def __init__(self, boundary: bytes) -> None:
        self._values: dict[str, list[bytearray]] = {"model": [], "stream": []}
        self._parts = 0
        self._head_bytes = 0
        self._field = b""
        self._head = b""
        self._value: bytearray | None = None
        self._broken = False
        #: What is being read, and how much was before it.
        self._chunk = b""
        self._before = 0
        #: The value of `model`, where it begins, and its length.
        self._model: bytearray | None = None
        self._start = -1
        self._length = 0
        try:
            self._parser: MultipartParser | None = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                },
            )
        except FormParserError:
            self._parser = None

    def feed(self, data: bytes) -> None:
        if self._parser is None or self._broken:
            return
        self._chunk = data
        try:
            self._parser.write(data)
        except (FormParserError, ValueError):
            self._broken = True
        self._before += len(data)
        self._chunk = b""

    def finish(self) -> Envelope:
        """Raises RequestError (400) for two `model` fields or one that is too long."""
        if self._parser is None or self._broken:
            return EMPTY
        models = self._values["model"]
        if len(models) > 1:
            raise RequestError(invalid("the form names 'model' twice", param="model"))
        stream = any(bytes(value).strip().lower() == b"true" for value in self._values["stream"])
        if not models:
            return Envelope(None, stream)
        try:
            model = models[0].decode()
        except UnicodeDecodeError:
            raise RequestError(invalid("'model' is not UTF-8", param="model")) from None
        place = None
        if self._length:
            place = Place(self._start, self._start + self._length, edit.as_form)
        return Envelope(_checked(model), stream, text=Contents(place=place))

    def _on_part_begin(self) -> None:
        self._parts += 1
        self._head_bytes = 0
        self._field = self._head = b""
        self._value = None
        if self._parts > _PARTS_MAX:
            raise ValueError("too many parts")

    def _grew(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > _PART_HEAD_BYTES_MAX:
            raise ValueError("a part's head is too long")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._grew(end - start)
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._grew(end - start)
        self._head += data[start:end]

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(self._head)
            name = options.get(b"name", b"").decode("latin-1")
            values = self._values.get(name)
            if values is not None and options.get(b"filename") is None:
                if len(values) > 1:
                    raise ValueError("too many values")
                self._value = bytearray()
                values.append(self._value)
                if name == "model":
                    self._model = self._value
        self._field = self._head = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        value = self._value
        if value is None:
            return
        if value is self._model:
            if not self._length:
                # What looked like a boundary comes late, from the parser's own copy of one.
                late = data is not self._chunk
                self._start = self._before + (start - end if late else start)
            self._length += end - start
        # One byte over the limit is kept, so that `finish` can say that it is too long.
        if len(value) <= 4 * MODEL_LENGTH_MAX:
            value += data[start : min(end, start + 4 * MODEL_LENGTH_MAX + 1)]

    def _on_part_end(self) -> None:
        self._value = None


def read_form(body: bytes, boundary: bytes) -> Envelope:
    """`FormReader` over a body that is there whole."""
    reader = FormReader(boundary)
    reader.feed(body)
    return reader.finish()
