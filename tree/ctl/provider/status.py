"""A provider's status in the router's file."""

import argparse
import difflib

from common.config import has_errors
from ctl import change, edit
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.kinds import ROUTER
from ctl.output import Output
from ctl.provider.dangling import STEPS_MAX, Step, in_order, next_step


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

    if status != "active":
        steps = _steps(put(file.text), file.text, args.name)
        if steps and not (args.force and all(one.in_chain for one in steps)):
            raise _needed(args.name, str(file.path), steps, forced=args.force)

        def put_all(text: str) -> str:
            text = put(text)
            for step in steps:
                text = step.apply(text)
            return text

        return await change.run(args, place, out, file, put_all)
    return await change.run(args, place, out, file, put)


def _steps(text: str, before: str, name: str) -> list[Step]:
    """What must go before the provider can, in the order in which it goes. None: the file has no
    errors with it off, or others that no such step mends: then the check says what is wrong."""
    steps: list[Step] = []
    while len(steps) < STEPS_MAX:
        config, problems = ROUTER.judge(text, "")
        if config is None or not has_errors(problems):
            return in_order(steps) if config is not None else []
        try:
            step = next_step(config, before, name)
            text = step.apply(text) if step else text
        except edit.EditError:
            return []
        if step is None:
            return []
        steps.append(step)
    return []


def _needed(name: str, file: str, steps: list[Step], *, forced: bool) -> CtlError:
    """In the way: each place with the command that takes it out."""
    entries = [one for one in steps if not one.in_chain]
    lines = [line for one in steps for line in (one.place, f"    {one.command}")]
    verb = f"creche provider disable {name}"
    if not entries:
        fix = f"All at once:  {verb} --force   (with --dry-run it only shows what would change)"
    elif forced:
        fix = (
            "--force takes models out of chains alone: what has no other target is yours to decide"
        )
    else:
        fix = f"In this order, then again:  {verb}"
    places = f"{len(steps)} place{'s' * (len(steps) != 1)}"
    return CtlError(f"{name} is still needed at {places} of {file}", "\n".join(lines), fix)


def unknown(name: str, known: list[str], file: str) -> CtlError:
    near = difflib.get_close_matches(name, known, n=1)
    return CtlError(
        f"{file} has no provider {name!r}",
        f"it has  {'  '.join(known)}" if known else "it has none",
        f"did you mean  {near[0]}?" if near else "",
    )
