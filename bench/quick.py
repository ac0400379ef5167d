"""`python -m bench.quick`: CPU per JSON request and per streamed event, side by side in one run.

The server under test has one core; load and engines share another. Each round measures every
server in turn, so that what else the machine does falls on all alike. What counts are the ratios.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import uvloop
from msgspec import Struct

from bench import cpu
from bench.figures import spread, table, tail, verdict
from bench.load import LoadError, Result, request, run_json, run_streams
from bench.servers import (
    GATED,
    MODEL,
    Server,
    direct,
    missing_programs,
    start_engine,
    start_nginx,
    start_router,
)
from tests.support.processes import Processes

OUT = Path(__file__).parent / "out" / "quick.json"
#: What the relay may cost beside nginx (docs/benchmarks.md).
BUDGETS = {"json": 2.0, "sse": 1.15}
UNITS = {"json": "request", "sse": "event"}
#: More than one engine, so that there is something to choose.
ENGINES = 2
#: Above this share of the tested core for others, a run says that it was disturbed.
OTHERS_MAX = 0.1
#: An engine's answer adds role, finish and [DONE] to its tokens.
EVENTS_BESIDE_TOKENS = 3


class Plan(Struct, frozen=True, kw_only=True):
    """How much of what. Concurrency as of a busy small fleet; the pace is 200 tokens a second."""

    rounds: int = 5
    requests: int = 12_000
    connections: int = 32
    streams: int = 64
    tokens: int = 300
    pace_ms: float = 5.0
    #: Measure ours with a key and limits as well.
    gate: bool = False


class Measured(Struct, frozen=True, kw_only=True):
    """One round of one kind on one server. `cpu_us` is per request or event; None without pid.

    `others` is the share of the tested core that went to neither the server nor idling.
    """

    cpu_us: float | None
    others: float
    per_s: float
    p50_ms: float
    p99_ms: float


async def measure(server: Server, core: int, kind: str, plan: Plan) -> Measured:
    used, busy = _used(server), cpu.core_busy_s(core)
    result = await _load(server, kind, plan)
    used, busy = _used(server) - used, cpu.core_busy_s(core) - busy
    times = tail(result.latencies_ms)
    return Measured(
        cpu_us=used / result.done * 1e6 if server.pid else None,
        others=max(0.0, busy - used) / result.wall_s,
        per_s=result.done / result.wall_s,
        p50_ms=times.p50,
        p99_ms=times.p99,
    )


def _used(server: Server) -> float:
    return cpu.used_s(server.pid) if server.pid else 0.0


async def _load(server: Server, kind: str, plan: Plan) -> Result:
    if kind == "json":
        payload = request(MODEL, stream=False, key=server.key)
        return await run_json(server.json_port, payload, plan.requests, plan.connections)
    payload = request(
        MODEL,
        stream=True,
        key=server.key,
        headers={"x-mock-tokens": str(plan.tokens), "x-mock-pace-ms": f"{plan.pace_ms:g}"},
    )
    events = plan.tokens + EVENTS_BESIDE_TOKENS
    return await run_streams(server.stream_port, payload, plan.streams, events, plan.pace_ms / 1000)


async def run(plan: Plan, folder: Path) -> dict[str, dict[str, list[Measured]]]:
    """Kind, server, rounds."""
    tested, others = cpu.two_cores()
    os.sched_setaffinity(0, {others})
    processes = Processes(folder)
    try:
        engines = [await start_engine(processes, others, f"engine-{i}") for i in range(ENGINES)]
        servers = [
            direct(engines),
            await start_nginx(processes, tested, engines),
            await start_router(processes, tested, engines),
        ]
        if plan.gate:
            servers.append(await start_router(processes, tested, engines, gate=True))
        warm = Plan(requests=1_500, connections=plan.connections, streams=8, tokens=30, pace_ms=1)
        for server in servers:
            for kind in UNITS:
                await measure(server, tested, kind, warm)
        found: dict[str, dict[str, list[Measured]]] = {
            kind: {server.name: [] for server in servers} for kind in UNITS
        }
        for number in range(plan.rounds):
            turn = number % len(servers)
            for kind in UNITS:
                for server in servers[turn:] + servers[:turn]:  # nobody is always the first
                    measured = await measure(server, tested, kind, plan)
                    found[kind][server.name].append(measured)
                    say(f"round {number + 1} of {plan.rounds}: {kind} {server.name}")
        for server in servers:
            if server.pid:
                say(f"{server.name} holds {cpu.resident_mb(server.pid):.0f} MB")
        return found
    finally:
        processes.close()


def ratios(rounds: dict[str, list[Measured]], ours: str = "creche") -> list[float]:
    """Ours to nginx, round by round: both saw the same machine."""
    pairs = zip(rounds[ours], rounds["nginx"], strict=True)
    return [mine.cpu_us / theirs.cpu_us for mine, theirs in pairs if mine.cpu_us and theirs.cpu_us]


def report(found: dict[str, dict[str, list[Measured]]]) -> str:
    lines = []
    for kind, rounds in found.items():
        rows = []
        for name, measured in rounds.items():
            used = [one.cpu_us for one in measured if one.cpu_us is not None]
            rows.append(
                [
                    name,
                    *_three(used),
                    f"{median(one.per_s for one in measured):,.0f}",
                    f"{median(one.p50_ms for one in measured):.2f}",
                    f"{median(one.p99_ms for one in measured):.2f}",
                    f"{median(one.others for one in measured):.0%}",
                ]
            )
        head = [
            kind,
            "CPU µs min",
            "median",
            "max",
            f"{UNITS[kind]}s/s",
            "p50 ms",
            "p99 ms",
            "others",
        ]
        lines.append(table(head, rows))
        for ours in ("creche", GATED):
            if ours in rounds:
                three = spread(ratios(rounds, ours))
                lines.append(
                    f"\n  {kind}: {ours} / nginx = {three.median:.2f}  (rounds: {three.min:.2f} to "
                    f"{three.max:.2f}; budget {BUDGETS[kind]:g}: "
                    f"{verdict(three.median, BUDGETS[kind])})\n"
                )
    return "\n".join(lines)


def disturbance(found: dict[str, dict[str, list[Measured]]]) -> str | None:
    """A sentence when others had so much of the tested core that the ratios say little."""
    shares = [one.others for rounds in found.values() for many in rounds.values() for one in many]
    if median(shares) <= OTHERS_MAX:
        return None
    return (
        f"  Others had {median(shares):.0%} of the tested core: caches went cold between requests, "
        "and that costs\n  the larger program more. Run this again on a quiet machine."
    )


def _three(values: list[float]) -> list[str]:
    if not values:
        return ["–"] * 3
    three = spread(values)
    return [f"{value:.1f}" for value in (three.min, three.median, three.max)]


def write_out(plan: Plan, found: dict[str, dict[str, list[Measured]]]) -> None:
    OUT.parent.mkdir(exist_ok=True)
    table_ = {
        "plan": {name: getattr(plan, name) for name in plan.__struct_fields__},
        "disturbed": disturbance(found) is not None,
        "ratio_to_nginx": {
            kind: {"median": median(ratios(rounds)), "rounds": ratios(rounds)}
            for kind, rounds in found.items()
        },
        "budgets": BUDGETS,
        "rounds": {
            kind: {
                name: [{k: getattr(one, k) for k in one.__struct_fields__} for one in measured]
                for name, measured in rounds.items()
            }
            for kind, rounds in found.items()
        },
    }
    OUT.write_text(json.dumps(table_, indent=1) + "\n")


def say(text: str) -> None:
    print(f"  … {text}", file=sys.stderr, flush=True)


def main() -> int:
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m bench.quick", description=__doc__)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--requests", type=int, default=default.requests)
    parser.add_argument("--tokens", type=int, default=default.tokens)
    parser.add_argument("--gate", action="store_true", help="ours with a key and limits as well")
    parser.add_argument("--strict", action="store_true", help="exit 1 when over budget")
    args = parser.parse_args()
    if packages := missing_programs():
        print(f"missing programs. Run:  apt-get install -y {' '.join(packages)}", file=sys.stderr)
        return 1
    plan = Plan(rounds=args.rounds, requests=args.requests, tokens=args.tokens, gate=args.gate)
    with tempfile.TemporaryDirectory(prefix="creche-bench-") as folder:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(run(plan, Path(folder)))
        except (LoadError, RuntimeError) as why:
            print(f"the benchmark is void: {why}", file=sys.stderr)
            return 1
    write_out(plan, found)
    print(report(found))
    if disturbed := disturbance(found):
        print(disturbed)
    print(f"  The ratios are the result; absolute times hold for this machine alone. {OUT}")
    over = [kind for kind in UNITS if median(ratios(found[kind])) > BUDGETS[kind]]
    return 1 if args.strict and over else 0


if __name__ == "__main__":
    sys.exit(main())
