"""`creche config set KEY VALUE`: a key of a configuration file, everything else as it stands."""

import argparse

from ctl import change, edit
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.output import Output

HELP = "set keys of a configuration file"
MORE = """\
KEY is dotted, as TOML writes it; VALUE is TOML, and a bare word is a text. Comments and order stay.
The result is checked in full first: with errors it is not written. Several pairs are one change.

Examples:
  creche config set strategy prefix --reload
  creche config set retry.attempts_max 4 timeouts.total_s 900
  creche config set 'models."gpt-4.1".fallbacks' '["qwen3-coder"]'
  creche config set --file /etc/creche/babysitter.toml defaults.stall_s 120
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pairs", metavar="KEY VALUE", nargs="+")
    change.arguments(parser)


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    if len(args.pairs) % 2:
        raise CtlError(
            f"{args.pairs[-1]} has no value",
            "keys and values come in pairs",
            "creche config set KEY VALUE",
            Exit.USAGE,
        )
    pairs = list(zip(args.pairs[::2], args.pairs[1::2], strict=True))

    def put(text: str) -> str:
        for key, value in pairs:
            text = edit.put(text, edit.path_of(key), edit.value_of(value))
        return text

    return await change.run(args, place, out, await change.opened(args.file, place), put)
