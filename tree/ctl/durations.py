"""Times on the command line: `90`, `90s`, `10m`, `1.5h`, `30d`. Pure."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
#: A week: what waits longer than that was mistyped.
SECONDS_MAX = 604_800.0


def seconds(text: str, *, most: float = SECONDS_MAX) -> float:
    """Raises ValueError for what is no time of at least 0 and at most `most`."""
    unit = _UNITS.get(text[-1:])
    value = float(text[:-1]) * unit if unit is not None else float(text)
    if not 0 <= value <= most:
        raise ValueError(text)
    return value


def told(value: float) -> str:
    """`45 s`, `10 min`, `1.5 h`."""
    if value < 120:
        return f"{value:g} s"
    return f"{value / 60:g} min" if value < 7200 else f"{value / 3600:.3g} h"
