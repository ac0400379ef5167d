"""A provider's status in the router's file."""

import argparse
import difflib

from ctl import change, edit
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.kinds import ROUTER
from ctl.output import Output


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="as in [providers.NAME]")
    change.arguments(parser)


async def become(status: str, args: argparse.Namespace, place: Place, out: Output) -> Exit:
    """Raises CtlError for a name that the file does not have."""
    file = await change.opened(args.file, place, ROUTER)
    known = edit.get(file.text, ("providers",)) or {}
    provider = known.get(args.name) if isinstance(known, dict) else None
    if not isinstance(provider, dict):
        raise unknown(args.name, list(known), str(file.path))

    def put(text: str) -> str:
        if provider.get("status", "active") == status:
            return text
        if status == "active":  # the default
            return edit.drop(text, ("providers", args.name, "status"))
        return edit.put(text, ("providers", args.name, "status"), status)

    return await change.run(args, place, out, file, put)


def unknown(name: str, known: list[str], file: str) -> CtlError:
    near = difflib.get_close_matches(name, known, n=1)
    return CtlError(
        f"{file} has no provider {name!r}",
        f"it has  {'  '.join(known)}" if known else "it has none",
        f"did you mean  {near[0]}?" if near else "",
    )
