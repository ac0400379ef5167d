"""The rest of a chat or a completion that broke off, as another engine may give it. Pure.

    read(path, body) ─▶ Request ─▶ Resume ─ take(events) ─▶ events for the client
                                     └ cut ─▶ Rest(out, more): write `out`, and if there is more,
                                        │     ask another for it by `body`
                                        └──▶ None: it cannot be resumed, the client is told so

What was said so far goes back as the last message of the assistant, to be continued, or behind the
prompt. As text it is tokenized anew, so the rest may differ from what the first engine would have
said; as token ids, where the engine returns them, it is exact. Whatever the engine asked then
says reads as one answer with what came before: one id, one role, one usage, one [DONE].
"""

from typing import Any, Literal

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, Encoder

from router import events

Mode = Literal["text", "tokens"]

DONE = b"data: [DONE]\n\n"

_encode = Encoder().encode
_decode_fields = Decoder(dict[str, Raw]).decode
_decode_list = Decoder(list[Raw]).decode
_decode_any = Decoder().decode

#: What bounds an answer's tokens, and must be lowered by what was said.
_LIMITS = ("max_tokens", "max_completion_tokens", "n_predict", "min_tokens")
#: Where the engine keeps state over the whole answer, or tells of it what two answers cannot: any
#: value but null, false, 0 and empty ones.
_REFUSED = (
    "tools",
    "functions",
    "top_logprobs",
    "prompt_logprobs",
    "echo",
    "suffix",
    "audio",
    "use_beam_search",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "json_schema",
    "grammar",
    "regex",
    "ebnf",
)
#: What a delta may hold beside its text that text alone cannot continue.
_FOREIGN = ("reasoning_content", "reasoning", "tool_calls", "function_call", "refusal", "audio")
#: What makes chunks those of one answer.
_NAMES = ("id", "created", "model", "system_fingerprint")


class Request:
    """A request whose answer may be resumed. `chat`: else it is a completion."""

    __slots__ = ("chat", "fields", "keeps_ids", "limit", "owes_usage", "prompt_ids")

    def __init__(self, fields: dict[str, Raw], *, chat: bool) -> None:
        self.chat = chat
        self.fields = fields
        #: Most tokens that it asked for.
        self.limit: int | None = None
        #: It asked for the chunk with the usage.
        self.owes_usage = False
        #: The client asked for token ids itself: they stay in what it gets.
        self.keeps_ids = False
        #: Of a prompt that is given so.
        self.prompt_ids: list[int] | None = None


def read(path: str, body: bytes) -> Request | None:
    """None: the rest of its answer could be wrong, or there is no way to ask for it."""
    chat = path.endswith("/chat/completions")
    if not chat and not path.endswith("/completions"):
        return None
    try:
        fields = _decode_fields(body)
        values = {key: _decode_any(fields[key]) for key in _ASKED & fields.keys()}
        request = Request(fields, chat=chat)
        if values.get("stream") is not True or _refuses(values):
            return None
        may = _reads_messages(fields, values) if chat else _reads_prompt(request, values)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not may:
        return None
    limits = [values.get(key) for key in _LIMITS[:3]]
    request.limit = min((n for n in limits if type(n) is int and n >= 0), default=None)
    options = values.get("stream_options")
    request.owes_usage = isinstance(options, dict) and options.get("include_usage") is True
    request.keeps_ids = values.get("return_token_ids") is True
    return request


_ASKED = frozenset(_REFUSED) | frozenset(_LIMITS)
_ASKED |= {"stream", "stream_options", "n", "best_of", "logprobs", "response_format", "modalities"}
_ASKED |= {"continue_final_message", "prompt", "return_token_ids"}


def _refuses(values: dict[str, Any]) -> bool:
    shape = values.get("response_format")
    logprobs = values.get("logprobs")
    return (
        values.get("n") not in (None, 1)
        or values.get("best_of") not in (None, 1)
        or (logprobs is not None and logprobs is not False)
        or not (shape is None or (isinstance(shape, dict) and shape.get("type") == "text"))
        or values.get("modalities") not in (None, ["text"])
        or any(values.get(key) for key in _REFUSED)
    )


class _Message(Struct):
    role: Any = None
    content: Any = None


_decode_message = Decoder(_Message).decode


def _reads_messages(fields: dict[str, Raw], values: dict[str, Any]) -> bool:
    """An assistant's message at the end is continued only where the client asked for that."""
    messages = _decode_list(fields["messages"]) if "messages" in fields else []
    if not messages:
        return False
    last = _decode_message(messages[-1])
    continues = bool(values.get("continue_final_message"))
    if last.role != "assistant":
        return not continues
    return values.get("continue_final_message") is True and isinstance(last.content, str)


def _reads_prompt(request: Request, values: dict[str, Any]) -> bool:
    prompt = values.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, list) and prompt and all(type(one) is int for one in prompt):
        request.prompt_ids = prompt
        return True
    if isinstance(prompt, str):
        request.fields = {**request.fields, "prompt": Raw(_encode(prompt))}
        return True
    return False


