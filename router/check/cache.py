"""[cache]: numbers that keep nothing. Pure."""

from collections.abc import Iterator

from common.config import Problem
from router.check.file import File
from router.config import Cache

_DEFAULTS = Cache()


def find(file: File) -> Iterator[Problem]:
    cache = file.config.cache
    if not any(model.cache for model in file.config.models.values()):
        yield from _of_nobody(file)
    elif cache.entry_bytes_max > cache.bytes_max:
        said = ("cache", "entry_bytes_max") in file.document.positions
        yield file.warning(
            ("cache", "entry_bytes_max" if said else "bytes_max"),
            f"entry_bytes_max ({cache.entry_bytes_max:_}) is more than bytes_max "
            f"({cache.bytes_max:_})",
            effect="An answer of that size is collected, and there is no room for it.",
            fix=f"bytes_max = {cache.entry_bytes_max * 64:_}",
        )


def _of_nobody(file: File) -> Iterator[Problem]:
    """The table alone keeps nothing."""
    for key in Cache.__struct_fields__:
        said = ("cache", key) in file.document.positions
        if said and getattr(file.config.cache, key) != getattr(_DEFAULTS, key):
            yield file.warning(
                ("cache", key),
                f"cache.{key} counts for nothing where no model has  cache = true",
                effect="No answer is given twice.",
                fix="cache = true  under the [models.…] whose answers may be",
                on_key=True,
            )
            return
