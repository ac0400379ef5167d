"""Engines of an earlier config that this one names no more: drained and stopped, never kept.

deregistered ─▶ what is in flight ends, up to its drain_timeout_s ─▶ stopped, all of it
"""

import asyncio
import sys
from pathlib import Path

import aiohttp

from babysitter import readiness, shim_client, store
from babysitter.kinds import KINDS, Given, Probe
from babysitter.probe import Prober
from babysitter.settings import Settings
from babysitter.shim_client import EngineExit, ShimError, ShimHandle
from babysitter.watch import SETTLE_S
from common import logs, tasks

_log = logs.get("babysitter")

#: What a file of an earlier version does not tell: how long its processes have after TERM.
STOP_GRACE_S = 10.0


def names(state: Path, known: set[str]) -> list[str]:
    """Whose folders are there though nobody in `known` is called so."""
    folder = state / "engines"
    found = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    return [one for one in found if one not in known]


async def end(
    name: str,
    folder: Path,
    runtime: Path,
    stored: store.Remembered | None,
    http: aiohttp.ClientSession,
    hurry: asyncio.Event,
) -> None:
    """Its record is gone already. `hurry` cuts the draining short. Cancelled, it runs on."""
    try:
        found = await shim_client.adopt(folder, runtime)
    except ShimError:
        found = EngineExit(lost=True)
    if isinstance(found, EngineExit) and found.lost:
        await shim_client.sweep_orphans(folder)
    if not isinstance(found, ShimHandle):
        return
    left = stored.serving if stored is not None else None
    try:
        if left is not None:
            _log.warning("draining: the config does not name it any more", engine=name)
            await _drained(name, left, http, hurry)
        await found.stop(left.stop_grace_s if left is not None else STOP_GRACE_S)
        await found.release()
        _log.warning("stopped: the config does not name it any more", engine=name)
    finally:
        await found.close()


async def _drained(
    name: str, left: store.Serving, http: aiohttp.ClientSession, hurry: asyncio.Event
) -> None:
    """Until nothing is in flight, its time is over, or `hurry`."""
    settings, probe = _as_it_was(name, left)
    prober = Prober(http, left.host, left.port, probe, ())
    drained = tasks.spawn(readiness.until_drained(prober, settings, SETTLE_S), f"drain of {name}")
    hurried = tasks.spawn(_when(hurry), f"hurry of {name}")
    try:
        await asyncio.wait(
            [drained, hurried], timeout=left.drain_timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        await tasks.cancel(drained, hurried)


async def _when(event: asyncio.Event) -> None:
    await event.wait()


def _as_it_was(name: str, left: store.Serving) -> tuple[Settings, Probe]:
    """As far as its draining is concerned. A kind that is none any more is judged by traffic."""
    given = Given(
        name=name,
        host=left.host,
        port=left.port,
        python=sys.executable,
        model="-",
        command=("-",),
        config_file="-",
    )
    kind = KINDS.get(left.kind)
    probe = kind.plan(given).probe if kind is not None else Probe()
    return Settings(given=given, kind=left.kind, drain_idle_s=left.drain_idle_s), probe
