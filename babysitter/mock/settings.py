"""What a mock engine is told at its start. Every flag is a field, with the same name."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from babysitter.mock.faults import Rule, described, rule_from_flag
from common.cli import Parser

#: What a request may hold. Above it the answer is 413: a rehearsal should not eat the host.
BODY_BYTES_MAX = 64 * 1024 * 1024
#: Beyond `max_concurrency`, this many wait unless told; the next ones get 429.
WAITING_MAX = 10_000


class Settings(Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int = 0
    name: str = "mock"
    models: tuple[str, ...] = ("mock-model",)
    any_model: bool = False
    anonymous: bool = False
    tokens: int = 16
    pace_ms: float = 0.0
    max_concurrency: int = 0
    max_waiting: int = WAITING_MAX
    api_key: str | None = None
    faults: tuple[Rule, ...] = ()
    load_ms: float = 0.0
    exit_after_ms: float = 0.0
    exit_code: int = 1
    ignore_term: bool = False
    workers: int = 0
    max_model_len: int = 4096
    embedding_dim: int = 8
    idle_close_ms: float = 0.0
    quiet: bool = False


_EPILOG = """\
environment:
  MOCK_API_KEY     the same as --api-key-file, the key itself

operating, on its own port:
  GET  /mock/stats    what it saw: requests, in flight, queued, departures with their times
  POST /mock/reset    counts to zero, faults as they were at the start
  POST /mock/faults   standing faults from now on: {"status": 500, "times": 3}, or [] for none

faults: for one request as a header (x-mock-delay-ms: 300), standing with --fault or /mock/faults.
A standing one may have path=, model= and times= beside it; without path it spares /health, models
and metrics. More in docs/mock-engine.md.
"""


def _parser() -> Parser:
    parser = Parser(
        prog="python -m babysitter.mock",
        description="An OpenAI-compatible engine without a model, with every fault on demand.",
        epilog=_EPILOG + "\n".join(f"  {name:16} {text}" for name, text in described()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=int, default=0, help="port; 0 takes a free one and prints it (default)")
    add("--name", default="mock", help="what it calls itself in answers and logs")
    add("--model", action="append", default=[], metavar="NAME", help="serves it; may be repeated")
    add("--any-model", action="store_true", help="answer for models not listed too (else 404)")
    add("--anonymous", action="store_true", help="leave the name out of the generated text")
    add("--tokens", type=int, default=16, help="tokens of an answer (default %(default)s)")
    add("--pace-ms", type=float, default=0.0, help="time between streamed tokens (default 0)")
    add("--max-concurrency", type=int, default=0, help="requests at once; more wait (0: no limit)")
    add(
        "--max-waiting",
        type=int,
        default=WAITING_MAX,
        metavar="N",
        help="requests that may wait; the next get 429 (default %(default)s)",
    )
    add("--api-key-file", type=Path, metavar="FILE", help="want this key as a bearer token")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="KEY=VALUE[,…]",
        help="a standing fault: status=500,times=3 or path=/v1/models,hang=before; may be repeated",
    )
    add("--load-ms", type=float, default=0.0, help="answer 503 for so long, as if loading a model")
    add("--exit-after-ms", type=float, default=0.0, help="exit by itself after so long")
    add("--exit-code", type=int, default=1, help="with which status (default %(default)s)")
    add("--ignore-term", action="store_true", help="ignore SIGTERM: only SIGKILL ends it")
    add("--workers", type=int, default=0, help="start so many child processes that outlive it")
    add("--max-model-len", type=int, default=4096, help="context its model objects claim")
    add("--embedding-dim", type=int, default=8, help="numbers in an embedding")
    add("--idle-close-ms", type=float, default=0.0, help="close idle connections after so long")
    add("--quiet", action="store_true", help="no log line per request")
    return parser


def settings_from_args(argv: Sequence[str], env_key: str | None) -> Settings:
    """`env_key` is MOCK_API_KEY's value. Exits with status 64 and a sentence on a usage error."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        rules = tuple(rule_from_flag(text) for text in args.fault)
        key = args.api_key_file.read_text().strip() if args.api_key_file else env_key
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if args.api_key_file and not key:
        parser.error(f"{args.api_key_file} is empty")
    counts = (args.tokens, args.max_concurrency, args.max_waiting, args.workers)
    if min(*counts, args.pace_ms, args.load_ms) < 0:
        parser.error("counts and times may not be negative")
    return Settings(
        host=args.host,
        port=args.port,
        name=args.name,
        models=tuple(args.model) or ("mock-model",),
        any_model=args.any_model,
        anonymous=args.anonymous,
        tokens=args.tokens,
        pace_ms=args.pace_ms,
        max_concurrency=args.max_concurrency,
        max_waiting=args.max_waiting,
        api_key=key or None,
        faults=rules,
        load_ms=args.load_ms,
        exit_after_ms=args.exit_after_ms,
        exit_code=args.exit_code,
        ignore_term=args.ignore_term,
        workers=args.workers,
        max_model_len=args.max_model_len,
        embedding_dim=args.embedding_dim,
        idle_close_ms=args.idle_close_ms,
        quiet=args.quiet,
    )
