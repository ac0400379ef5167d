"""Numbers into words. Pure."""

from collections.abc import Sequence
from statistics import median

from msgspec import Struct


class Spread(Struct, frozen=True):
    """What a few rounds measured."""

    min: float
    median: float
    max: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(min(values), median(values), max(values))


class Tail(Struct, frozen=True):
    """Times of many like things, in milliseconds."""

    count: int
    p50: float
    p99: float
    max: float


def tail(values_ms: Sequence[float]) -> Tail:
    """Nearest rank: the value that so many percent do not exceed."""
    ordered = sorted(values_ms)

    def rank(percent: int) -> float:
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

    return Tail(len(ordered), rank(50), rank(99), ordered[-1])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be; the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  " + "   ".join(cells).rstrip()

    return "\n".join([line(head), *map(line, rows)])


def verdict(ratio: float, budget: float) -> str:
    return "within budget" if ratio <= budget else "OVER BUDGET"
