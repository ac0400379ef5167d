"""`creche key revoke NAME`: no router takes it any more."""

import argparse
from urllib.parse import quote

from common.wire.router import KeyRevoked
from ctl import admin
from ctl.client import Client
from ctl.errors import CtlError, Exit, RefusedError
from ctl.find import Place
from ctl.output import Output

HELP = "take a key back, for good"
MORE = """\
What runs with it ends as it would have; a new request is refused within a second, by every router
that shares the keys.

Examples:
  creche key revoke ana
  creche key revoke d93aa21c4154               by its id
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("which", metavar="NAME|ID")


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        try:
            with admin.explaining(place):
                url = f"{place.url}/admin/keys/{quote(args.which, safe='')}"
                gone = await client.delete(url, KeyRevoked)
        except RefusedError as why:
            if why.status != 404:
                raise
            raise CtlError(why.what, "", "Those that hold:  creche key list") from why
    if out.json:
        out.value(gone)
    else:
        out.lines([f"{out.paint.mark('✓')} {gone.key.name} is revoked   id {gone.key.id}"])
    return Exit.WELL
