"""What becomes of a service that is silent, and when it is the network that is silent. Pure.

    POST ──▶ HELD ──no beat for lease_s──▶ LAPSED ──no beat for 5 leases──▶ removed
              ▲ ▲                            │
              │ └────────── a beat ──────────┤
            a beat                           │ more than half of at least 4 leases
              │                              ▼ lapsed within one lease time
              └────────────────────────── SUSPECT ──suspect_max_s──▶ removed

A record without a lease keeps the older terms, and is never suspected: it may be anybody's.
"""

from collections.abc import Iterable

from registry.records import Entry, Phase
from registry.state import Terms


def deadline(terms: Terms, entry: Entry) -> float:
    """The lease time at which `entry`'s phase ends by itself."""
    if entry.phase is Phase.SUSPECT:
        return entry.since + terms.suspect_max_s
    return entry.beat_at + silence_s(terms, entry)


def silence_s(terms: Terms, entry: Entry) -> float:
    """How long nothing must be heard of an entry that is no suspect until its phase ends."""
    lease_s = entry.record.lease_s
    if entry.phase is Phase.HELD:
        return terms.legacy_unfit_s if lease_s is None else lease_s
    if lease_s is None:
        return terms.legacy_removed_s
    return terms.removed_after_leases * lease_s


def suspected(terms: Terms, entries: Iterable[Entry], at: float) -> list[Entry]:
    """The lapsed ones that are suspects instead: the network failed, not each of them."""
    held = suspects = 0
    recent: list[Entry] = []
    for entry in entries:
        if entry.record.lease_s is None:
            continue
        if entry.phase is Phase.HELD:
            held += 1
        elif entry.phase is Phase.SUSPECT:
            suspects += 1
        elif at - entry.since < entry.record.lease_s:
            recent.append(entry)
    lapsed = len(recent) + suspects
    if lapsed + held < terms.suspect_leases_min or lapsed * 2 <= lapsed + held:
        return []
    return recent
