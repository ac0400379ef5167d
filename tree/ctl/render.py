"""Texts for people: tables, the status page, errors. Pure: values in, lines out.

Colour is a mark laid on whole words after their width is known, so tables stay straight with and
without it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ctl.errors import CtlError
from ctl.judge import ModelRow, Problem, Report, plural

Align = Literal["<", ">"]
GAP = "  "
_CODES = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}


@dataclass(frozen=True)
class Paint:
    """Whether to colour. `Paint(False)` leaves texts alone."""

    on: bool

    def __call__(self, text: str, *colours: str) -> str:
        if not self.on or not text:
            return text
        return f"\x1b[{';'.join(_CODES[c] for c in colours)}m{text}\x1b[0m"

    def mark(self, mark: str) -> str:
        return self(mark, {"✗": "red", "!": "yellow", "✓": "green"}.get(mark, "dim"))


PLAIN = Paint(False)


def wants_colour(is_tty: bool, environ: Mapping[str, str]) -> bool:
    """Only on a terminal that can, and never where NO_COLOR says no (no-color.org)."""
    return is_tty and not environ.get("NO_COLOR") and environ.get("TERM", "") not in ("", "dumb")


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], align: str, paint: Paint
) -> list[str]:
    """Columns as wide as their widest cell; `align` holds one of < > per column."""
    body = [list(row) for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *body]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (f"{cell:{align[i]}{widths[i]}}" for i, cell in enumerate(cells))
        return GAP.join(padded).rstrip()

    return [paint(line(head), "bold"), *(line(row) for row in body)]


# ---- status ------------------------------------------------------------------------------------


def status(report: Report, paint: Paint = PLAIN) -> list[str]:
    """What is broken, who feels it, what next; then the models.."""
    lines = [_headline(report, paint)]
    if report.problems:
        lines.append("")
        lines += _problems(report.problems, paint)
    if report.notes:
        lines.append("")
        lines += [paint(f"· {note}", "dim") for note in report.notes]
    if report.models:
        lines += ["", *_model_rows(report.models, paint)]
    return lines


def _headline(report: Report, paint: Paint) -> str:
    bad = len(report.problems)
    ready, total = report.engines_ready, report.engines_total
    engines = (
        plural(total, "engine") + " ready"
        if ready == total
        else (f"{ready} of {plural(total, 'engine')} ready")
    )
    first = paint(plural(bad, "problem"), "red", "bold") if bad else paint("All well", "green")
    facts = [
        plural(report.hosts, "host"),
        engines,
        *([plural(report.providers, "provider")] if report.providers else []),
        plural(len(report.models), "model"),
        f"{rate(report.requests_per_s)} requests/s",
    ]
    return "   ".join([first + (" " if bad else ""), *facts])


def _problems(problems: Sequence[Problem], paint: Paint) -> list[str]:
    subject = max(len(one.subject) for one in problems)
    state = max(len(one.state) for one in problems)
    lines = []
    for one in problems:
        text = f"{one.subject:<{subject}}   {one.state:<{state}}   {one.text}".rstrip()
        lines.append(f"{paint.mark(one.mark)} {text}")
        if one.effect:
            lines.append(f"    effect  {one.effect}")
        if one.next:
            lines.append(f"    next    {paint(one.next, 'bold')}")
    return lines


def _model_rows(rows: Sequence[ModelRow], paint: Paint) -> list[str]:
    head = ("MODEL", "READY", "IN FLIGHT", "QUEUE", "FIRST TOKEN p50 / p99", "TOKENS/s")
    # A mark on one row must not push its numbers out of line with the others'.
    blank = "  " if any(row.slow for row in rows) else ""
    cells = [
        (
            row.model,
            ready(row.ready, row.total, row.unasked),
            str(row.in_flight),
            str(row.queued),
            first_token(row.ttft_p50_ms, row.ttft_p99_ms) + (" !" if row.slow else blank),
            rate(row.tokens_per_s),
        )
        for row in rows
    ]
    return table(head, cells, "<>>>>>", paint)


def ready(count: int, total: int, unasked: int) -> str:
    """`3/4`; `?/1` where only providers would serve, and nobody has asked them yet."""
    return f"?/{total}" if count and count == unasked else f"{count}/{total}"


def first_token(p50_ms: float | None, p99_ms: float | None) -> str:
    if p50_ms is None or p99_ms is None:
        return "-"
    return f"{milliseconds(p50_ms)} / {milliseconds(p99_ms)}"


def milliseconds(ms: float) -> str:
    """`0.4 ms`, `640 ms`, `4.1 s`, `75 s`: two figures are enough to act on."""
    if ms < 9.95:
        return f"{ms:.1f} ms"
    if ms < 995:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 59_950 else f"{ms / 1000:.0f} s"


def rate(per_s: float) -> str:
    """`0`, `0.4`, `41`, `1,204`: small ones with one digit, so that little is not nothing."""
    if 0 < per_s < 0.05:
        return "<0.1"
    if 0 < per_s < 9.95:
        return f"{per_s:.1f}"
    return f"{per_s:,.0f}"


# ---- errors ------------------------------------------------------------------------------------


def error(end: CtlError, paint: Paint = PLAIN) -> list[str]:
    """`✗ what`, then why and one fix, indented."""
    lines = [f"{paint.mark('✗')} {end.what}"]
    lines += [f"    {line}" for part in (end.why, end.fix) if part for line in part.splitlines()]
    return lines
