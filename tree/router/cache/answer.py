"""Whether an answer is good enough to be given again. Pure.

Whole, without an error in it, and ended as its dialect ends: what an engine said when it was
stopped, or where it never says that it has ended, is passed on once and not kept.
"""

import re

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from router import events
from router.route import Family
from router.seam import Kept

#: An engine gave up: the next one may say more.
_GAVE_UP = re.compile(rb'"finish_reason"\s*:\s*"(?:abort|aborted|error|cancelled)"')
_COMPLETED = b'"response.completed"'
#: Of a plain response of the dialect `responses`.
_STATUS = re.compile(rb'"status"\s*:\s*"(?:failed|incomplete|cancelled|in_progress|queued)"')

_decode = Decoder(Raw).decode


def is_good(kept: Kept, family: Family) -> bool:
    """`kept` is a whole answer of status 200."""
    body = kept.body
    if _GAVE_UP.search(body):
        return False
    return _is_good_stream(body, family) if kept.events else _is_good_plain(body, family)


def _is_good_plain(body: bytes, family: Family) -> bool:
    if family is Family.RESPONSES and _STATUS.search(body):
        return False
    try:
        _decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not events.is_error(b"", body)


def _is_good_stream(body: bytes, family: Family) -> bool:
    all_of_them = events.each(body)
    if not all_of_them or not events.has_marker(family, all_of_them[-1]):
        return False
    if family is Family.RESPONSES and _COMPLETED not in all_of_them[-1]:
        return False
    if b"error" not in body:
        return True
    for one in all_of_them:
        found = events.first_data(one) if b"error" in one else None
        if found is not None and events.is_error(*found):
            return False
    return True
