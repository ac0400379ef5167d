"""`creche`, the operator's command: what is broken, who feels it, what next.

One module per verb, each with HELP, MORE, `arguments(parser)` and `run(args, place, out)`; a verb
with verbs of its own has VERBS, the names of their modules, in the place of the last two.
"""

import argparse
import asyncio
import difflib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from common.version import VERSION
from ctl import (
    chat,
    config,
    drain,
    engine,
    engines,
    explain,
    key,
    logs,
    models,
    provider,
    restart,
    services,
    status,
    undrain,
    wait,
)
from ctl.errors import CtlError, Exit
from ctl.find import LOOPBACK, find
from ctl.output import Output, output

VERBS: dict[str, ModuleType] = {
    "status": status,
    "services": services,
    "models": models,
    "engines": engines,
    "logs": logs,
    "wait": wait,
    "engine": engine,
    "drain": drain,
    "undrain": undrain,
    "restart": restart,
    "chat": chat,
    "explain": explain,
    "config": config,
    "provider": provider,
    "key": key,
}
#: What shells give a command that Ctrl-C ended.
INTERRUPTED = 130
MORE = f"""\
It finds the fleet by --url, CRECHE_URL, ~/.config/creche/creche.toml (url = "…", token_file = "…"),
else at {LOOPBACK}; the cluster token by --token-file, CRECHE_TOKEN_FILE or creche.toml.

Examples:
  creche status                                exit: 0 well, 1 problems, 2 unreachable
  creche --url http://10.0.0.10:8000 engines
  creche chat --model tiny-llama 'hello'
"""


class _Parser(argparse.ArgumentParser):
    """Usage errors exit 64: 2 is taken by "unreachable"."""

    def error(self, message: str) -> NoReturn:
        lines = [f"✗ {line}" if at == 0 else f"    {line}" for at, line in enumerate(said(message))]
        self.exit(Exit.USAGE, "\n".join([*lines, f"    All of it:  {self.prog} --help\n"]))


class _Verb(_Parser):
    """A verb tells of words that it does not know itself, so that its own --help is named."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown here: {' '.join(unknown)}")
        return known, unknown


_CHOICE = re.compile(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)")

_VALUE = re.compile(r"argument (\S+): invalid \S+ value: '(.*)'", re.DOTALL)

#: What argparse says of a missing verb: the metavar, which names them all.
_VERBS = re.compile(r"VERB|[a-z|]+\|[a-z|]+")


def said(message: str) -> list[str]:
    """argparse's words in ours: what is wrong, then what it could have been."""
    if wrong := _CHOICE.fullmatch(message):
        what, given, listed = wrong.groups()
        choices = [one.strip("'") for one in listed.split(", ")]
        lines = [f'"{given}" is no {"verb" if _VERBS.fullmatch(what) else what.lower()}']
        near = difflib.get_close_matches(given, choices, n=1)
        lines += [f"did you mean  {near[0]}?"] if near else []
        return [*lines, f"one of:  {'  '.join(choices)}"]
    if wrong := _VALUE.fullmatch(message):
        return [f"{wrong[1]} cannot be '{wrong[2]}'"]
    wanted = message.removeprefix("the following arguments are required: ")
    if wanted != message and _VERBS.fullmatch(wanted):
        choices = list(VERBS) if wanted == "VERB" else wanted.split("|")
        return ["a verb is wanted", f"one of:  {'  '.join(choices)}"]
    return [f"{wanted} is wanted" if wanted != message else message]


def parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """`words`: what will be parsed, so that only the modules are read that they can mean."""
    top = _Parser(
        prog="creche",
        description="The operator's command for a Creche fleet.",
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"creche {VERSION}")
    _common(top, None)
    _verbs(top, VERBS, "VERB", words)
    return top


def _verbs(
    above: argparse.ArgumentParser,
    verbs: Mapping[str, ModuleType],
    metavar: str,
    words: Sequence[str] | None,
) -> None:
    group = above.add_subparsers(
        dest="verb", metavar=metavar, required=True, title="verbs", parser_class=_Verb
    )
    for name, module in verbs.items():
        verb = group.add_parser(
            name,
            help=module.HELP,
            description=f"{module.HELP[0].upper()}{module.HELP[1:]}.",
            epilog=module.MORE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # Suppressed where absent, so that `creche --url X status` is not undone here.
        _common(verb, argparse.SUPPRESS)
        own: Mapping[str, str] | None = getattr(module, "VERBS", None)
        if own and (words is None or name in words):
            modules = {each: import_module(path) for each, path in own.items()}
            _verbs(verb, modules, "|".join(own), words)
        elif not own:
            module.arguments(verb)
            verb.set_defaults(run=module.run)


def _common(one: argparse.ArgumentParser, default: str | None) -> None:
    one.add_argument("--url", metavar="URL", default=default, help="the router's address")
    one.add_argument(
        "--token-file", metavar="FILE", default=default, help="holds the cluster token"
    )
    one.add_argument(
        "--json",
        action="store_true",
        default=False if default is None else default,
        help="for programs",
    )


def main() -> NoReturn:
    args = parser(sys.argv[1:]).parse_args()
    out = output(args.json)
    try:
        code = _run(args, out)
        sys.stdout.flush()
    except BrokenPipeError:
        # `creche logs … | head` is no fault; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.WELL
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _run(args: argparse.Namespace, out: Output) -> int:
    place = None
    try:
        place = find(args.url, args.token_file, os.environ)
        outcome: Any = args.run(args, place, out)
        return int(outcome) if isinstance(outcome, int) else int(asyncio.run(outcome))
    except CtlError as error:
        if error.code == Exit.UNREACHABLE and place is not None and not error.fix:
            error.fix = (
                "Is the router up? The demo:  make up   Another place:  creche --url URL …"
                if place.url == LOOPBACK
                else f"{place.url} was named by {place.named_by}. Is the router up there?"
            )
        out.failed(error)
        return int(error.code)


if __name__ == "__main__":
    main()
