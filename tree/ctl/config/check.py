"""`creche config check FILE…`: what is wrong, where, what would happen, and one fix."""

import argparse
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from common.config import ConfigError, Document, Problem, has_errors, parse, read_text, report
from common.config import verdict as worded
from common.wire.registry import Health, Reason, Service
from common.wire.router import RouterService, RouterServices
from ctl import kinds
from ctl.client import Client
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.kinds import KINDS, ROUTER, Kind
from ctl.output import Output
from router import check as router_check

HELP = "tell what is wrong in configuration files"
MORE = """\
The same checks as  creche-router check,  creche-registry check  and  creche-babysitter check; whose
file it is, its keys tell. --live adds what the fleet lacks of what the file names: warnings.

Examples:
  creche config check /etc/creche/*.toml       exit: 0 nothing wrong, 1 errors
  creche config check router.toml --live
  creche config check router.toml --json | jq -r '.files[].problems[] | .fix'
"""


class Verdict(Struct, frozen=True):
    """What became of one file. `summary` is empty where there are errors."""

    file: str
    kind: str
    ok: bool
    summary: str
    problems: list[Problem]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--kind", choices=list(KINDS), help="whose files they are")
    parser.add_argument(
        "--live", action="store_true", help="compare with what is registered now (warnings only)"
    )


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    services: list[Service] | None = None
    if args.live:
        services = await _registered(place, out)
    verdicts = [judge(path, args.kind, services) for path in args.files]
    if out.json:
        out.value({"files": [as_json(one) for one in verdicts]})
    else:
        for one in verdicts:
            out.lines([text(one)])
    return Exit.WELL if all(one.ok for one in verdicts) else Exit.PROBLEMS


def judge(path: Path, kind: str | None, services: list[Service] | None) -> Verdict:
    """Raises CtlError (usage) where it cannot be told whose file it is."""
    try:
        content = read_text(path)
    except ConfigError as why:
        return Verdict(str(path), kind or "", False, "", why.problems)
    whose = KINDS[kind] if kind else kinds.of(content, path.name)
    if whose is None:
        raise CtlError(
            f"cannot tell whose file {path} is",
            "its keys and its name fit more than one daemon",
            "Say it:  --kind router, --kind registry or --kind babysitter",
            Exit.USAGE,
        )
    return judged(whose, content, str(path), services)


def judged(whose: Kind, content: str, file: str, services: list[Service] | None = None) -> Verdict:
    chosen, problems = whose.judge(content, file)
    if chosen is None or has_errors(problems):
        return Verdict(file, whose.name, False, "", problems)
    if services is not None and whose is ROUTER:
        problems = [*problems, *_live(chosen, services, parse(content, file))]
        compared = router_check.summary(chosen, len(services))
        return Verdict(file, whose.name, True, compared, problems)
    return Verdict(file, whose.name, True, whose.describe(chosen), problems)


def text(verdict: Verdict) -> str:
    """As the daemon's own `check` prints it."""
    return worded(verdict.problems, verdict.summary) if verdict.ok else report(verdict.problems)


def as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "file": verdict.file,
        "kind": verdict.kind,
        "ok": verdict.ok,
        "summary": verdict.summary,
        "problems": [problem_json(one) for one in verdict.problems],
    }


def problem_json(problem: Problem) -> dict[str, Any]:
    table: dict[str, Any] = to_builtins(problem)
    return {
        key: table[key]
        for key in ("severity", "text", "file", "line", "column", "effect", "fix", "path")
    }


def _live(config: Any, services: list[Service], document: Document) -> list[Problem]:
    return router_check.live(config, services, document)


async def _registered(place: Place, out: Output) -> list[Service] | None:
    """What the router knows from its registry; None, told aside, where nobody answers: the fleet's
    state is no fault of the file.
    """
    try:
        async with Client(place.token) as client:
            table = await client.get(f"{place.url}/services?type=any", RouterServices)
    except CtlError as why:
        out.aside(f"not compared with the fleet: {why.what}" + (f": {why.why}" if why.why else ""))
        return None
    return [record(one) for one in table.services if one.source == "registry"]


def record(one: RouterService) -> Service:
    """A service as its registry has it, as far as the router tells."""
    known = {health.value for health in Health}
    return Service(
        name=one.name,
        host=one.host,
        port=one.port,
        hostname=one.host,
        url=one.url,
        status=one.status,
        timestamp=one.last_heartbeat or "",
        last_heartbeat=one.last_heartbeat or "",
        health_status=Health(one.health_status if one.health_status in known else "unknown"),
        is_healthy=one.healthy,
        weight=one.weight,
        metadata=one.metadata,
        instance_id=one.instance_id,
        reasons=tuple(Reason(each.get("code", ""), each.get("text", "")) for each in one.reasons),
        draining=one.draining,
    )
