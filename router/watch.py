"""The registry's events, kept flowing: connect, resume, fail over, try again.

The one module that knows aiohttp-sse-client (0.2.1, unmaintained), and so the one with its traps:
one EventSource per connection, since a reused one keeps half-read events; on EOF it would sleep ten
seconds and reconnect by itself, so its error callback raises; reconnecting and Last-Event-ID are
ours; a line longer than the reader's limit breaks it, so the limit is set above any record.

What the events mean is `router.fleet`'s to say. Events that are already there are applied together,
in the same turn of the loop that read them.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout
from aiohttp_sse_client.client import READY_STATE_CLOSED, EventSource, MessageEvent
from msgspec import DecodeError, ValidationError, json

from common import clock, logs
from common.wire.registry import (
    RegistryHealth,
    Service,
    WatchDelete,
    WatchLoad,
    WatchReset,
    WatchSynced,
)
from router.fleet import Changes, Fleet

#: The registry sends at least a comment every 15 s.
SILENCE_S = 40.0
CONNECT_S = 2.0
BACKOFF_FIRST_S = 0.1
#: Two seconds after the registry's last change every router must know it, after an outage too.
BACKOFF_MAX_S = 1.5
#: A record may have a body of 1 MiB, and its event is one line.
LINE_BYTES_MAX = 4 << 20
#: How often the other addresses are asked whether they are the same registry.
COMPARE_S = 60.0

_log = logs.get("watch")

_service = json.Decoder(Service).decode
_reset = json.Decoder(WatchReset).decode
_synced = json.Decoder(WatchSynced).decode
_delete = json.Decoder(WatchDelete).decode
_load = json.Decoder(WatchLoad).decode


@dataclass
class Link:
    """How the watch stands, for /health and the logs."""

    connected: bool = False
    url: str = ""
    why: str = "not connected yet"


class Watch:
    """Feeds `fleet` and hands what changes to `apply`; `reported` gets load events."""

    def __init__(
        self,
        registries: Sequence[str],
        session: ClientSession,
        fleet: Fleet,
        apply: Callable[[Changes], None],
        *,
        reported: Callable[[WatchLoad], None] = lambda load: None,
        dice: Callable[[], float],
    ) -> None:
        self.link = Link(url=registries[0] if registries else "")
        self.synced = asyncio.Event()
        #: Every address was tried, or one has synced: nothing better is to be had by waiting.
        self.tried = asyncio.Event()
        # It logs every failed connect as an error; we say once that the registry is away.
        logging.getLogger("aiohttp_sse_client").setLevel(logging.CRITICAL)
        self._registries = [url.rstrip("/") for url in registries]
        self._session = session
        self._fleet = fleet
        self._apply = apply
        self._reported = reported
        self._dice = dice
        self._said_away = False
        self._pending: list[Changes] = []
        self._flush: asyncio.Handle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._epochs: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled. Each address in turn; a pause only when all were tried."""
        backoff_s = BACKOFF_FIRST_S
        at = tried = 0
        self._arm_expiry()  # what an earlier watch held back still has its time
        try:
            while True:
                url = self._registries[at]
                if await self._follow(url):
                    # It was well a moment ago: the same address first.
                    backoff_s, tried = BACKOFF_FIRST_S, 0
                    await asyncio.sleep(backoff_s * self._dice())
                    continue
                at = (at + 1) % len(self._registries)
                tried += 1
                if tried >= len(self._registries):
                    tried = 0
                    self.tried.set()
                    await asyncio.sleep(backoff_s * (0.5 + self._dice() / 2))
                    backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
        finally:
            for timer in (self._flush, self._expiry):
                if timer is not None:
                    timer.cancel()

    async def compare(self) -> None:
        """Until cancelled: several addresses must be one registry, or a fleet is torn in two."""
        while True:
            await asyncio.sleep(COMPARE_S)
            for url in self._registries:
                if url != self.link.url:
                    await self._ask_epoch(url)

    async def _follow(self, url: str) -> bool:
        """One connection, from its first event to its end. Whether it came to a sync."""
        headers = {}
        if self._fleet.last_event_id is not None:
            headers["Last-Event-ID"] = self._fleet.last_event_id

        def ended() -> None:
            # Also called when a connect fails; then it is closed, and raises what is true itself.
            if source.ready_state != READY_STATE_CLOSED:
                raise ConnectionError("the stream ended")

        source = EventSource(
            f"{url}/watch",
            session=self._session,
            max_connect_retry=0,
            on_error=ended,
            headers=headers,
            allow_redirects=False,
            read_bufsize=LINE_BYTES_MAX,
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
        )
        why = "the stream ended"
        synced = False
        try:
            async with source:
                self.link = Link(False, url, "connected, no table yet")
                async for event in source:
                    synced = self._event(url, event) or synced
        except asyncio.CancelledError:
            self.link = Link(False, url, "stopped")  # asked for: nothing to warn of
            raise
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            why = _words(error)
        except Exception as error:
            # Nothing that a registry sends may end a router that serves.
            _log.error("watch failed", url=url, exc_info=error)
            why = type(error).__name__
        finally:
            self._apply_now()
            self._fleet.connection_lost(clock.monotonic())
        self._down(why)
        return synced

    def _event(self, url: str, event: MessageEvent) -> bool:
        """True for `synced`. An event that cannot be read is skipped, and said."""
        fleet = self._fleet
        try:
            match event.type:
                case "put":
                    self._later(fleet.put(_service(event.data)))
                case "delete":
                    self._later(fleet.delete(_delete(event.data).name))
                case "reset":
                    self._apply_now()
                    epoch = _reset(event.data).epoch
                    self._note_epoch(url, epoch)
                    fleet.reset(epoch)
                    return False
                case "synced":
                    self._later(fleet.synced(_synced(event.data).revision, clock.monotonic()))
                    self._up(url)
                    self._arm_expiry()
                    return True
                case "load":
                    self._reported(_load(event.data))
                    return False
                case _:
                    return False  # a newer registry's: unknown events are no faults
        except (DecodeError, ValidationError, RecursionError) as why:
            _log.error("watch event cannot be read", event_type=event.type, why=str(why))
            return False
        if event.last_event_id:
            fleet.heard(event.last_event_id)
        return False

    # --- applying -------------------------------------------------------------------------------

    def _later(self, changes: Changes | None) -> None:
        """Reading goes on without a pause while events are there: they are applied as one."""
        if changes is None:
            return
        self._pending.append(changes)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_soon(self._apply_now)

    def _apply_now(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        pending, self._pending = self._pending, []
        for changes in merged(pending):
            self._apply(changes)

    def _arm_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        at = self._fleet.next_expiry()
        if at is not None:
            after_s = max(at - clock.monotonic(), 0) + 0.01
            self._expiry = asyncio.get_running_loop().call_later(after_s, self._expire)

    def _expire(self) -> None:
        self._later(self._fleet.expired(clock.monotonic()))
        self._arm_expiry()

    # --- the link -------------------------------------------------------------------------------

    def _up(self, url: str) -> None:
        if not self.link.connected:
            _log.info(
                "registry connected",
                url=url,
                epoch=self._fleet.epoch,
                revision=self._fleet.revision,
                services=len(self._fleet.records),
            )
        self.link = Link(True, url, "")
        self.synced.set()
        self.tried.set()

    def _down(self, why: str) -> None:
        if self.link.connected or not self._said_away:
            _log.warning(
                "registry away: serving what is known",
                url=self.link.url,
                why=why,
                services=len(self._fleet.records),
            )
        self._said_away = True
        self.link = Link(False, self.link.url, why)

    def _note_epoch(self, url: str, epoch: str) -> None:
        self._epochs[url] = epoch
        for other, theirs in self._epochs.items():
            if other != url and theirs != epoch:
                _log.error(
                    "registries differ: their addresses must belong to one registry",
                    url=url,
                    epoch=epoch,
                    other_url=other,
                    other_epoch=theirs,
                )

    async def _ask_epoch(self, url: str) -> None:
        try:
            timeout = ClientTimeout(total=CONNECT_S)
            async with self._session.get(
                f"{url}/health", timeout=timeout, allow_redirects=False
            ) as answer:
                health = json.decode(await answer.content.read(1 << 20), type=RegistryHealth)
        except (ClientError, OSError, TimeoutError, DecodeError, ValidationError):
            self._epochs.pop(url, None)
            return
        if health.epoch:
            self._note_epoch(url, health.epoch)


def _words(error: Exception) -> str:
    if isinstance(error, ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error.os_error}"
    return str(error) or type(error).__name__


def merged(pending: Sequence[Changes]) -> list[Changes]:
    """Neighbours of one kind as one change each, in order: a swap costs more than an entry."""
    found: list[Changes] = []
    records: dict[str, Service | None] = {}
    suspect: set[str] = set()
    for at, changes in enumerate(pending):
        records.update(changes.records)
        suspect.difference_update(changes.records)
        suspect.update(changes.suspect)
        if at + 1 == len(pending) or pending[at + 1].fresh != changes.fresh:
            found.append(Changes(records, frozenset(suspect), changes.fresh))
            records, suspect = {}, set()
    return found
