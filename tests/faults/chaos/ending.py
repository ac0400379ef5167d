"""What must hold when every fault is mended: all runs again, nothing is held, lost or left over."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from tests.faults.chaos.arena import ROUTERS, SITTERS, Arena, decoded, service
from tests.faults.chaos.ledger import Line
from tests.support.fleet import Part, ask
from tests.support.until import until

#: Backoff, start-up and a readiness probe of each engine, on a busy machine.
MENDED_S = 120.0
#: Two seconds as the design says, of the registry's last change; the report tells how many. Longer
#: is never.
VIEW_S = 30.0
#: Counts that go to zero by themselves, processes that end.
REST_S = 30.0
#: What both sides must say alike of a service.
ALIKE = ("host", "port", "status", "instance_id", "weight", "draining")
ODD = re.compile(r"Traceback|AssertionError|never retrieved|was never awaited")

Wrongs = list[str]
T = TypeVar("T")


async def all_runs_again(arena: Arena) -> Wrongs:
    """Every daemon lives, every engine is ready, and every router uses it."""
    wrong = [
        f"{part.name} has ended by itself: {part.process.tail()}"
        for part in arena.fleet.parts.values()
        if not part.process.alive
    ]
    if wrong:
        return wrong
    for name, part in arena.sitters.items():
        try:
            await until(lambda part=part: _ask(part, "/health", 200), MENDED_S)
        except AssertionError:
            wrong.append(f"{name} is stuck: {await asyncio.to_thread(part.get, '/health')}")
    names = {service(engine) for engine in arena.engines}
    for router in arena.routers.values():
        try:
            await until(lambda router=router: _uses(router, names), MENDED_S)
        except AssertionError:
            wrong.append(
                f"{router.name} does not use all: {_brief(await _services(router))}, "
                f"{await asyncio.to_thread(router.get, '/health')}"
            )
    return wrong


async def _ask(part: Part, path: str, status: int) -> bool:
    found, _ = await asyncio.to_thread(ask, part.url + path)
    return found == status


async def _services(part: Part) -> dict[str, dict[str, Any]]:
    found = await asyncio.to_thread(part.get, "/services")
    return {one["name"]: one for one in found["services"]}


async def _uses(router: Part, names: set[str]) -> bool:
    found = await _services(router)
    return all(name in found and found[name]["healthy"] for name in names)


def _brief(found: dict[str, dict[str, Any]]) -> dict[str, object]:
    return {
        name: (one["healthy"], one["status"], one["set_aside"], one["breaker"], one["reasons"])
        for name, one in found.items()
    }


async def views_are_the_registrys(arena: Arena) -> tuple[Wrongs, float]:
    """A registry changes a record; how long until all say the same of all records."""
    some = service("a1")
    wrong: Wrongs = []
    worst = 0.0
    registries = list(arena.registries.values())
    for verb, asked in (("drain", registries[0]), ("undrain", registries[-1])):
        status, said = await asyncio.to_thread(asked.post, f"/services/{some}/{verb}", None)
        if status != 200:
            wrong.append(f"{verb} of {some}: {status} {said}")
            continue
        changed = time.monotonic()
        try:
            await until(lambda: _alike(arena), VIEW_S, "the routers' views")
        except AssertionError:
            wrong.append(f"{verb}: not alike within {VIEW_S:g} s: {await differences(arena)}")
        worst = max(worst, time.monotonic() - changed)
    return wrong, worst


async def _alike(arena: Arena) -> bool:
    return not await differences(arena)


async def differences(arena: Arena) -> list[str]:
    """Where a router's view is not the registries', or theirs are not alike."""
    found: list[str] = []
    tables = [await _services(one) for one in arena.registries.values()]
    for other in tables[1:]:
        mine, its = _told(tables[0]), _told(other)
        if mine != its:
            found.append(f"one registry says {mine}, another {its}")
    records = {
        name: one
        for name, one in tables[0].items()
        if one["metadata"].get("type", "openai-api") == "openai-api"
    }
    for router in arena.routers.values():
        seen = {n: s for n, s in (await _services(router)).items() if s["source"] == "registry"}
        if seen.keys() != records.keys():
            found.append(f"{router.name}: {sorted(seen)} where there are {sorted(records)}")
        for name in seen.keys() & records.keys():
            mine, its = seen[name], records[name]
            pairs = [(key, mine[key], its[key]) for key in ALIKE]
            pairs.append(("healthy", mine["healthy"], its["is_healthy"]))
            pairs.append(("models", sorted(mine["models"]), sorted(_models(its))))
            found += [
                f"{router.name}: {name} {key} {a!r}, not {b!r}" for key, a, b in pairs if a != b
            ]
    return found


def _told(records: dict[str, dict[str, Any]]) -> dict[str, list[object]]:
    return {
        name: [one[key] for key in (*ALIKE, "revision", "is_healthy")]
        for name, one in records.items()
    }


def _models(record: dict[str, Any]) -> list[str]:
    listed = record["metadata"].get("models_list")
    if listed:
        return (
            [one["id"] for one in listed["data"]]
            if isinstance(listed, dict)
            else [one["id"] for one in listed]
        )
    models: list[str] = record["metadata"].get("models", [])
    return models


async def what_is_said(arena: Arena) -> list[str]:
    """Of each engine, by everyone who should know: its shim, its babysitter, the registry."""
    found: list[str] = []
    records = await _services(next(iter(arena.registries.values())))
    for engine, sitter in arena.engines.items():
        state = arena.state(engine)
        told = await asyncio.to_thread(arena.sitters[sitter].get, f"/engines/{engine}")
        record = records.get(service(engine), {})
        found.append(
            f"{engine}: its shim says {state and (state.pid, state.instance_id)}, its babysitter "
            f"{told['pid'], told['instance_id'], told['state'], told['registered']}, the registry "
            f"{record.get('instance_id'), record.get('is_healthy'), record.get('last_heartbeat')}"
        )
    return found


async def nothing_is_held(arena: Arena) -> Wrongs:
    """The load has ended: every count of what is under way is zero, and the sums are right."""
    wrong: Wrongs = []
    for router in arena.routers.values():
        try:
            await until(lambda router=router: _at_rest(router), REST_S)
        except AssertionError:
            wrong.append(f"{router.name} holds something: {_held(await _stats(router))}")
        stats = await _stats(router)
        parts = ("successful_requests", "failed_requests", "client_errors", "cancelled")
        if stats["total_requests"] != sum(stats[one] for one in parts):
            wrong.append(f"{router.name}: the sums do not agree: {stats}")
    ports = {name: arena.ports[name] for name in [*arena.engines, "far"]}
    for name, port in ports.items():
        url = f"http://127.0.0.1:{port}/mock/stats"
        try:
            await until(lambda url=url: _engine_at_rest(url), REST_S)
        except AssertionError as why:
            wrong.append(f"{name} works for nobody: {why}")
    return wrong


async def _stats(router: Part) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(router.get, "/stats")
    return found


def _held(stats: dict[str, Any]) -> list[str]:
    found = [f"active_streams {stats['active_streams']}"] if stats["active_streams"] else []
    found += [f"{n} {s['in_flight']}" for n, s in stats["services"].items() if s["in_flight"]]
    found += [
        f"{n} {m['in_flight']} + {m['queued']} queued"
        for n, m in stats["models"].items()
        if m["in_flight"] or m["queued"]
    ]
    return found


async def _at_rest(router: Part) -> bool:
    return not _held(await _stats(router))


async def _engine_at_rest(url: str) -> bool:
    _, stats = await asyncio.to_thread(ask, url)
    return stats["in_flight"] == 0 and stats["queued"] == 0


async def all_end(arena: Arena) -> Wrongs:
    """Babysitters take their engines with them; then nothing of the fleet is left."""
    wrong: Wrongs = []
    for name, part in arena.sitters.items():
        status = await asyncio.to_thread(part.stop)
        if status != 0:
            wrong.append(f"{name} ended with {status}")
    wrong += [f"a stray process: {one}" for one in await _left(arena.strays)]
    for part in [*arena.routers.values(), *arena.registries.values()]:
        status = await asyncio.to_thread(part.stop)
        if status != 0:
            wrong.append(f"{part.name} ended with {status}")
    arena.far.terminate()
    if arena.keeping.redis is not None:
        arena.keeping.redis.kill9()
    left = await _left(arena.fleet.processes.survivors)
    return wrong + [f"a process is left: {pid}" for pid in left]


async def _left(ask: Callable[[], list[T]]) -> list[T]:
    """What is there once all had the time to go."""
    try:
        await until(lambda: not ask(), REST_S)
    except AssertionError:
        return ask()
    return []


def no_double_start(arena: Arena) -> Wrongs:
    found = [line for line in arena.starts() if not line.endswith(" -")]
    return [f"started while another of it lived (when, who, pid, others): {one}" for one in found]


def logs_are_clean(arena: Arena) -> Wrongs:
    """No daemon had an error that it did not expect."""
    wrong: Wrongs = []
    for process in arena.fleet.processes.all:
        for line in process.log.splitlines():
            if ODD.search(line):
                wrong.append(f"{process.log_path.name}: {line[:1500]}")
                break
    return wrong


def access_lines(arena: Arena) -> dict[str, list[Line]]:
    """By request id, of all routers in all their lives."""
    found: dict[str, list[Line]] = defaultdict(list)
    for router in ROUTERS:
        for raw in arena.access_lines(router):
            line = decoded(raw, Line)
            if line is not None:
                found[line.id].append(line)
    return found


def lives(arena: Arena) -> int:
    """How many processes of babysitters, routers and registries there were."""
    names = {*arena.registries, *ROUTERS, *SITTERS}
    return sum(one.name in names for one in arena.fleet.processes.all)
