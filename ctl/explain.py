"""`creche explain --model NAME`: where a request would go, and why. Nothing is sent."""

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from ctl.client import Client
from ctl.errors import CtlError, Exit, RefusedError
from ctl.find import Place
from ctl.output import Output
from ctl.render import PLAIN, Paint

HELP = "tell where a request would go, and why"
MORE = """\
The router decides as it would for a real request: what the name stands for, who could take it, with
the numbers that decide, and who was refused why. Nothing is sent to an engine.

Examples:
  creche explain --model code                  exit: 0 somebody would serve it, 1 nobody would
  creche explain --model code --header 'x-creche-region: us-west' --stream
  creche explain --body request.json --path /v1/embeddings
  curl … -H 'x-creche-explain: 1'              the same of a real request, in its answer's headers
"""
#: A body that large is no question to an operator's tool.
BODY_BYTES_MAX = 32 << 20
#: What makes the request itself, not what is asked about.
OWN_HEADERS = frozenset(
    {"authorization", "host", "content-length", "transfer-encoding", "connection", "te", "upgrade"}
)


class Resolution(Struct, frozen=True, kw_only=True):
    """`place` is the line of the file that fired."""

    how: str
    why: str
    place: str | None = None
    targets: list[str] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)


class Candidate(Struct, frozen=True, kw_only=True):
    """`state`: chosen, candidate, later (only where nothing better is left) or refused."""

    name: str
    state: str
    why: str = ""
    parts: dict[str, float] | None = None
    score: float | None = None


class Target(Struct, frozen=True, kw_only=True):
    model: str
    provider: str | None = None
    fallback: bool = False
    strategy: str = ""
    candidates: list[Candidate] = field(default_factory=list)


class Explanation(Struct, frozen=True, kw_only=True):
    model: str | None
    resolution: Resolution
    needs: dict[str, Any] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    chosen: str | None = None
    #: None: answers of this model are not kept, or the router knows no cache.
    cache: str | None = None
    #: Where all that could serve it is full.
    queue: str | None = None
    error: str | None = None


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--model", metavar="NAME", help="the name that a client asks for")
    parser.add_argument("--stream", action="store_true", help='as with "stream": true')
    parser.add_argument(
        "--header",
        metavar="'K: V'",
        action="append",
        default=[],
        help="as the client would send it",
    )
    parser.add_argument("--body", metavar="FILE", help="a whole body, - reads standard input")
    parser.add_argument(
        "--path", metavar="PATH", default="/v1/chat/completions", help="default: %(default)s"
    )


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    if args.id is not None:
        raise CtlError(
            "requests of the past cannot be explained by their id",
            "this version explains what would happen:  creche explain --model NAME",
            "A real one tells it in its answer with the header  x-creche-explain: 1",
            Exit.USAGE,
        )
    if args.model is None and args.body is None:
        raise CtlError(
            "a model is wanted", "", "creche explain --model NAME   or  --body FILE", Exit.USAGE
        )
    if args.body is not None and (args.model is not None or args.stream):
        raise CtlError(
            "a body says its model and its stream itself",
            "",
            "--body FILE  without --model and --stream",
            Exit.USAGE,
        )
    query = {"path": args.path}
    query |= {"model": args.model} if args.model is not None else {}
    query |= {"stream": "1"} if args.stream else {}
    headers = [header(text) for text in args.header]
    body = None if args.body is None else _body(args.body)
    if body is not None and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    async with Client(place.token, place.tls) as client:
        try:
            answer = await client.ask(
                f"{place.url}/explain", dict[str, Any], query=query, headers=headers, body=body
            )
        except RefusedError as why:
            if why.status == 404:
                raise CtlError(
                    f"{place.url} does not explain",
                    "the router has another address for it (control_listen), or is of an older "
                    "version",
                    "Name that address:  creche --url http://HOST:PORT explain …",
                ) from why
            raise
    explained = convert(answer)
    if out.json:
        out.value(answer)
    else:
        out.lines(lines(explained, out.paint))
    return Exit.WELL if explained.chosen else Exit.PROBLEMS


