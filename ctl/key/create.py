"""`creche key create NAME`: a new key, shown once."""

import argparse
from typing import Any

from common.wire.router import KeyMade
from ctl import admin, durations
from ctl.client import Client
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.key import words
from ctl.output import Output

HELP = "make a key, and show it this once"
MORE = """\
Scopes: use (ask models), read (also stats, services, metrics, usage), admin (everything).
A model's name may end in *. Without --models it may ask for all.

Examples:
  creche key create ana
  creche key create lab-1 --tenant lab --models qwen3-8b --rpm 60 --tpm 50000 --concurrency 4
  creche key create prometheus --scope read
  creche key create guest --expires 7d --privacy confidential
  creche key create ci --json | jq -r .text
"""
PRIVACY = ("public", "internal", "confidential", "restricted")
PRIORITIES = ("high", "normal", "low")
EXPIRES_S_MAX = 20 * 366 * 86_400.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what logs and limits call it")
    parser.add_argument("--tenant", metavar="T", help="whose it is: [tenants.T] may limit it")
    parser.add_argument("--models", metavar="M,…", default="", help="which it may ask for")
    parser.add_argument("--scope", choices=("use", "read", "admin"), default="use")
    parser.add_argument("--privacy", choices=PRIVACY, help="its requests are at least so private")
    parser.add_argument("--region", metavar="R", help="preferred, where a request says nothing")
    parser.add_argument("--max-latency-ms", metavar="N", type=float, help="a need of its requests")
    parser.add_argument("--min-throughput", metavar="N", type=float, help="tokens a second")
    parser.add_argument("--cost-tolerance", metavar="0-100", type=float, help="for strategy score")
    parser.add_argument("--gpu", choices=("prefer", "require"))
    parser.add_argument("--rpm", metavar="N", type=int, help="requests a minute")
    parser.add_argument("--tpm", metavar="N", type=int, help="tokens a minute")
    parser.add_argument("--concurrency", metavar="N", type=int, help="requests at once")
    parser.add_argument("--budget-tokens", metavar="N", type=int, help="tokens a month")
    parser.add_argument("--budget-cost", metavar="N", type=float, help="cost a month, as priced")
    parser.add_argument("--weight", metavar="W", type=float, help="its share where requests wait")
    parser.add_argument(
        "--priority-max", choices=PRIORITIES, help="its requests are no more urgent"
    )
    parser.add_argument("--expires", metavar="30d", type=_time, help="after s, m, h or d")


def _time(text: str) -> float:
    return durations.seconds(text, most=EXPIRES_S_MAX)


def order(args: argparse.Namespace) -> dict[str, Any]:
    """The body of POST /admin/keys: what was not said is left out."""
    needs = {
        "region": args.region,
        "max_latency_ms": args.max_latency_ms,
        "min_throughput": args.min_throughput,
        "cost_tolerance": args.cost_tolerance,
        "gpu": args.gpu,
    }
    limits = {"rpm": args.rpm, "tpm": args.tpm, "max_concurrency": args.concurrency}
    budget = {"tokens_monthly": args.budget_tokens, "cost_monthly": args.budget_cost}
    said = {
        "name": args.name,
        "tenant": args.tenant,
        "scope": args.scope,
        "models": [one.strip() for one in args.models.split(",") if one.strip()],
        "privacy": args.privacy,
        "needs": _said(needs),
        "limits": _said(limits),
        "budget": _said(budget),
        "weight": args.weight,
        "priority_max": args.priority_max,
        "expires_s": args.expires,
    }
    return _said(said)


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, {}, [])}


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token, place.tls) as client:
        with admin.explaining(place):
            made = await client.post(f"{place.url}/admin/keys", KeyMade, body=order(args))
    if out.json:
        out.value(made)
        return Exit.WELL
    out.lines(
        [
            f"{out.paint.mark('✓')} {made.key.name}   {words.told(made.key)}",
            f"    {made.text}",
            "    shown this once: keep it now   (as OPENAI_API_KEY, or api_key=…)",
        ]
    )
    if not await _required(place):
        out.aside('no key is asked for yet: router.toml needs  client_keys = "required"')
    return Exit.WELL


async def _required(place: Place) -> bool:
    try:
        return (await words.keys(place)).required
    except CtlError:
        return True
