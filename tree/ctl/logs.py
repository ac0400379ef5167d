"""`creche logs NAME[@HOST]`: what an engine wrote, from its babysitter."""

import argparse
import codecs
from collections.abc import AsyncIterator
from urllib.parse import quote

import aiohttp

from common.http import why_failed
from ctl import which
from ctl.client import Client
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.fleet import look
from ctl.output import Output
from ctl.views import engine_views

HELP = "what an engine wrote"
MORE = """\
Examples:
  creche logs llama-70b@gpu-03
  creche logs coder -n 200
  creche logs mock-a -f                        follow; Ctrl-C ends it
"""
#: The tail that is kept here for -n: the babysitter's own ring is bounded too.
LINE_CHARACTERS_MAX = 1 << 20


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME[@HOST]", help="which engine")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as it writes")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=_count, help="only the last N lines (default: all kept)"
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        view = which.engine(engine_views(await look(client, place.url)), args.name)
        url = f"{which.babysitter_of(view)}/engines/{quote(view.name, safe='')}/log"
        query = []
        if args.follow:
            query.append("follow=1")
        if args.lines is not None:
            query.append(f"lines={args.lines}")
        if query:
            url += "?" + "&".join(query)
        async with client.stream("GET", url, control=True, first_s=None) as answer:
            async for line in _lines(answer, view.service):
                if out.json:
                    out.json_line({"service": view.service, "line": line})
                else:
                    print(line, flush=args.follow)
    return Exit.WELL


async def _lines(answer: aiohttp.ClientResponse, service: str) -> AsyncIterator[str]:
    """The lines of a text that comes in pieces; bytes that are no UTF-8 are shown as �."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    rest = ""
    try:
        async for piece in answer.content.iter_any():
            *whole, rest = (rest + decode(piece)).split("\n")
            for line in whole:
                yield line.removesuffix("\r")
            if len(rest) > LINE_CHARACTERS_MAX:
                yield rest
                rest = ""
    except (aiohttp.ClientError, OSError) as error:
        raise CtlError(
            f"the log of {service} broke off", why_failed(error), "Is its babysitter still up?"
        ) from error
    rest += decode(b"", True)
    if rest:
        yield rest
