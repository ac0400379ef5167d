"""Numbers that each are in range and together do not do what they seem to. Pure."""

from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check.chains import chains
from router.check.file import File


def find(file: File) -> Iterator[Problem]:
    yield from _retry(file)
    yield from _times(file)
    yield from _hedges(file)
    yield from _bodies(file)
    yield from _score(file)
    yield from _queue(file)


def _said(file: File, table: str, first: str, second: str) -> Path:
    """The one of two keys that the file says: the other has its default."""
    return table, first if (table, first) in file.document.positions else second


def _retry(file: File) -> Iterator[Problem]:
    retry = file.config.retry
    of_one, in_all = retry.attempts_per_target, retry.attempts_max
    if of_one > in_all:
        yield file.warning(
            _said(file, "retry", "attempts_max", "attempts_per_target"),
            f"attempts_per_target ({of_one}) is more than attempts_max ({in_all})",
            effect="A request ends after attempts_max: no fallback might ever be asked.",
            fix=f"attempts_max = {min(20, of_one * 3)}",
        )
    elif of_one == in_all and any(chains(file.config)):
        yield file.warning(
            _said(file, "retry", "attempts_max", "attempts_per_target"),
            f"attempts_per_target and attempts_max are both {in_all}",
            effect="Where a model has that many upstreams, its fallbacks are never asked.",
            fix=f"attempts_max = {min(20, of_one * 3)}",
        )
    if retry.rest_s > retry.rest_max_s:
        yield file.warning(
            _said(file, "retry", "rest_s", "rest_max_s"),
            f"rest_s ({retry.rest_s:g}) is more than rest_max_s ({retry.rest_max_s:g})",
            effect="An upstream that says nothing would rest longer than one that asks for more.",
            fix=f"rest_max_s = {max(3600, retry.rest_s):g}",
        )


def _times(file: File) -> Iterator[Problem]:
    idle, lifetime = file.config.timeouts.upgrade_idle_s, file.config.timeouts.upgrade_lifetime_s
    if idle > lifetime:
        yield file.warning(
            _said(file, "timeouts", "upgrade_idle_s", "upgrade_lifetime_s"),
            f"upgrade_idle_s ({idle:g}) is more than upgrade_lifetime_s ({lifetime:g})",
            effect="An upgraded connection ends by its age before it could be idle so long.",
            fix=f"upgrade_idle_s = {lifetime:g}  or less",
        )
    every, patience = file.config.timeouts.comment_every_s, file.config.timeouts.first_event_s
    if every >= patience:
        yield file.warning(
            _said(file, "timeouts", "comment_every_s", "first_event_s"),
            f"comment_every_s ({every:g}) is not less than first_event_s ({patience:g})",
            effect="An upstream is given up before its client hears the first comment.",
            fix=f"comment_every_s = {patience / 4:g}",
        )
    slow, given_up = file.config.health.probe_slow_s, file.config.health.probe_timeout_s
    if slow >= given_up:
        yield file.warning(
            _said(file, "health", "probe_slow_s", "probe_timeout_s"),
            f"probe_slow_s ({slow:g}) is not less than probe_timeout_s ({given_up:g})",
            effect="A probe is given up before it could be slow: no upstream is ever degraded.",
            fix=f"probe_slow_s = {given_up / 5:g}",
        )


def _hedges(file: File) -> Iterator[Problem]:
    for name, model in file.config.models.items():
        after_ms = model.hedge_after_ms or 0
        patience = model.timeouts.first_event_s or file.config.timeouts.first_event_s
        if after_ms >= patience * 1000:
            yield file.warning(
                ("models", name, "hedge_after_ms"),
                f"hedge_after_ms ({after_ms}) is not less than first_event_s ({patience:g} s)",
                effect="An upstream is given up before a second one is asked.",
                fix=f"hedge_after_ms = {patience * 100:.0f}",
            )


def _bodies(file: File) -> Iterator[Problem]:
    limits = file.config.limits
    for one, all_together in (
        ("body_memory_bytes", "bodies_memory_bytes_max"),
        ("body_bytes_max", "bodies_disk_bytes_max"),
    ):
        of_one, most = getattr(limits, one), getattr(limits, all_together)
        if of_one > most:
            yield file.warning(
                _said(file, "limits", one, all_together),
                f"{one} ({of_one:_}) is more than {all_together} ({most:_})",
                effect="A body of that size is allowed, and always answered with 503.",
                fix=f"{one} = {most:_}  or less",
            )


def _score(file: File) -> Iterator[Problem]:
    score = file.config.score
    if not any((score.health, score.latency, score.privacy, score.locality, score.cost)):
        yield file.error(
            ("score",),
            "every weight of [score] is 0",
            effect="Candidates could not be compared.",
            fix="give one of health, latency, privacy, locality, cost a weight above 0",
        )


def _queue(file: File) -> Iterator[Problem]:
    queue = file.config.queue
    if queue.waiting_max > queue.waiting_in_all_max:
        yield file.warning(
            _said(file, "queue", "waiting_max", "waiting_in_all_max"),
            f"waiting_max ({queue.waiting_max:_}) is more than waiting_in_all_max"
            f" ({queue.waiting_in_all_max:_})",
            effect="As many never wait for one model: all of them together may not.",
            fix=f"waiting_in_all_max = {4 * queue.waiting_max:_}",
        )
    for more, less in (("high_share", "normal_share"), ("normal_share", "low_share")):
        of_more, of_less = getattr(queue, more), getattr(queue, less)
        if of_more < of_less:
            yield file.warning(
                _said(file, "queue", more, less),
                f"{more} ({of_more:g}) is less than {less} ({of_less:g})",
                effect="Requests with the higher x-priority wait longer than those with the lower.",
                fix=f"{less} = {of_more / 4:g}",
            )
