"""What [models] entries say of how a model is asked, from the asked name to the real one. Pure.

An alias and the model behind it may both have some: field by field the nearest to the asked name
wins. Limits do not replace each other: all of them hold, each counted under its own entry.
"""

from typing import get_args

from msgspec import Struct

from router.named import Limits, Model, ModelCache, ModelStrategy, ModelTimeouts, Resume
from router.names.target import NO_LIMITS, NO_TIMEOUTS, Target

CHOOSE_MODELS = frozenset(get_args(ModelStrategy))


class Settings(Struct, frozen=True, kw_only=True):
    strategy: str | None = None
    timeouts: ModelTimeouts = NO_TIMEOUTS
    prefer_warm_ms: int | None = None
    resume: Resume = False
    hedge_after_ms: int | None = None
    cache: bool | ModelCache | None = None
    limited: tuple[tuple[str, Limits], ...] = ()

    def over(self, under: "Settings") -> "Settings":
        """These, and from `under` what they leave open."""
        mine, its = self.timeouts, under.timeouts
        return Settings(
            strategy=self.strategy or under.strategy,
            timeouts=ModelTimeouts(
                first_event_s=mine.first_event_s or its.first_event_s,
                between_chunks_s=mine.between_chunks_s or its.between_chunks_s,
                total_s=mine.total_s or its.total_s,
                comment_every_s=(
                    its.comment_every_s if mine.comment_every_s is None else mine.comment_every_s
                ),
            ),
            prefer_warm_ms=(
                under.prefer_warm_ms if self.prefer_warm_ms is None else self.prefer_warm_ms
            ),
            resume=self.resume or under.resume,
            hedge_after_ms=(
                under.hedge_after_ms if self.hedge_after_ms is None else self.hedge_after_ms
            ),
            cache=under.cache if self.cache is None else self.cache,
            limited=self.limited + tuple(one for one in under.limited if one not in self.limited),
        )

    def target(
        self,
        models: tuple[str, ...],
        provider: str | None,
        warm_ms: int,
        cache_s: float,
        *,
        fallback: bool,
    ) -> Target:
        """`warm_ms`, and how long answers are kept: the router's, where these say nothing."""
        warm = warm_ms if self.prefer_warm_ms is None else self.prefer_warm_ms
        return Target(
            models,
            provider,
            strategy=self.strategy,
            timeouts=self.timeouts,
            limits=self.limited[0][1] if self.limited else NO_LIMITS,
            limited=self.limited,
            prefer_warm_s=warm / 1000,
            resume=self.resume,
            hedge_after_s=(self.hedge_after_ms or 0) / 1000,
            cache_s=_cache_s(self.cache, cache_s),
            cache_version=self.cache.version if isinstance(self.cache, ModelCache) else "",
            fallback=fallback,
        )


def _cache_s(said: bool | ModelCache | None, default: float) -> float:
    """0: its answers are not kept."""
    if isinstance(said, ModelCache):
        return default if said.ttl_s is None else said.ttl_s
    return default if said else 0.0


NONE = Settings()


def of(name: str, model: Model | None) -> Settings:
    """Of the entry itself. A strategy that chooses models says nothing of upstreams."""
    if model is None:
        return NONE
    return Settings(
        strategy=None if model.strategy in CHOOSE_MODELS else model.strategy,
        timeouts=model.timeouts,
        prefer_warm_ms=model.prefer_warm_ms,
        resume=model.resume,
        hedge_after_ms=model.hedge_after_ms,
        cache=model.cache,
        limited=() if model.limits == NO_LIMITS else ((name, model.limits),),
    )
