"""Is this process ready? Ours is the socket that listens, it answers, and its models are known.

Never because time passed. What is in the way is told in a sentence, for people who wait.
"""

import asyncio
from dataclasses import dataclass, field

from babysitter import events, ports, processes, traffic
from babysitter.models import Model
from babysitter.probe import NotReady, Prober
from babysitter.settings import Settings
from babysitter.shim_client import ShimHandle

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found: the event to take, the models with a good answer, else why not.

    `mistake`: it will not become ready by waiting; somebody must change something.
    """

    event: events.Answered | events.NotAnswered | events.PortFoundTaken
    models: list[Model] = field(default_factory=list)
    text: str | None = None
    mistake: bool = False


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Routers are on other machines: they know this host as `advertise`, the registry as given."""

    advertise: str
    registry: str


async def look(
    handle: ShimHandle,
    settings: Settings,
    prober: Prober,
    elsewhere: Elsewhere | None,
    *,
    socket_known: bool = False,
) -> Seen:
    """One look at a running engine. `socket_known`: that the socket is ours was just seen."""
    life = handle.instance_id
    if settings.identity == "socket" and not socket_known:
        hindrance = await _not_ours(handle, settings, elsewhere)
        if hindrance is not None:
            return hindrance
    answer = await prober.ask()
    if isinstance(answer, NotReady):
        return _not_yet(life, answer.text)
    return Seen(events.Answered(life), models=answer.models)


async def _not_ours(
    handle: ShimHandle, settings: Settings, elsewhere: Elsewhere | None
) -> Seen | None:
    """None when the engine's own socket listens where it should."""
    life, host, port = handle.instance_id, settings.given.host, settings.given.port
    if await _listens(handle, host, port):
        return None
    if elsewhere is not None and await _listens(handle, LOOPBACK, port):
        return _not_yet(life, bound_to_loopback(host, port, elsewhere), mistake=True)
    holder = await asyncio.to_thread(ports.owner, host, port)
    # It may have begun to listen between our two looks at /proc: look again before judging.
    if holder is not None and not await _listens(handle, host, port):
        text = f"port {port} is taken by {holder}"
        return Seen(events.PortFoundTaken(life, text), text=text)
    return _not_yet(life, f"does not listen on {host}:{port} yet")


def _not_yet(life: str, text: str, *, mistake: bool = False) -> Seen:
    return Seen(events.NotAnswered(life, text), text=text, mistake=mistake)


async def _listens(handle: ShimHandle, host: str, port: int) -> bool:
    return await asyncio.to_thread(processes.listens, handle.shim_pid, port, host)


def loopback_error(port: int, elsewhere: Elsewhere, host: str | None = None) -> str:
    """What, what follows, and the line that settles it. `host`: the engine's own key says so."""
    fix = f'Set  advertise = "{elsewhere.advertise}"  (this host\'s address towards the registry)'
    if host is not None:
        fix += f'\n  and take  host = "{host}"  out of the engine'
    return f"{_unreachable(port, elsewhere)}\n  {fix}."


def bound_to_loopback(host: str, port: int, elsewhere: Elsewhere) -> str:
    """The same, where the config says `host` and the engine does not keep to it."""
    return (
        f"{_unreachable(port, elsewhere)}\n"
        f"  Start it on {host}: in  command  and  args  {{host}} stands for that."
    )


def _unreachable(port: int, elsewhere: Elsewhere) -> str:
    return (
        f"the engine listens on {LOOPBACK}:{port} but the registry is on {elsewhere.registry}; "
        "no router could reach it."
    )


async def until_drained(prober: Prober, settings: Settings, settle_s: float) -> None:
    """Until nothing is in flight: by the engine's own count where it tells, else by what moves on
    its connections, else (where the kernel tells neither) by how many are open.

    `settle_s`: requests sent before routers heard of it are still on their way.
    """
    await asyncio.sleep(settle_s)
    quiet = 0
    while quiet < 2:
        reading = await prober.reading()
        if reading is not None:
            busy = reading.in_flight > 0
        else:
            busy = await asyncio.to_thread(_traffic, settings.given.port, settings.drain_idle_s)
        quiet = 0 if busy else quiet + 1
        await asyncio.sleep(0.05)


def waiting(port: int, idle_s: float) -> int | None:
    """How many connections to it are waited for; None where the kernel does not tell."""
    try:
        return sum(traffic.busy([one], idle_s) for one in traffic.connections(port))
    except OSError:
        return None


def _traffic(port: int, idle_s: float) -> bool:
    try:
        return traffic.busy(traffic.connections(port), idle_s)
    except OSError:
        return ports.connections(port) > 0
