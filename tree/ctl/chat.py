"""`creche chat`: a chat in the terminal, through the router, as any client would.

No cluster token is sent: what is relayed must work for a client that has none. Where the router
wants clients' keys, CRECHE_KEY or key_file has one.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
from msgspec import Struct

from common.clock import monotonic
from common.http import why_failed
from ctl import sse
from ctl.client import Client
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.output import Output
from ctl.render import milliseconds

HELP = "chat with a model in the terminal"
MORE = """\
Without PROMPT, or with -, it reads standard input; on a terminal it stays for a conversation
(Ctrl-C ends an answer, Ctrl-D the chat). Who answered is told on standard error.

Examples:
  creche chat 'Why is the sky blue?'
  creche chat --model qwen3-coder < question.txt
  git diff | creche chat --system 'Review this change.' -
  creche chat                                  a conversation
  CRECHE_KEY=sk-… creche chat 'hello'          where the router wants a key (or key_file in
                                               creche.toml, or CRECHE_KEY_FILE)
"""
#: An engine may think this long before its first word, and between two.
SILENCE_S = 600.0


class Answer(Struct, frozen=True, kw_only=True):
    """`first_ms` is null for an empty answer; `complete` is false where it broke off unsaid."""

    model: str
    service: str | None
    text: str
    first_ms: float | None
    total_ms: float
    usage: dict[str, Any] | None
    complete: bool


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", nargs="*", help="what to say; - reads stdin")
    parser.add_argument("--model", metavar="M", help="which model (default: the first served)")
    parser.add_argument("--system", metavar="TEXT", help="what the model should be")
    parser.add_argument("--max-tokens", metavar="N", type=int, help="end the answer after N tokens")


def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    prompt = " ".join(args.prompt)
    model = asyncio.run(_model(args.model, place, out))
    messages: list[dict[str, str]] = []
    if args.system:
        messages.append({"role": "system", "content": args.system})
    if prompt and prompt != "-":
        return _once(prompt, messages, model, args, place, out)
    if prompt == "-" or not sys.stdin.isatty():
        prompt = sys.stdin.read()
        if not prompt.strip():
            raise CtlError(
                "nothing to say: standard input is empty",
                fix="creche chat 'Hello'",
                code=Exit.USAGE,
            )
        return _once(prompt, messages, model, args, place, out)
    return _conversation(messages, model, args, place, out)


def _once(
    prompt: str,
    messages: list[dict[str, str]],
    model: str,
    args: argparse.Namespace,
    place: Place,
    out: Output,
) -> Exit:
    said = [*messages, {"role": "user", "content": prompt}]
    show = (lambda _: None) if out.json else _show
    answer = asyncio.run(ask(place, model, said, args.max_tokens, show))
    if out.json:
        out.value(answer)
    else:
        _end(answer, out)
    return Exit.WELL if answer.complete else Exit.PROBLEMS


def _conversation(
    messages: list[dict[str, str]],
    model: str,
    args: argparse.Namespace,
    place: Place,
    out: Output,
) -> Exit:
    import readline  # noqa: F401  (arrow keys and history in input())

    out.aside(f"{model} at {place.url}   Ctrl-D ends")
    while True:
        try:
            prompt = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return Exit.WELL
        if not prompt.strip():
            continue
        said = [*messages, {"role": "user", "content": prompt}]
        try:
            answer = asyncio.run(ask(place, model, said, args.max_tokens, _show))
        except KeyboardInterrupt:
            print()
            continue
        except CtlError as error:
            print()
            out.failed(error)
            continue
        _end(answer, out)
        messages = [*said, {"role": "assistant", "content": answer.text}]


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _end(answer: Answer, out: Output) -> None:
    if not answer.text.endswith("\n"):
        print(flush=True)
    tokens = (answer.usage or {}).get("completion_tokens")
    facts = [
        answer.service or answer.model,
        f"first token {milliseconds(answer.first_ms)}" if answer.first_ms is not None else "",
        milliseconds(answer.total_ms),
        f"{tokens} tokens" if tokens is not None else "",
        "" if answer.complete else "broke off without an end",
    ]
    out.aside("   ".join(filter(None, facts)))


async def _model(wanted: str | None, place: Place, out: Output) -> str:
    if wanted:
        return wanted
    async with Client(place.key or place.token) as client:
        listing = await client.get(f"{place.url}/v1/models", dict[str, Any])
    names = [str(one["id"]) for one in listing.get("data", []) if one.get("id")]
    if not names:
        raise CtlError("no model is served now", fix="What is wrong:  creche status")
    if len(names) > 1:
        out.aside(f"{names[0]}, the first of {len(names)} models (creche chat --model M)")
    return names[0]


async def ask(
    place: Place,
    model: str,
    messages: list[dict[str, str]],
    max_tokens: int | None,
    show: Callable[[str], None],
) -> Answer:
    """One answer, shown piece by piece. Raises CtlError when it is refused or breaks off."""
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    events, texts = sse.ChatEvents(), []
    began, first_ms = monotonic(), None
    async with (
        Client(place.key) as client,
        client.stream(
            "POST", f"{place.url}/v1/chat/completions", body=body, control=True, first_s=SILENCE_S
        ) as answer,
    ):
        service = answer.headers.get("x-creche-service")
        try:
            if answer.content_type == "text/event-stream":
                async for piece in answer.content.iter_any():
                    for text in events.feed(piece):
                        first_ms = first_ms or (monotonic() - began) * 1000
                        texts.append(text)
                        show(text)
            else:
                texts.append(sse.plain_text(await answer.json(content_type=None)))
                show(texts[0])
                events.done = True
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise CtlError("the answer broke off", why_failed(error)) from error
    return Answer(
        model=model,
        service=service,
        text="".join(texts),
        first_ms=first_ms,
        total_ms=(monotonic() - began) * 1000,
        usage=events.usage,
        complete=events.done or events.finish is not None,
    )
