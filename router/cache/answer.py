"""Whether an answer is good enough to be given again. Pure.

Whole, without an error in it, and ended as its dialect ends: what an engine said when it was
stopped, or where it never says that it has ended, is passed on once and not kept.
"""

import re

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from router import events as sse
from router.route import Family

#: An engine gave up: the next one may say more.
_GAVE_UP = re.compile(rb'"finish_reason"\s*:\s*"(?:abort|aborted|error|cancelled)"')
_COMPLETED = b'"response.completed"'
#: Of a plain response of the dialect `responses`.
_STATUS = re.compile(rb'"status"\s*:\s*"(?:failed|incomplete|cancelled|in_progress|queued)"')

_decode = Decoder(Raw).decode


def is_good(body: bytes, family: Family, *, events: bool) -> bool:
    """`body` is that of a whole answer of status 200: an event stream, or JSON."""
    if _GAVE_UP.search(body):
        return False
    return _is_good_stream(body, family) if events else _is_good_plain(body, family)


def _is_good_plain(body: bytes, family: Family) -> bool:
    if family is Family.RESPONSES and _STATUS.search(body):
        return False
    try:
        _decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not sse.is_error(b"", body)


def _is_good_stream(body: bytes, family: Family) -> bool:
    all_of_them = sse.each(body)
    if not all_of_them or not sse.has_marker(family, all_of_them[-1]):
        return False
    if family is Family.RESPONSES and _COMPLETED not in all_of_them[-1]:
        return False
    if b"error" not in body:
        return True
    for one in all_of_them:
        found = sse.first_data(one) if b"error" in one else None
        if found is not None and sse.is_error(*found):
            return False
    return True
