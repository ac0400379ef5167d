"""`creche restart SERVICE…`, `creche restart --rolling MODEL`: engines anew, one after the other.

for each: enough others ready ─▶ drain mark ─▶ requests end ─▶ its babysitter restarts it ─▶ READY
          ─▶ the router knows this life ─▶ undrain ─▶ the router sends to it ─▶ the next
However it ends, no mark of ours stays.
"""

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from common.clock import monotonic
from common.wire.babysitter import Engine
from common.wire.router import RouterService, RouterServices
from ctl import durations, engine, leaving, roll
from ctl.client import Client
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.fleet import look
from ctl.judge import plural
from ctl.marks import ASK_S, Counts, Ending, engine_url, mark
from ctl.output import Output
from ctl.roll import Roll
from ctl.views import EngineView

HELP = "restart engines one after the other, each drained first"
MORE = """\
Each one: drained (up to --limit), restarted by its babysitter, and only when the router sends to
it again the next one's turn comes. It never begins with one where fewer than --min others of its
model would be ready (default: all others); a model's only engine wants --force. It stops at the
first that does not come back. Ctrl-C undrains the current one and tells what was not done.

Exit status: 0 all are back, 1 refused, or one did not come back.

Examples:
  creche restart coder@gpu-03
  creche restart --rolling qwen3-coder         after an upgrade of vLLM
  creche restart --rolling qwen3-coder --min 2 --limit 30m
"""
TOLD_EVERY_S = 2.0
Look = Callable[[list[RouterService]], bool]


class Restarted(Struct, frozen=True, kw_only=True):
    """`left`: requests that went on when the limit was over. `pid` is the new one."""

    service: str
    left: int
    drained_s: float
    took_s: float
    pid: int | None


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="SERVICE", nargs="*", help="NAME or NAME@HOST")
    parser.add_argument("--rolling", metavar="MODEL", help="every engine that serves this model")
    parser.add_argument(
        "--min",
        metavar="N",
        type=_count,
        dest="minimum",
        help="so many engines stay ready (default: all but one)",
    )
    parser.add_argument(
        "--limit",
        metavar="TIME",
        type=durations.seconds,
        default=600.0,
        help="wait this long for an engine's requests to end (default 10m)",
    )
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=durations.seconds,
        default=1800.0,
        help="wait this long until an engine serves again (default 30m)",
    )
    parser.add_argument("--force", action="store_true", help="even if a model has no engine then")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(text)
    return int(text)


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    if bool(args.names) == bool(args.rolling):
        raise CtlError("whom?", "services, or --rolling MODEL for all of a model", "", Exit.USAGE)
    if args.minimum is not None and not args.rolling:
        raise CtlError("--min goes with --rolling MODEL", "", "", Exit.USAGE)
    async with Client(place.token, place.tls) as client:
        fleet = await look(client, place.url)
        marked = {one.name: one.draining for one in leaving.records(fleet)}
        chosen = (
            roll.of_model(fleet, args.rolling, args.minimum, force=args.force)
            if args.rolling
            else roll.of_services(fleet, args.names, force=args.force)
        )
        roll.refuse_now(chosen, fleet.services.services)
        if not out.json and args.rolling:
            out.line(_heading(args.rolling, chosen))
        rolling = _Rolling(client, place.url, fleet.registry_url or "", chosen, marked, args, out)
        return await rolling.run()


def _heading(model: str, chosen: Roll) -> str:
    floor = chosen.floors[model]
    kept = "" if chosen.forced else f"; at least {floor} others ready all the time"
    skipped = f"; not {', '.join(chosen.skipped)}" if chosen.skipped else ""
    return f"{model}: {plural(len(chosen.engines), 'engine')}, one after the other{kept}{skipped}"


