"""What those hear that may not wait for a place, or waited in vain. Pure.

    429 rate_limit_exceeded   what its own caller has waiting is in its way, or a limit of the file
    503 overloaded            the fleet has no place for it in time

`Retry-After` is when one that is as patient would be let in, if nobody else came.
"""

from math import ceil

from router.errors import Problem
from router.waiting.queues import Reason, Refusal

#: Nobody is asked to come back sooner: that is polling.
SOON_S = 0.1
_OWN = (Reason.SHARE, Reason.DISPLACED)


def problem(refusal: Refusal, model: str | None, who: str, *, limited: bool = False) -> Problem:
    """`who`: "key 'ana'", or empty for an address. `limited`: by the file."""
    what = f"model '{model}'" if model else "this request"
    wait_s, patience_s = refusal.wait_s, refusal.patience_s
    late = refusal.reason is Reason.LATE
    soon_s = max((wait_s or 0.0) - (0.0 if late else max(patience_s, 0.0)), SOON_S)
    after_s = max(ceil(soon_s), 1)
    own = refusal.reason in _OWN
    if own:
        said = f"Too many requests of {who or 'this address'} wait for {what}"
    elif late:
        said = f"Every place for {what} was taken for {patience_s:.3g} s"
    else:
        said = f"Every place for {what} is taken"
    ahead = refusal.own if own else refusal.waiting
    said += f": {ahead} {'of its own' if own else 'others'} wait" if ahead else ""
    if wait_s is not None and not late:
        said += f", its turn would come in {wait_s:.3g} s"
    return Problem(
        429 if own or limited else 503,
        f"{said}. Try again in {after_s} s",
        code="rate_limit_exceeded" if own or limited else "overloaded",
        type="requests" if own or limited else "server_error",
        retry_after_s=after_s,
        headers=(("retry-after-ms", str(ceil(soon_s * 1000))),),
    )
