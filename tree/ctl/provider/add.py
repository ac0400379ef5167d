"""`creche provider add NAME`: a new [providers.NAME] in the router's file."""

import argparse
from typing import get_args

from ctl import change, edit
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.kinds import ROUTER
from ctl.output import Output
from router.named import ProviderType

HELP = "add a provider to the router's file"
MORE = """\
The key stays in a file or an environment variable of the router; it is never an argument. What else
a provider can have:  creche config set providers.NAME.KEY VALUE

Examples:
  creche provider add openai --type openai --base-url https://api.openai.com/v1 \\
    --models gpt-4o-mini,gpt-4.1 --api-key-file /etc/creche/keys/openai
  creche provider add lab --type vllm --base-url http://10.0.0.40:8100 --models llama-3.3-70b
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="letters, digits and . _ @ -")
    parser.add_argument("--type", required=True, choices=get_args(ProviderType))
    parser.add_argument("--base-url", required=True, metavar="URL", help="with its base path")
    parser.add_argument("--models", metavar="A,B", default="", help="names that it answers to")
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--api-key-file", metavar="FILE", help="holds its key")
    key.add_argument("--api-key-env", metavar="NAME", help="environment variable of the router")
    parser.add_argument("--disabled", action="store_true", help="not asked until it is enabled")
    change.arguments(parser)


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    file = await change.opened(args.file, place, ROUTER)
    if edit.get(file.text, ("providers", args.name)) is not None:
        raise CtlError(
            f"{file.path} has a provider {args.name!r} already",
            "",
            f"Change it:  creche config set providers.{edit.key_text((args.name,))}.KEY VALUE",
        )
    wanted = {
        "type": args.type,
        "base_url": args.base_url,
        "status": "disabled" if args.disabled else None,
        "models": [name.strip() for name in args.models.split(",") if name.strip()] or None,
        "api_key_file": args.api_key_file,
        "api_key_env": args.api_key_env,
    }

    def put(text: str) -> str:
        for key, value in wanted.items():
            if value is not None:
                text = edit.put(text, ("providers", args.name, key), value)
        return text

    return await change.run(args, place, out, file, put)
