"""Keys as they stand in a store, read row by row.

One that a newer router made, of a shape that is not known here, holds for nobody here; the others
go on, and so does whatever is revoked among them.
"""

from collections.abc import Iterable

import msgspec

from common import logs
from router.keys.record import Key
from router.keys.store import StoreError

_log = logs.get("keys")


class _Named(msgspec.Struct):
    id: str = "?"


def decoded(rows: Iterable[bytes | msgspec.Raw]) -> list[Key]:
    """Raises StoreError for what is no JSON: that is damage."""
    found = []
    for row in rows:
        try:
            found.append(msgspec.json.decode(row, type=Key))
        except msgspec.ValidationError as why:
            id_ = _id(row)
            _log.error("a key is left out: its shape is not known here", id=id_, why=str(why))
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as why:
            raise StoreError(f"a key is damaged: {why}") from why
    return found


def _id(row: bytes | msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(row, type=_Named).id
    except msgspec.ValidationError:
        return "?"