def header(text: str) -> tuple[str, str]:
    """`k: v` taken apart. Raises CtlError (usage)."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not name or not name.isascii() or any(c in text for c in "\r\n\0"):
        raise CtlError(f"--header {text!r} is no header", "", "--header 'name: value'", Exit.USAGE)
    if name.lower() in OWN_HEADERS:
        raise CtlError(
            f"--header {name} cannot be asked about",
            "it belongs to the question itself",
            code=Exit.USAGE,
        )
    return name, value


def _body(source: str) -> bytes:
    try:
        if source == "-":
            data = sys.stdin.buffer.read(BODY_BYTES_MAX + 1)
        else:
            with Path(source).open("rb") as opened:
                data = opened.read(BODY_BYTES_MAX + 1)
    except OSError as why:
        raise CtlError(f"cannot read {source}: {why.strerror}", code=Exit.USAGE) from why
    if len(data) > BODY_BYTES_MAX:
        raise CtlError(f"{source} has more than {BODY_BYTES_MAX} bytes", code=Exit.USAGE)
    return data


def convert(answer: dict[str, Any]) -> Explanation:
    """Raises CtlError for another shape."""
    try:
        return msgspec.convert(answer, Explanation)
    except msgspec.ValidationError as why:
        raise CtlError("the router explains in another shape", str(why)) from why


def lines(one: Explanation, paint: Paint = PLAIN) -> list[str]:
    asked = one.model or "(no model)"
    whom = one.chosen or ("the queue" if one.queue else "nobody")
    head = f"{asked} → {whom}"
    found = [f"{paint(head, 'bold')}   nothing was sent", ""]
    found.append(_step("resolve", f"{one.resolution.why}{_place(one.resolution.place, paint)}"))
    needs = {name: value for name, value in one.needs.items() if value is not None}
    if needs:
        found.append(_step("needs", ", ".join(f"{name} {_number(v)}" for name, v in needs.items())))
    if one.cache:
        found.append(_step("cache", one.cache))
    for at, target in enumerate(one.targets):
        verb = "fallback" if target.fallback else "then" if at else "choose"
        found += _target(verb, target, paint)
    if one.queue:
        found.append(_step("queue", one.queue))
    if one.error:
        found += ["", f"{paint.mark('✗')} {one.error}"]
    return found


def _target(verb: str, target: Target, paint: Paint) -> list[str]:
    where = f"{target.model} at {target.provider}" if target.provider else target.model
    by = f", by {target.strategy}" if target.strategy and len(target.candidates) > 1 else ""
    if not target.candidates:
        return [_step(verb, f"{where}: nobody has it")]
    width = max(len(candidate.name) for candidate in target.candidates)
    rows = [(f"{c.name:<{width}}", _said(c), c) for c in target.candidates]
    said = max(len(text) for _, text, _ in rows)
    found = [_step(verb, f"{where}{by}:")]
    for name, text, candidate in rows:
        chosen = candidate.state == "chosen"
        line = f"{name}   {text:<{said}}   ◀ chosen" if chosen else f"{name}   {text}".rstrip()
        if candidate.state in ("refused", "later"):
            line = paint(line, "dim")
        elif chosen:
            line = paint(line, "green")
        found.append(f"{'':14}{line}")
    return found


def _said(candidate: Candidate) -> str:
    """The router's words; where it has none, the numbers."""
    if candidate.state == "refused":
        return f"refused: {candidate.why}"
    if candidate.why or candidate.score is None:
        return candidate.why
    parts = ", ".join(f"{name} {_number(value)}" for name, value in (candidate.parts or {}).items())
    return f"scores {candidate.score:.3f}" + (f": {parts}" if parts else "")


def _number(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _step(verb: str, text: str) -> str:
    return f"  {verb:<10}{text}"


def _place(place: str | None, paint: Paint) -> str:
    return f"   {paint(place, 'dim')}" if place else ""
