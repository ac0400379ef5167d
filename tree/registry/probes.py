"""How a record without a lease is probed, and what the answers mean. Pure: no URL is fetched here.

    metadata.babysitter_url/health, if there is one
    else host:(port + 1)/health, if its answer names the service (older babysitters sit there)
    else url/health

200 is healthy; 404, a redirect, another 4xx, or a place outside `allow_hosts`: unknown, never
unfit; anything else, or no answer, is a failure, and `failures` in a row are unhealthy.
"""

from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from common import address
from common.wire.registry import Health, known_metadata
from registry.records import NOT_PROBED, Record, Verdict


class Target(Struct, frozen=True):
    """A URL to GET. `naming`: its answer counts only if it names one of these; empty: anyway."""

    url: str
    naming: frozenset[str] = frozenset()


class Answer(Struct, frozen=True):
    """What came of a GET. `status` 0: nothing did, `text` says why."""

    status: int
    body: bytes = b""
    text: str = ""


def targets(record: Record) -> tuple[Target, ...]:
    """Where to look, in order: the next only where the one before said nothing that counts."""
    metadata = known_metadata(record.metadata)
    if metadata.babysitter_url is not None:
        return tuple(_under(metadata.babysitter_url, frozenset()))
    found: list[Target] = []
    if record.port < address.PORT_MAX:
        names = {record.name, metadata.parent_service or record.name}
        found += _under(address.http_url(record.host, record.port + 1), frozenset(names))
    found += _under(record.url, frozenset())
    return tuple(found)


def _under(base: str, naming: frozenset[str]) -> list[Target]:
    """`base`/health; nothing where `base` is no plain URL."""
    try:
        address.parse_http_url(base)
        parts = urlsplit(base)
    except ValueError:
        return []
    if parts.username is not None or parts.password is not None:
        return []
    if any(c <= " " or c in "?#\x7f" for c in base):
        return []
    return [Target(base.rstrip("/") + "/health", naming)]


def host_of(target: Target) -> str:
    return address.parse_http_url(target.url).host


def counts(target: Target, answer: Answer) -> bool:
    """Whether `answer` is about this service: one from a neighbour's port must say so."""
    if not target.naming:
        return True
    if answer.status == 0:
        return False
    try:
        said: Any = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    named = said.get("service") if isinstance(said, dict) else None
    return isinstance(named, str) and named in target.naming


def judge(target: Target, answer: Answer) -> Verdict:
    """What an answer that counts says."""
    if answer.status == 200:
        return Verdict(Health.HEALTHY)
    if 300 <= answer.status < 500:
        return NOT_PROBED
    what = f"answered {answer.status}" if answer.status else answer.text
    return Verdict(Health.UNHEALTHY, f"{target.url}: {what}")


class Tally:
    """Failures in a row, by record: one lost packet takes nobody out of rotation."""

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self._in_a_row: dict[str, int] = {}

    def conclude(self, name: str, verdict: Verdict) -> Verdict | None:
        """What to believe now; None: nothing new, wait for the next probe."""
        if verdict.health is not Health.UNHEALTHY:
            self._in_a_row.pop(name, None)
            return verdict
        self._in_a_row[name] = self._in_a_row.get(name, 0) + 1
        return verdict if self._in_a_row[name] >= self._failures else None

    def keep(self, names: set[str]) -> None:
        """Forget all others."""
        self._in_a_row = {k: v for k, v in self._in_a_row.items() if k in names}
