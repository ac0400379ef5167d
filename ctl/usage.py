"""`creche usage`: who used how much, as a table, CSV or JSON."""

import argparse
import csv
import io
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from common.clock import parse_wire_time, wall, wire_time
from common.wire.usage import DIVISIONS, Usage, UsageCounts, UsageRow
from ctl import durations, render
from ctl.client import Client
from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output
from ctl.render import Paint

HELP = "who used how much: requests, tokens and cost by key, model, day, …"
MORE = """\
Times are UTC; a date means its first moment. Tokens are those that services told: requests of which
nothing was told are counted under UNKNOWN, and nothing is guessed for them.

Examples:
  creche usage                                 by key and model, the last 30 days
  creche usage --by day --key ana --since 7d
  creche usage --by tenant,month --since 2026-01-01 --until 2026-04-01 --csv >quarter.csv
  creche usage --json | jq .total.cost
"""
BY, SINCE = "key,model", "30d"
#: Ten years: what looks back farther was mistyped.
SINCE_S_MAX = 3_660 * 86_400.0
NUMBERS = (
    *("requests", "ok", "failed", "unknown", "unpriced"),
    *("tokens_in", "tokens_cached", "tokens_out"),
)
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = tuple("=+-@＝＋－＠")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by",
        type=division,
        default=BY,
        metavar="A,B",
        help=f"a line for each of these: {', '.join(DIVISIONS)} ({BY})",
    )
    parser.add_argument(
        "--since", type=moment, default=SINCE, metavar="T", help=f"7d, 12h or a date ({SINCE})"
    )
    parser.add_argument("--until", type=moment, metavar="T", help="before that (now)")
    parser.add_argument("--key", metavar="NAME", help="of this key alone, by its name or id")
    parser.add_argument("--tenant", metavar="NAME", help="of this tenant's keys alone")
    parser.add_argument("--model", metavar="NAME", help="of this model alone, as asked for")
    parser.add_argument("--csv", action="store_true", help="for spreadsheets")


def division(text: str) -> str:
    """Raises ValueError for what is no list of DIVISIONS."""
    if not text or any(one not in DIVISIONS for one in text.split(",")):
        raise ValueError(text)
    return text


def moment(text: str) -> float:
    """Unix seconds of `7d` (ago), a date or a time. Raises ValueError."""
    if text[-1:] in "smhd" and "-" not in text:
        return wall() - durations.seconds(text, most=SINCE_S_MAX)
    return parse_wire_time(text)


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    asked = {"by": args.by, "from": wire_time(args.since)}
    if args.until is not None:
        asked["to"] = wire_time(args.until)
    chosen = {name: getattr(args, name) for name in ("key", "tenant", "model")}
    asked |= {name: value for name, value in chosen.items() if value is not None}
    async with Client(place.token, place.tls) as client:
        answer = await client.get(f"{place.url}/admin/usage?{urlencode(asked)}", Usage)
    if out.json:
        out.value(answer)
    elif args.csv:
        out.lines(as_csv(answer))
        for note in notes(answer):
            out.aside(note)
    else:
        out.lines(lines(answer, out.paint))
    return Exit.WELL


def lines(answer: Usage, paint: Paint = render.PLAIN) -> list[str]:
    """The table, its sum, and what to know of them."""
    found: list[str] = []
    if answer.rows and answer.total.requests:
        names = _names(answer)
        columns = _columns(answer)
        rows = [
            [*(_said(one, name) for name in names), *_cells(one, columns)] for one in answer.rows
        ]
        if names:
            blank = [""] * (len(names) - 1)
            rows.append(["total", *blank, *_cells(answer.total, columns)])
        head = [name.replace("_", " ").upper() for name in (*names, *columns)]
        align = "<" * len(names) + ">" * len(columns)
        found = [*render.table(head, rows, align, paint), ""]
    else:
        found = ["Nothing was asked for in this time."]
    return found + [paint(note, "dim") for note in notes(answer)]


def notes(answer: Usage) -> list[str]:
    total = answer.total
    found = []
    if total.unknown:
        found.append(
            f"unknown: {_requests(total.unknown)} whose service told no tokens, in no other sum; "
            'streams tell them with  "stream_options": {"include_usage": true}'
        )
    if total.unpriced and total.cost is not None:
        found.append(
            f"cost: without {_requests(total.unpriced)} whose service declares no price for them"
        )
    since = (answer.since or "")[:16].replace("T", " ")
    until = (answer.until or "")[:16].replace("T", " ")
    bounds = f"since {since} UTC" if since else "all that is kept"
    bounds += f", before {until} UTC" if until else ""
    theirs = (
        "all routers together"
        if answer.of == "all routers"
        else "this router's own requests; others count theirs"
    )
    found.append(f"{bounds}: {theirs}")
    if answer.message:
        found.append(f"! {answer.message}")
    return found


def as_csv(answer: Usage) -> list[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*answer.by, *NUMBERS, "cost"])
    for one in answer.rows:
        if one.requests:
            numbers = [getattr(one, name) for name in NUMBERS]
            cost = "" if one.cost is None else f"{one.cost:.9f}"
            writer.writerow([*(_cell(one.names[name]) for name in answer.by), *numbers, cost])
    return text.getvalue().splitlines()


def _names(answer: Usage) -> list[str]:
    """A key's id only where two keys of one name would look alike."""
    ids: dict[str, set[str]] = {}
    for one in answer.rows:
        ids.setdefault(one.names.get("key", ""), set()).add(one.names.get("key_id", ""))
    alike = any(len(found) > 1 for found in ids.values())
    return [name for name in answer.by if name != "key_id" or alike]


def _columns(answer: Usage) -> list[str]:
    total = answer.total
    found = ["requests", "failed", "tokens_in"]
    found += ["tokens_cached"] if total.tokens_cached else []
    found += ["tokens_out", "unknown"]
    return [*found, "cost"] if total.cost is not None else found


def _cells(one: UsageCounts, columns: Iterable[str]) -> list[str]:
    return [_number(getattr(one, name)) for name in columns]


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"


def _said(one: UsageRow, name: str) -> str:
    text = _printable(one.names[name])
    return text or ("(no key)" if name == "key" else "-")


def _cell(text: str) -> str:
    """Names come from outside, and a spreadsheet would obey some of them."""
    shown = _printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _requests(count: int) -> str:
    return f"{count:,} request" + ("" if count == 1 else "s")
