"""Whether a registration may have its name and its address. Pure.

A lease keeps others off its name at another `host:port`, and off its `host:port` under another
name. Where it has lapsed it keeps nobody off; records without a lease never do.
"""

from collections.abc import Iterable

from common.wire.registry import ErrorCode, Registration
from registry.commands import Refused
from registry.records import Entry, address_key


def conflict(
    wanted: Registration, named: Entry | None, there: Iterable[Entry], *, moves: bool = False
) -> Refused | None:
    """Why `wanted` is refused, None where it is not.

    `named` has its name now, `there` are the others at its address. `moves`: it is the life that
    has the name, and says that it is elsewhere now.
    """
    where = address_key(wanted.host, wanted.port)
    if named is not None and named.holds and named.address != where and not moves:
        holder = f"{named.record.host}:{named.record.port}"
        return Refused(
            status=409,
            code=ErrorCode.NAME_CONFLICT,
            error=f"the name '{wanted.name}' is leased at {holder}",
            holder=holder,
        )
    for other in there:
        if other.holds:
            return Refused(
                status=409,
                code=ErrorCode.ADDRESS_CONFLICT,
                error=f"{wanted.host}:{wanted.port} is leased by '{other.record.name}'",
                holder=other.record.name,
            )
    return None
