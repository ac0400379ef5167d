"""What a name resolves to: targets in the order in which they are tried. Pure, immutable.

Resolution ─ targets ─▶ Target, Target …   then ─ fallbacks ─▶ Target …
"""

from router.config import Config
from router.named import Limits, ModelTimeouts, Resume

NO_TIMEOUTS = ModelTimeouts()
NO_LIMITS = Limits()


class Target:
    """One place to ask: the upstreams that list any of `models`, or one provider.

    Made once per configuration, compared by identity; `key` names it to pools and explanations.
    """

    __slots__ = (
        "bare",
        "cache_s",
        "cache_version",
        "counts_tokens",
        "fallback",
        "hedge_after_s",
        "key",
        "limited",
        "limits",
        "models",
        "name",
        "plain",
        "prefer_warm_s",
        "provider",
        "resume",
        "strategy",
        "timeouts",
    )

    def __init__(
        self,
        models: tuple[str, ...],
        provider: str | None = None,
        *,
        strategy: str | None = None,
        timeouts: ModelTimeouts = NO_TIMEOUTS,
        limits: Limits = NO_LIMITS,
        limited: tuple[tuple[str, Limits], ...] = (),
        prefer_warm_s: float = 0.0,
        resume: Resume = False,
        hedge_after_s: float = 0.0,
        cache_s: float = 0.0,
        cache_version: str = "",
        fallback: bool = False,
    ) -> None:
        #: As upstreams know them: what is written into the body. Usually one; several for a
        #: capability, the preferred first: each upstream is asked for the first that it lists.
        self.models = models
        #: Ask this one alone, whether or not it lists the model.
        self.provider = provider
        #: How one of its upstreams is chosen. None: the router's.
        self.strategy = strategy
        self.timeouts = timeouts
        #: Of the entry nearest to the asked name …
        self.limits = limits
        #: … and of every entry on the way to the real model, each counted under its own name.
        self.limited = limited
        #: One of them does: what a request costs must be known beforehand.
        self.counts_tokens = any(one.tpm is not None for _, one in limited)
        self.prefer_warm_s = prefer_warm_s
        #: Its streams go on elsewhere when they break off.
        self.resume: Resume = resume
        #: Its streams that do not begin within it are asked of a second upstream too. 0: never.
        self.hedge_after_s = hedge_after_s
        #: How long answers of it are given again. 0: they are not kept.
        self.cache_s = cache_s
        #: Answers of another version are not given.
        self.cache_version = cache_version
        #: It stands in for what was asked: the answer says so.
        self.fallback = fallback
        self.key = (models, provider)
        #: What it is called upstream, where that is one thing whoever serves it. "": it depends.
        self.name: str | None = (models[0] if len(models) == 1 else "") if models else None
        #: Nothing but the router's own strategy has a say in who is asked.
        self.bare = not (limited or strategy or prefer_warm_s)
        #: An attempt on it needs nothing but an upstream.
        self.plain = not (fallback or resume or limited or timeouts != NO_TIMEOUTS)

    @property
    def label(self) -> str:
        """For people: `qwen3-coder`, `gpt-4o-mini at openai`."""
        shown = " | ".join(self.models) or "any model"
        return f"{shown} at {self.provider}" if self.provider else shown

    def __repr__(self) -> str:
        where = f" at {self.provider}" if self.provider else ""
        return f"<Target {'|'.join(self.models)}{where}>"


class Resolution:
    """What became of a name. `how` is rule, exact, capability, pattern, default, any or none.

    `why` says which entry fired, for /explain: `code is virtual → qwen3-coder (weight 9 of 10)`;
    `path` is that entry's place in the file, as keys. `targets` is empty where nothing resolves.
    "any": no name was asked for, so the one target is every upstream.
    """

    __slots__ = ("all", "fallbacks", "first", "how", "name", "path", "targets", "varies", "why")

    def __init__(
        self,
        name: str,
        how: str,
        targets: tuple[Target, ...],
        fallbacks: tuple[Target, ...] = (),
        *,
        why: str = "",
        path: tuple[str | int, ...] = (),
        varies: bool = False,
    ) -> None:
        self.name = name
        self.how = how
        self.targets = targets
        self.fallbacks = fallbacks
        #: In the order in which they are tried.
        self.all = targets + fallbacks
        self.first = self.all[0] if self.all else None
        self.why = why
        self.path = path
        #: Another request for this name may get another one: a rule, a draw or a choice had a say.
        #: False: it follows from the name, and from whether the name is listed.
        self.varies = varies


def plain(name: str, config: Config) -> Resolution:
    """A name that stands for itself."""
    target = Target((name,), prefer_warm_s=config.prefer_warm_ms / 1000)
    return Resolution(name, "exact", (target,), why=f"{name} is listed by name")