def tells_ids(path: str) -> bool:
    """Whether token ids could be of use: a chat's prompt cannot be given so."""
    return path.endswith("/completions") and not path.endswith("/chat/completions")


def asking_ids(body: bytes) -> bytes | None:
    """The same request, to be answered with token ids. None: it asks for them, or is no JSON."""
    try:
        fields = _decode_fields(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if "return_token_ids" in fields:
        return None
    return _encode({**fields, "return_token_ids": True})


class Rest(Struct, frozen=True):
    """`out` goes to the client now. `more`: something is left to be said; else `out` ends it."""

    out: bytes
    more: bool


class _Choice(Struct):
    index: int = 0
    delta: dict[str, Any] | None = None
    text: str | None = None
    finish_reason: Any = None
    logprobs: Any = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


_decode_chunk = Decoder(_Chunk).decode


class Resume:
    """What a stream has said. One per request, over all engines that say parts of it.

    `bytes_max` bounds what is kept of the text; a longer answer cannot be resumed any more.
    """

    def __init__(self, request: Request, bytes_max: int) -> None:
        self._request = request
        self._bytes_max = bytes_max
        self._text: list[str] = []
        self._size = 0
        #: Prompt and answer as token ids, while the engines tell them. None: unknown.
        self._ids: list[int] | None = None if request.chat else []
        self._prompt_ids = request.prompt_ids
        #: Tokens said by the engines before, and by this one.
        self._before = 0
        self._count = 0
        self._prompt_tokens: int | None = None
        #: Of the first chunk: what the later ones say too.
        self._names: dict[str, Any] = {}
        self._kind = "chat.completion.chunk" if request.chat else "text_completion"
        #: Which engine's answer this is, from 1.
        self._life = 1
        self._role = False
        self._finished = False
        self._usage = False
        self._done = False
        #: Of what comes only the usage is wanted.
        self._muted = False
        self._told = False
        #: Something came that cannot be continued.
        self._lost = False
        #: The event by which the engine told that no more will come.
        self.error = b""

    @property
    def mode(self) -> Mode | None:
        """How the rest would be asked for. None: it could not be."""
        if self._lost:
            return None
        if self._prompt_ids is not None and self._ids is not None:
            return "tokens"
        return "text" if self._request.prompt_ids is None else None

    @property
    def ended(self) -> bool:
        """Whether an engine that says no more has said all it meant to, as far as can be told."""
        return self._done or self._finished or self._lost

    @property
    def _whole(self) -> bool:
        return self._done or (self._finished and (self._usage or not self._request.owes_usage))

    # --- what comes -------------------------------------------------------------------------------

    def take(self, whole: bytes) -> bytes:
        """Whole events of the engine that speaks now, as they go to the client.

        What follows an event that tells an error is dropped: `error` holds it.
        """
        out = []
        for event in events.each(whole):
            if self.error:
                break
            found = events.first_data(event)
            if found is None:
                out.append(event)
            else:
                out.append(self._event(event, *found))
        return b"".join(out)

    def _event(self, event: bytes, name: bytes, data: bytes) -> bytes:
        if self._done:
            return b"" if self._life > 1 else event
        if data.strip() == b"[DONE]":
            self._done = True
            return event
        if events.is_error(name, data):
            self.error = event
            return b""
        try:
            chunk = _decode_chunk(data)
        except (DecodeError, UnicodeDecodeError, RecursionError):
            self._lost = True
            return event
        self._note(chunk)
        if self._life == 1 and not self._strips(chunk):
            if not self._names:
                self._name(data)
            return event
        value = _decode_any(data)
        if self._life == 1:
            if not self._names:
                self._name(data)
            return _event(_without_ids(value))
        return self._spliced(value)

    def _name(self, data: bytes) -> None:
        value = _decode_any(data)
        if isinstance(value, dict):
            self._names = {key: value[key] for key in _NAMES if key in value}
            kind = value.get("object")
            if isinstance(kind, str):
                self._kind = kind

    def _strips(self, chunk: _Chunk) -> bool:
        """The router asked for token ids, the client did not."""
        if self._request.keeps_ids:
            return False
        return any(
            one.token_ids is not None or one.prompt_token_ids is not None
            for one in chunk.choices or ()
        )

    def _note(self, chunk: _Chunk) -> None:
        if not self._muted:
            for choice in chunk.choices or ():
                self._note_choice(choice)
        usage = chunk.usage
        if usage is None:
            return
        if self._life == 1:
            self._prompt_tokens = usage.prompt_tokens
        if usage.completion_tokens is not None and not self._muted:
            self._count = usage.completion_tokens
        if not chunk.choices or self._finished:
            self._usage = True

    def _note_choice(self, choice: _Choice) -> None:
        delta = choice.delta or {}
        text = delta.get("content") if self._request.chat else choice.text
        if choice.finish_reason is not None:
            self._finished = True
        if (
            choice.index
            or choice.logprobs
            or not (text is None or isinstance(text, str))
            or any(delta.get(key) for key in _FOREIGN)
        ):
            self._lost = True
            return
        if delta.get("role") and self._life == 1:
            self._role = True
        if choice.prompt_token_ids is not None and self._prompt_ids is None and self._life == 1:
            self._prompt_ids = choice.prompt_token_ids
        ids = choice.token_ids
        if ids is not None and self._ids is not None:
            self._ids += ids
        elif text:
            self._ids = None
        if text:
            self._text.append(text)
            self._count += 1 if ids is None else len(ids)
            self._size += len(text) + 8 * len(ids or ())
            self._lost = self._lost or self._size > self._bytes_max

    # --- the answer of another, made one with what came before -------------------------------

    def _spliced(self, value: Any) -> bytes:
        value.update(self._names)
        usage = value.get("usage")
        if isinstance(usage, dict):
            value["usage"] = self._summed(usage)
        if self._muted:
            if not self._usage or self._told:
                return b""
            self._told = True
            return _event({**value, "choices": []})
        if not self._request.keeps_ids:
            _without_ids(value)
        said = bool(usage) or not value.get("choices")
        for choice in value.get("choices") or ():
            choice.pop("prompt_token_ids", None)
            delta = choice.get("delta")
            if isinstance(delta, dict) and "role" in delta and self._role:
                del delta["role"]
                if not delta.get("content"):
                    delta.pop("content", None)
            said = said or bool(delta or choice.get("text") or choice.get("finish_reason"))
        if not self._role:
            self._role = True
        return _event(value) if said else b""

    def _summed(self, usage: dict[str, Any]) -> dict[str, Any]:
        """What was said before came back as a part of the prompt: it counts as said, once."""
        before, prompt = self._before, usage.get("prompt_tokens")
        rest = 0 if self._muted else usage.get("completion_tokens") or 0
        if self._prompt_tokens is not None:
            prompt = self._prompt_tokens
        elif isinstance(prompt, int):
            prompt = max(prompt - before, 0)
        summed = {**usage, "prompt_tokens": prompt, "completion_tokens": before + rest}
        summed["total_tokens"] = (prompt or 0) + before + rest
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
            cached = min(details["cached_tokens"], prompt or 0)
            summed["prompt_tokens_details"] = {**details, "cached_tokens": cached}
        return summed

    # --- the cut --------------------------------------------------------------------------------

    def cut(self) -> Rest | None:
        """The engine has left off. None: the rest cannot be asked for."""
        if self._done:
            return Rest(b"", False)
        limit = self._request.limit
        said = self._before + self._count
        out = b""
        if not self._finished and limit is not None and said >= limit and not self._lost:
            # All that is missing is the word that there was no more to come.
            self._finished = True
            out = self._end_of_text()
        if self._whole:
            self._done = True
            return Rest(out + DONE, False)
        if self.mode is None:
            return None
        self._muted = self._finished
        self._before, self._count = said, 0
        self._life += 1
        self.error = b""
        return Rest(out, True)

    def _end_of_text(self) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": "length"}
        if self._request.chat:
            choice["delta"] = {}
        else:
            choice["text"] = ""
        return _event({**self._names, "object": self._kind, "choices": [choice]})

    def body(self, model: str | None) -> bytes:
        """What asks for the rest, after a cut that leaves some. `model` is what the engine calls
        it, where the client does not."""
        request, said = self._request, self._before
        fields: dict[str, Any] = dict(request.fields)
        if model is not None:
            fields["model"] = model
        text = "".join(self._text)
        if not request.chat:
            if self._prompt_ids is not None and self._ids is not None:
                fields["prompt"] = [*self._prompt_ids, *self._ids]
                fields["return_token_ids"] = True
            else:
                fields["prompt"] = _decode_any(request.fields["prompt"]) + text
        elif text:
            fields["messages"] = _continued(fields["messages"], text)
            fields["continue_final_message"] = True
            fields["add_generation_prompt"] = False
        for key in _LIMITS:
            value = _decode_any(fields[key]) if key in fields else None
            if type(value) is int and value > 0:
                fields[key] = max(value - said, 0 if key == "min_tokens" else 1)
        if self._muted:
            fields["max_tokens"] = 1
            fields.pop("min_tokens", None)
            if "max_completion_tokens" in fields:
                fields["max_completion_tokens"] = 1
        return _encode(fields)


def _continued(messages: Raw, text: str) -> list[Any]:
    found: list[Any] = _decode_list(messages)
    last = _decode_any(found[-1])
    if last.get("role") == "assistant":  # the client had it continued already
        return [*found[:-1], {**last, "content": last["content"] + text}]
    return [*found, {"role": "assistant", "content": text}]


def _without_ids(value: Any) -> Any:
    for choice in value.get("choices") or ():
        choice.pop("token_ids", None)
        choice.pop("prompt_token_ids", None)
    return value


def _event(value: Any) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"
