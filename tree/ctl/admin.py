"""The router's /admin paths: what configuration is in force, and orders about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from common.wire.router import ReloadAnswer, ReloadRefusal, RouterConfig
from ctl import files
from ctl.client import Client
from ctl.errors import CtlError, Exit, RefusedError, UnreachableError
from ctl.find import Place
from ctl.output import Output

T = TypeVar("T")
#: A reload reads files, and checks every key and pattern.
RELOAD_S = 60.0


class RefusedReload(CtlError):
    """The router keeps what it has. `refusal` says what is wrong with the other."""

    def __init__(self, refusal: ReloadRefusal) -> None:
        super().__init__(refusal.error, "", "", Exit.PROBLEMS)
        self.refusal = refusal


async def in_force(place: Place) -> RouterConfig:
    """What the router runs with. Raises CtlError."""
    async with Client(place.token) as client:
        try:
            return await client.get(f"{place.url}/admin/config", RouterConfig)
        except RefusedError as why:
            raise _explained(why, place) from why


async def order(place: Place, verb: str, body: dict[str, Any] | None = None) -> ReloadAnswer:
    """`reload` or `rollback`. Raises RefusedReload where nothing has changed, CtlError."""
    async with Client(place.token) as client:
        try:
            return await client.post(f"{place.url}/admin/{verb}", ReloadAnswer, RELOAD_S, body=body)
        except RefusedError as why:
            raise _explained(why, place) from why


@contextmanager
def explaining(place: Place) -> Iterator[None]:
    """A refusal of an operator's path, in words that say what to do."""
    try:
        yield
    except RefusedError as why:
        raise _explained(why, place) from why


def _explained(why: RefusedError, place: Place) -> CtlError:
    try:
        return RefusedReload(msgspec.json.decode(why.body, type=ReloadRefusal))
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    if why.status == 404 and "/admin/" in why.what:
        return CtlError(
            f"{place.url} has no operator's paths",
            "the router has another address for them (control_listen), or is of an older version",
            "Name that address:  creche --url http://HOST:PORT …",
        )
    return why


def refused(end: RefusedReload, out: Output) -> Exit:
    """Tell it as `check` would."""
    if out.json:
        out.value(end.refusal)
    else:
        report = end.refusal.report.strip()
        out.lines([*([report, ""] if report else []), f"{out.paint.mark('✗')} {end.refusal.error}"])
    return Exit.PROBLEMS


def told(answer: ReloadAnswer, out: Output) -> Exit:
    """What an order did."""
    if out.json:
        out.value(answer)
    else:
        out.lines(lines(answer, out))
    return Exit.WELL


def lines(answer: ReloadAnswer, out: Output) -> list[str]:
    mark = out.paint.mark
    which = f" to version {answer.version}" if answer.status == "rolled back" else ""
    number = f"   version {answer.version}" if answer.version is not None and not which else ""
    found = [warning for text in answer.warnings for warning in (*text.splitlines(), "")]
    found.append(f"{mark('✓')} {answer.status}{which}{number}")
    if answer.changed:
        found.append(f"    changed   {', '.join(answer.changed)}")
    elif answer.needs_restart:
        found.append("    changed   nothing that is in force")
    else:
        found.append("    nothing changed")
    if answer.needs_restart:
        found.append(f"  {mark('!')} only a restart changes   {', '.join(answer.needs_restart)}")
    found += [f"  {mark('!')} {note}" for note in answer.notes]
    if answer.rejected_file:
        found.append(f"    the file before is kept as   {answer.rejected_file}")
    if answer.undo_after_s:
        found.append(
            f"    undone after {answer.undo_after_s:g} s if the one before would serve and this "
            "does not"
        )
    return found


async def file_of(place: Place) -> Path:
    """The router's file on this machine: what it says it runs with, else the usual place.

    Raises CtlError.
    """
    why = ""
    try:
        said = (await in_force(place)).file
    except UnreachableError as end:
        said, why = None, f"{end.what}, so it cannot tell its own"
    except CtlError as end:
        said, why = None, f"{end.what}: {end.why}"
    if said and files.is_here(place.url):
        if files.is_there(Path(said)):
            return Path(said)
        why = f"the router says {said}, which is not here"
    elif said:
        why = f"the router at {place.url} runs with {said}, on another machine"
    if files.is_there(files.ROUTER_FILE):
        return files.ROUTER_FILE
    raise CtlError(
        f"which file? {files.ROUTER_FILE} is not there", why, "Name it:  --file FILE", Exit.USAGE
    )