class _Rolling:
    """One restart of several engines, in order."""

    def __init__(
        self,
        client: Client,
        router: str,
        registry: str,
        chosen: Roll,
        marked: dict[str, bool],
        args: argparse.Namespace,
        out: Output,
    ) -> None:
        self._client = client
        self._router = router
        self._registry = registry
        self._roll = chosen
        self._marked = marked
        self._args = args
        self._out = out
        self._ordered = False

    async def run(self) -> Exit:
        """Raises CtlError at the first that does not come back."""
        engines = self._roll.engines
        for at, one in enumerate(engines):
            try:
                await self._enough(one)
                self._tell(await self._anew(one), at)
            except asyncio.CancelledError:
                self._out.aside(f"Interrupted. {self._cleared(one)}{self._rest(engines[at + 1 :])}")
                raise
            except CtlError as end:
                rest = self._rest(engines[at + 1 :])
                end.fix = "\n".join(part for part in (end.fix, rest.strip()) if part)
                raise
        return Exit.WELL

    async def _enough(self, one: EngineView) -> None:
        """Wait until the others suffice."""

        def suffice(services: list[RouterService]) -> bool:
            return self._roll.short(one, services) is None

        said = False
        deadline = monotonic() + self._args.timeout
        while not suffice(services := await self._services()):
            short = self._roll.short(one, services)
            assert short is not None
            model, others, floor = short
            text = f"{others} others of {model} are ready, {floor} must be"
            if monotonic() >= deadline:
                raise CtlError(
                    f"{one.service} was not restarted: {text}",
                    f"waited {durations.told(self._args.timeout)}",
                    "Which, and why:  creche status      Fewer will do:  --min N",
                )
            if not said:
                said = True
                self._out.aside(f"  … {one.service} waits: {text}")
            await asyncio.sleep(ASK_S)

    async def _anew(self, one: EngineView) -> Restarted:
        began = monotonic()
        self._ordered = False
        url = engine_url(one)
        assert url is not None
        mine = self._marked.get(one.service) is False  # the operator's own mark stays
        try:
            if mine:  # in here: where its answer is not heard it may be there
                await mark(self._client, self._registry, one.service, on=True)
            life = next(
                (r.instance_id for r in await self._services() if r.name == one.service), None
            )
            left = await self._drain(one, url) if one.service in self._marked else 0
            drained_s = monotonic() - began
            now = await self._restart(one, url)
            if mine:
                await self._until(_known(one.service, life), f"{one.service} is {now.state}", url)
        finally:
            if mine:
                await self._undrain(one)
        if mine:
            await self._until(_serves(one.service), f"{one.service} is {now.state}", url)
        took_s = monotonic() - began
        return Restarted(
            service=one.service,
            left=left,
            drained_s=round(drained_s, 3),
            took_s=round(took_s, 3),
            pid=now.pid,
        )

    async def _drain(self, one: EngineView, url: str) -> int:
        ending = Ending(self._client, self._router, [one.service], {one.service: url})
        if not await ending.seen():
            raise CtlError(
                f"{self._router} does not hear of the mark of {one.service}",
                f"it was set at {self._registry}",
                "Does the router follow that registry?  creche status",
            )
        said: list[Any] = [monotonic(), 0]

        def told(counts: Counts) -> None:
            left = counts[one.service]
            if left and left != said[1] and monotonic() - said[0] >= TOLD_EVERY_S:
                said[:] = [monotonic(), left]
                self._out.aside(f"  … {one.service}  {left} left")

        counts = await ending.until_none_left(self._args.limit, told)
        return counts[one.service]

    async def _restart(self, one: EngineView, url: str) -> Engine:
        """Back and READY. Raises CtlError."""
        before = await self._client.get(url, Engine)
        await self._client.post(f"{url}/restart", dict[str, Any])
        self._ordered = True
        self._out.aside(f"  … {one.service}  restarts")
        return await engine.until_done(self._client, url, "restart", before, self._args.timeout)

    async def _until(self, look: Look, what: str, url: str) -> None:
        deadline = monotonic() + self._args.timeout
        while not look(services := await self._services()):
            if monotonic() >= deadline:
                name = url.rpartition("/")[2]
                reasons = [
                    why.get("text", "")
                    for one in services
                    if one.name.partition("@")[0] == name
                    for why in one.reasons
                ]
                raise CtlError(
                    f"{what}, but the router does not send to it",
                    "; ".join(filter(None, reasons)),
                    "Why:  creche services   creche status",
                )
            await asyncio.sleep(ASK_S / 5)

    async def _services(self) -> list[RouterService]:
        return (await self._client.get(f"{self._router}/services", RouterServices)).services

    async def _undrain(self, one: EngineView) -> None:
        """However the restart went: whatever comes up should serve."""
        try:
            await mark(self._client, self._registry, one.service, on=False)
        except CtlError as why:
            self._out.aside(
                f"! {one.service} may still be drained ({why.what}); once the registry answers:  "
                f"creche undrain {one.service}"
            )

    # words

    def _tell(self, done: Restarted, at: int) -> None:
        if self._out.json:
            self._out.json_line(done)
            return
        left = f"{plural(done.left, 'request')} cut short after the limit, " if done.left else ""
        mark = self._out.paint.mark("!" if done.left else "✓")
        self._out.line(
            f"{mark} {at + 1}/{len(self._roll.engines)}  {done.service}   "
            f"drained in {done.drained_s:.1f} s, {left}serves again after {done.took_s:.1f} s"
        )

    def _cleared(self, one: EngineView) -> str:
        if self._ordered:
            return f"{one.service} is being restarted, and serves once it is READY (not drained)."
        return f"{one.service} was not restarted, and takes requests again."

    def _rest(self, engines: tuple[EngineView, ...]) -> str:
        if not engines:
            return ""
        names = " ".join(one.service for one in engines)
        return f" Not touched:  {names}   Go on with:  creche restart {names}"


def _known(service: str, former: str | None) -> Look:
    """The router knows another life than `former`, and nothing but our mark keeps it away."""

    def look(services: list[RouterService]) -> bool:
        return any(
            one.name == service
            and one.instance_id != former
            and one.status == "running"
            and all(why.get("code") == "draining" for why in one.reasons)
            for one in services
        )

    return look


def _serves(service: str) -> Look:
    return lambda services: any(one.name == service and leaving.serves(one) for one in services)
