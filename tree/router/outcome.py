"""Whose fault it was. Decided once, here; everything else follows from the answer. Pure.

outcome        example                                retried                 feeds health
OK             2xx, 3xx                               -                       success
CLIENT         4xx other than 408, 429                no                      success: it answered
BACKPRESSURE   429, 529, 503 with Retry-After         other upstream          no: it rests
UNREACHABLE    refused, reset, closed before a byte   other upstream          failure
IDLE_RACE      a reused connection gave no byte       same one, fresh socket  -
SLOW           no answer in time after it was sent    once, other upstream    failure
BROKEN         5xx, 408, bad head, first event error  other upstream          failure, or neither
CUT            ended or stalled after the first byte  no: told in-band        failure
DENIED         401, 403 to a key of the router's own   other upstream          failure
CANCELLED      the client left                        -                       neither
REFUSED        the router's own answer                -                       no upstream was asked
"""

from enum import IntEnum


class Outcome(IntEnum):
    OK = 0
    CLIENT = 1
    BACKPRESSURE = 2
    UNREACHABLE = 3
    IDLE_RACE = 4
    SLOW = 5
    BROKEN = 6
    CUT = 7
    CANCELLED = 8
    REFUSED = 9
    DENIED = 10


#: As written in logs and metric labels; the index is the outcome.
WORDS = tuple(outcome.name.lower() for outcome in Outcome)

#: Outcomes after which another attempt may follow.
RETRIED = frozenset(
    {Outcome.BACKPRESSURE, Outcome.UNREACHABLE, Outcome.SLOW, Outcome.BROKEN, Outcome.DENIED}
)


class Failure(IntEnum):
    """What a shell saw instead of a well-formed answer. `classify` gives each its outcome."""

    CONNECT = 0  # refused, unreachable, or no connection within connect_s
    CLOSED = 1  # reset or closed before any byte of answer, on a fresh connection
    REUSED_CLOSED = 2  # the same on a reused connection
    NO_ANSWER = 3  # nothing in time after the request was sent
    MALFORMED = 4  # a head, framing or event that nobody may send
    FIRST_EVENT_ERROR = 5  # 200, then the first event says error
    ENDED_EARLY = 6  # closed or reset after the first byte was written to the client
    STALLED = 7  # silent too long after the first byte
    CLIENT_LEFT = 8


_OF_FAILURE = {
    Failure.CONNECT: Outcome.UNREACHABLE,
    Failure.CLOSED: Outcome.UNREACHABLE,
    Failure.REUSED_CLOSED: Outcome.IDLE_RACE,
    Failure.NO_ANSWER: Outcome.SLOW,
    Failure.MALFORMED: Outcome.BROKEN,
    Failure.FIRST_EVENT_ERROR: Outcome.BROKEN,
    Failure.ENDED_EARLY: Outcome.CUT,
    Failure.STALLED: Outcome.CUT,
    Failure.CLIENT_LEFT: Outcome.CANCELLED,
}


def of_status(status: int, has_retry_after: bool = False, *, our_key: bool = False) -> Outcome:
    """The outcome of an answer whose head arrived well formed. 101 counts as OK.

    `our_key`: the upstream was asked with a key of the router's, so it is not the client's that it
    refuses.
    """
    if status < 400:
        return Outcome.OK
    if status in (429, 529) or (status == 503 and has_retry_after):
        return Outcome.BACKPRESSURE
    if status == 408 or status >= 500:
        return Outcome.BROKEN
    if our_key and status in (401, 403):
        return Outcome.DENIED
    return Outcome.CLIENT


def of_failure(failure: Failure) -> Outcome:
    return _OF_FAILURE[failure]
