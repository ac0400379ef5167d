"""`python -m babysitter.xllamacpp_server`: llama.cpp's own HTTP server, from the xllamacpp wheel.

    loading ──ready line on stdout──▶ serving ──SIGTERM, SIGINT──▶ exit 0
       ├──SIGTERM, SIGINT──▶ ended by the signal: nothing is there yet to be tidied
       └──fault──▶ one sentence on stderr, after llama.cpp's own log, and a status of sysexits.h

The wheel holds the GIL while it loads, so that no Python code, signal handlers included, runs then;
therefore the signals keep their default action until the server is up.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from common import listen
from common.address import PORT_MAX, Address
from common.cli import Parser
from common.errors import RefusalError

EX_DATAERR = 65
"""the file is no model that llama.cpp can load"""
EX_NOINPUT = 66
"""there is no such file, or it may not be read"""
EX_UNAVAILABLE = 69
"""the xllamacpp wheel is not installed"""
EX_TEMPFAIL = 75
"""the port is taken"""

#: An embedding's input must fit into one physical batch; llama.cpp's own default of 512 is short.
EMBEDDING_BATCH_TOKENS = 2048


class Settings(Struct, frozen=True, kw_only=True):
    """`threads` 0 leaves the number to llama.cpp.

    llama.cpp lists one model, called by the alias that sorts first, with the others as its
    `aliases`. It answers to any name.
    """

    model: Path
    host: str
    port: int
    aliases: tuple[str, ...]
    parallel: int
    ctx_per_slot: int
    threads: int
    api_key: str | None
    embeddings: bool


class FaultError(Exception):
    """It cannot serve. `status` is the exit status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def settings_from_args(argv: Sequence[str]) -> Settings:
    """Exits with status 64 and a sentence on a usage error."""
    parser = Parser(
        prog="python -m babysitter.xllamacpp_server",
        description="llama.cpp's HTTP server, in this process, from the xllamacpp wheel. Chat, "
        "completions and embeddings; /health, /metrics and /slots are on.",
        epilog="Exit status: 0 stopped as asked, 64 usage, 65 the model cannot be loaded, 66 no "
        "such model file, 69 the wheel is missing, 75 the port is taken.",
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="FILE", help="the GGUF file to serve")
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=int, default=8100, help="port (default %(default)s)")
    add("--alias", action="append", default=[], metavar="NAME", help="name to serve the model as")
    add("--parallel", type=int, default=4, metavar="N", help="requests at once (default 4)")
    add("--ctx-per-slot", type=int, default=4096, metavar="N", help="tokens each (default 4096)")
    add("--threads", type=int, default=0, metavar="N", help="CPU threads (default: its own choice)")
    add("--api-key-file", type=Path, metavar="FILE", help="want this key as a bearer token")
    add("--no-embeddings", action="store_true", help="chat and completions only")
    args = parser.parse_args(argv)
    if not 1 <= args.port <= PORT_MAX:
        parser.error(f"--port is 1 to {PORT_MAX}")
    if args.parallel < 1 or args.ctx_per_slot < 1 or args.threads < 0:
        parser.error("--parallel and --ctx-per-slot are at least 1, --threads at least 0")
    return Settings(
        model=args.model,
        host=args.host,
        port=args.port,
        aliases=tuple(args.alias) or (args.model.stem,),
        parallel=args.parallel,
        ctx_per_slot=args.ctx_per_slot,
        threads=args.threads,
        api_key=_key(parser, args.api_key_file),
        embeddings=not args.no_embeddings,
    )


def _key(parser: argparse.ArgumentParser, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        key = path.read_text().strip()
    except OSError as why:
        parser.error(f"--api-key-file {path}: {why.strerror}")
    if not key:
        parser.error(f"--api-key-file {path} is empty")
    return key


def check_file(path: Path) -> None:
    """Whether `path` is a GGUF file at all. Raises FaultError: llama.cpp would say less."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as why:
        raise FaultError(EX_NOINPUT, f"the model {path} cannot be read: {why.strerror}") from why
    if magic != b"GGUF":
        raise FaultError(EX_DATAERR, f"{path} is not a GGUF file: it begins with {magic!r}")


def start(settings: Settings) -> Any:
    """The running server, its model loaded. Raises FaultError."""
    try:
        import xllamacpp
    except ImportError as why:
        raise FaultError(
            EX_UNAVAILABLE,
            f"this needs the xllamacpp wheel, and {sys.executable} has none ({why}).\n"
            f"  Install it:  {sys.executable} -m pip install xllamacpp",
        ) from why
    try:
        return xllamacpp.Server(_parameters(xllamacpp, settings))
    except RuntimeError as why:
        raise _explained(settings) from why


def _parameters(xllamacpp: Any, settings: Settings) -> Any:
    given = xllamacpp.CommonParams()
    given.model.path = str(settings.model)
    given.model_alias = set(settings.aliases)
    given.hostnames = [settings.host]
    given.port = settings.port
    given.n_parallel = settings.parallel
    given.n_ctx = settings.parallel * settings.ctx_per_slot
    given.endpoint_metrics = True
    given.endpoint_slots = True
    given.ui = False
    if settings.threads:
        given.cpuparams.n_threads = settings.threads
    if settings.api_key:
        given.api_keys = [settings.api_key]
    if settings.embeddings:  # with a pooling of its own: a chat model has none
        given.embedding = True
        given.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        given.n_ubatch = given.n_batch = EMBEDDING_BATCH_TOKENS
    return given


def _explained(settings: Settings) -> FaultError:
    """llama.cpp says `Failed to init server` whatever the fault was; its log has the rest."""
    try:
        for one in listen.bind(Address(settings.host, settings.port), key="--port"):
            one.close()
    except RefusalError as refusal:
        return FaultError(EX_TEMPFAIL, str(refusal))
    return FaultError(EX_DATAERR, f"llama.cpp cannot load {settings.model}; its log above says why")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises FaultError."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would wait for the GIL
    check_file(settings.model)
    server = start(settings)
    # A byte in a pipe: the signal may arrive in any of llama.cpp's threads.
    heard, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: None)
    names = ",".join(settings.aliases)
    say(f"llama.cpp ready on {server.listening_address} models={names}")
    os.read(heard, 1)
    say("llama.cpp stops")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    settings = settings_from_args(sys.argv[1:])
    try:
        serve(settings)
    except FaultError as fault:
        sys.stderr.write(f"xllamacpp_server: {fault}\n")
        return fault.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
