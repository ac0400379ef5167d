"""One run: the fleet, the load, the faults, and then the account."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct, field

from common import tasks
from tests.faults.chaos import ending
from tests.faults.chaos.arena import Arena, service
from tests.faults.chaos.clients import CLIENTS, Clients
from tests.faults.chaos.driver import Driver
from tests.faults.chaos.ledger import Account, Wrong, judge
from tests.faults.chaos.plan import Fault, schedule
from tests.faults.chaos.watcher import Watcher
from tests.support.until import until

WRONG_SHOWN = 12
LOG_LINES_SHOWN = 6


class Report(Struct):
    seed: int
    plan: list[Fault]
    account: Account
    faults: dict[str, int]
    missed: dict[str, int]
    starts: int
    lives: int
    view_s: float
    seconds: float
    #: What did not hold at the end, besides the account's.
    wrong: list[str] = field(default_factory=list)
    #: Of the requests that are wrong, what the logs say.
    logs: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.wrong and not self.account.wrong

    def __str__(self) -> str:
        account = self.account
        said = [
            f"seed {self.seed}: {account.requests} requests in {self.seconds:.0f} s of faults",
            f"  became    {_counts(account.became)}",
            f"  errors    {_counts(account.statuses) or 'none'}",
            f"  retried   {account.retried}; unwritten by a killed router {account.unwritten}",
            f"  faults    {_counts(self.faults)}",
            f"  missed    {_counts(self.missed) or 'none'}",
            f"  starts    {self.starts} of engines; {self.lives} lives of daemons",
            f"  views     equal {self.view_s * 1000:.0f} ms after the last change",
        ]
        if not self.good:
            said.append("the schedule:")
            said += [f"  {one}" for one in self.plan]
            said.append(f"WRONG: {len(account.wrong)} requests, {len(self.wrong)} things besides")
            said += [f"- {one}" for one in self.wrong]
            said += [f"- {one}" for one in account.wrong[:WRONG_SHOWN]]
            said += self.logs
        return "\n".join(said)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


async def run(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    every_s: float = 2.0,
    clients: int = CLIENTS,
    shared: bool = False,
) -> Report:
    """`seconds` of faults under load, then what must hold. Nothing outlives it. `shared`: with two
    registries on one Redis."""
    arena = Arena(folder, shared=shared)
    try:
        await arena.open()
        plan = schedule(seed, seconds, arena.targets(), every_s=every_s)
        return await _run(arena, plan, seed, seconds, clients)
    finally:
        await arena.close()


async def _run(
    arena: Arena, plan: Sequence[Fault], seed: int, seconds: float, count: int
) -> Report:
    wrong = await ending.all_runs_again(arena)
    assert not wrong, wrong
    watcher = Watcher(arena)
    driver = Driver(arena, watcher)
    clients = Clients(arena, seed, count)
    watching = tasks.spawn(watcher.run(), name="watcher")
    load = tasks.spawn(clients.run(), name="clients")
    began = time.monotonic()
    try:
        await driver.run(plan)
        wrong += await ending.all_runs_again(arena)
        try:
            await until(lambda: not watcher.still_unwell, 60.0)
        except AssertionError:
            wrong.append(f"mended, and still not used: {watcher.still_unwell}")
            wrong += await ending.what_is_said(arena)
    finally:
        clients.stop()
        await load
        await tasks.cancel(watching)
    wrong += await ending.nothing_is_held(arena)
    found, view_s = await ending.views_are_the_registrys(arena)
    wrong += found
    wrong += await ending.all_end(arena)
    wrong += ending.no_double_start(arena)
    wrong += ending.logs_are_clean(arena)
    account = judge(
        sorted(clients.entries, key=lambda entry: entry.sent),
        ending.access_lines(arena),
        rules=arena.rules(),
        unwell=watcher.unwell,
        down=watcher.down,
    )
    return Report(
        seed,
        list(plan),
        account,
        driver.done,
        driver.missed,
        len(arena.starts()),
        ending.lives(arena),
        view_s,
        seconds,
        wrong,
        _logs(arena, account.wrong[:WRONG_SHOWN], began),
    )


def _logs(arena: Arena, wrong: Sequence[Wrong], began: float) -> list[str]:
    """What the fleet wrote of these requests: when it was sent, and every line with its id."""
    found: list[str] = []
    for one in wrong:
        if one.entry is None:
            continue
        sent, ended = one.entry.sent - began, one.entry.ended - began
        found.append(f"{one.entry.id}: from {sent:.2f} s to {ended:.2f} s")
        for process in arena.fleet.processes.all:
            lines = [line for line in process.log.splitlines() if f"{one.entry.id}" in line]
            found += [
                f"    {process.log_path.name}: {line[:300]}" for line in lines[:LOG_LINES_SHOWN]
            ]
        for engine in arena.engines:
            for path in sorted(arena.engine_folder(engine).glob("engine.log*")):
                lines = path.read_text(errors="replace").splitlines()
                found += [
                    f"    {service(engine)}: {line[:300]}"
                    for line in lines
                    if f"id={one.entry.id} " in line
                ]
    return found


async def main(folder: Path, seed: int, minutes: float, every_s: float, shared: bool) -> bool:
    """Prints the schedule's seed first, so that a run that is cut short can be repeated."""
    print(f"seed {seed}, {minutes:g} minutes, in {folder}", flush=True)
    report = await run(folder, seed=seed, seconds=minutes * 60, every_s=every_s, shared=shared)
    print(report, flush=True)
    return report.good


def by_hand(folder: Path, seed: int, minutes: float, every_s: float, shared: bool) -> bool:
    return asyncio.run(main(folder, seed, minutes, every_s, shared))
