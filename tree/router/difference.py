"""What differs between two configurations, and which of it waits for a restart. Pure.

Ports and folders are opened once, at the start: another value of theirs in the file is told, and
the rest of the file is in force without it.
"""

from typing import Any

from msgspec.structs import replace

from router.config import Config

#: Keys as a file has them; a dot is a table.
AT_START = (
    "listen",
    "control_listen",
    "state_dir",
    "client_keys",
    "redis",
    "redis_password_file",
    "redis_sentinel_password_file",
    "redis_ca_file",
    "redis_prefix",
    "redis_timeout_ms",
    "limits.body_memory_bytes",
    "limits.upstream_connections_kept",
    "timeouts.upstream_idle_s",
)


def changed(old: Config, new: Config) -> list[str]:
    """Keys whose values differ, in the order of the file's manual; a table's keys one by one."""
    found: list[str] = []
    for key in Config.__struct_fields__:
        before, after = getattr(old, key), getattr(new, key)
        if before == after:
            continue
        inner = _inner(before, after)
        found += [f"{key}.{name}" for name in inner] if inner else [key]
    return found


def waiting(running: Config, new: Config) -> list[str]:
    """Keys of `new` that only a restart brings into force."""
    return [key for key in AT_START if _value(running, key) != _value(new, key)]


def effective(running: Config, new: Config) -> Config:
    """`new`, with what only a restart changes as it is."""
    for key in waiting(running, new):
        table, _, name = key.rpartition(".")
        value = _value(running, key)
        if table:
            value, name = replace(getattr(new, table), **{name: value}), table
        new = replace(new, **{name: value})
    return new


def _value(config: Config, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


def _inner(before: Any, after: Any) -> list[str]:
    """Names that differ within a table; none where it is no table."""
    if isinstance(before, dict):
        names = dict.fromkeys((*before, *after))
        return [name for name in names if before.get(name) != after.get(name)]
    fields: tuple[str, ...] = getattr(before, "__struct_fields__", ())
    return [name for name in fields if getattr(before, name) != getattr(after, name)]
