"""Short words for tests of the table: a table, and a time that is moved by hand."""

from typing import Any

from msgspec.structs import replace

from common.wire.registry import Beat, ErrorCode, Registration, Service
from registry import commands as ask
from registry.records import Moment
from registry.state import Change, Gone, Put, Stored, Terms
from registry.table import Table


def registration(name: str = "a", **more: Any) -> Registration:
    """A leased one by default; `lease_s=None` for an older client's."""
    port = more.pop("port", 8100)
    fields: dict[str, Any] = {
        "name": name,
        "host": "10.0.0.1",
        "port": port,
        "hostname": "h",
        "url": f"http://10.0.0.1:{port}",
        "status": "running",
        "instance_id": f"{name}-1",
        "lease_s": 15.0,
        **more,
    }
    return Registration(**fields)


class World:
    """A table and its clock. Each command is made durable and true at once."""

    def __init__(self, terms: Terms | None = None, stored: Stored | None = None) -> None:
        self.at = 1000.0
        self.table = Table(terms or Terms(), stored or Stored(epoch="e"), self.now)
        self.told: list[Change] = []

    @property
    def now(self) -> Moment:
        return Moment(self.at, f"wall {self.at:g}")

    def do(self, command: ask.Command) -> ask.Answer:
        draft = self.table.draft()
        answer = draft.do(command, self.now)
        self.told += self.table.adopt(draft)
        self.table.validate()
        return answer

    def post(self, name: str = "a", **more: Any) -> ask.Answer:
        return self.do(ask.Register(registration(name, **more)))

    def put(self, name: str = "a", **more: Any) -> ask.Answer:
        return self.do(ask.Update(name=name, **more))

    def beat(self, name: str = "a", **body: Any) -> ask.Answer:
        beat = Beat(**body)
        if self.table.quiet_beat(name, beat, self.now):
            self.table.validate()
            return ask.Done()
        return self.do(ask.Heartbeat(name, beat))

    def delete(self, name: str = "a", instance_id: str | None = None) -> ask.Answer:
        return self.do(ask.Remove(name, instance_id))

    def drain(self, name: str = "a", *, on: bool = True) -> ask.Answer:
        return self.do(ask.Drain(name, on))

    def after(self, seconds: float, step: float = 0.5) -> "World":
        """Let time pass in small steps, a tick at each, as the daemon does."""
        until = self.at + seconds
        while self.at < until:
            self.at = min(until, self.at + step)
            if self.table.is_due(self.at):
                self.do(ask.Tick())
        return self

    def __getitem__(self, name: str) -> Service:
        found = self.table.service(name)
        assert found is not None, f"{name} is not there"
        return found

    def __contains__(self, name: str) -> bool:
        return name in self.table.entries

    def news(self) -> list[str]:
        """What watchers were told since last asked: `+name` and `-name`."""
        told = [f"+{c.service.name}" if isinstance(c, Put) else f"-{c.name}" for c in self.told]
        self.told.clear()
        return told

    def again(self) -> "World":
        """The registry killed and started on the same store."""
        records = tuple(entry.record for entry in self.table.entries.values())
        stored = Stored(
            epoch=self.table.epoch,
            revision=self.table.revision,
            records=records,
            retired={life: one.lease_s for life, one in self.table.retired.items()},
            drained=frozenset(self.table.drained),
        )
        later = World(self.table.terms, stored)
        later.at = self.at
        later.table = Table(self.table.terms, stored, self.now)
        return later


def is_done(answer: ask.Answer) -> bool:
    return isinstance(answer, ask.Done)


def refusal(answer: ask.Answer) -> tuple[int, ErrorCode, str | None]:
    assert isinstance(answer, ask.Refused), answer
    return answer.status, answer.code, answer.holder


def codes(service: Service) -> list[str]:
    return [reason.code for reason in service.reasons]


__all__ = ["Gone", "World", "codes", "is_done", "refusal", "registration", "replace"]
