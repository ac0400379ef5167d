"""When to start a failed engine again, and when to stop trying. Pure: time and dice are arguments.

    failure ──▶ wait 1 s, 2, 4, … 60 (less up to a quarter, by the dice) ──▶ start again
    60 s of health ──▶ the wait begins at 1 s again
    more than 10 restarts within 600 s ──▶ give up: a person must look (FATAL)

The older system restarted every 5 s up to 10,000 times: a crash loop that nobody notices.
"""

from dataclasses import dataclass, field

#: How much of a wait the dice may take away, so that engines that died together start apart.
JITTER = 0.25


@dataclass(frozen=True, slots=True)
class Policy:
    first_s: float = 1.0
    max_s: float = 60.0
    healthy_s: float = 60.0
    max_restarts: int = 10
    window_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    text: str


@dataclass(slots=True)
class Restarts:
    """One engine's failures. `total` counts every automatic restart and is never reset."""

    policy: Policy
    total: int = 0
    _streak: int = 0
    _recent: list[float] = field(default_factory=list)

    def after_failure(self, now: float, ready_since: float | None, dice: float) -> Wait | GiveUp:
        """What follows a failure. `ready_since` is when it last became ready, None if it never was
        in this life; `dice` is in [0, 1)."""
        policy = self.policy
        if ready_since is not None and now - ready_since >= policy.healthy_s:
            self._streak = 0
        self._recent = [at for at in self._recent if now - at < policy.window_s]
        if len(self._recent) >= policy.max_restarts:
            return GiveUp(
                _given_up(len(self._recent), now - self._recent[0] if self._recent else 0)
            )
        # 2.0 ** streak overflows a float at 1024 failures: the exponent has a limit too.
        full = min(policy.max_s, policy.first_s * 2.0 ** min(self._streak, 30))
        self._streak += 1
        self._recent.append(now)
        self.total += 1
        return Wait(full * (1.0 - JITTER * dice))

    def forget(self) -> None:
        """An operator took over: the waits and the count towards giving up begin anew."""
        self._streak = 0
        self._recent.clear()

    def snapshot(self, now: float) -> tuple[int, int, list[float]]:
        """(total, streak, seconds ago of each recent restart): what a successor needs to go on."""
        return self.total, self._streak, [now - at for at in self._recent]

    @classmethod
    def resumed(
        cls, policy: Policy, now: float, total: int, streak: int, ages: list[float]
    ) -> "Restarts":
        return cls(policy, total, streak, [now - age for age in ages])


def _given_up(count: int, within_s: float) -> str:
    if count == 0:
        return "not restarted, as configured (max_restarts = 0)"
    times = "restart" if count == 1 else "restarts"
    span = f"{within_s:.0f} s" if within_s < 120 else f"{within_s / 60:.0f} min"
    return f"{count} {times} in {span}"
