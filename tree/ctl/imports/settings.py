"""LiteLLM's router_settings, litellm_settings and general_settings. Pure."""

from collections.abc import Callable, Iterator
from typing import Any

from ctl.imports.draft import Draft
from ctl.imports.table import Table

STRATEGIES = {
    "simple-shuffle": "weighted_random",
    "least-busy": "least_requests",
    "latency-based-routing": "least_latency",
    "usage-based-routing": "usage_based",
    "usage-based-routing-v2": "usage_based",
}
#: LiteLLM's own number, where only the cooldown's length is said.
ALLOWED_FAILS = 3
ATTEMPTS_PER_TARGET_MAX = 10
ATTEMPTS_MAX = 20
SHARED = "each router keeps its own counts"
REASON = "by the reason of a failure there is no chain; a model that cannot be had has one"
LOGS = "the router has its own log, metrics and traces"
BODIES = "bodies go on as the client sent them"
WHY = {
    "context_window_fallbacks": f"{REASON}; a rule with prompt_tokens_min can send long prompts to "
    "a larger model",
    "content_policy_fallbacks": REASON,
    "redis_host": SHARED,
    "redis_port": SHARED,
    "redis_password": SHARED,
    "redis_url": SHARED,
    "retry_policy": "what is retried depends on whose fault it was, and is not set per error",
    "allowed_fails_policy": "what counts against an upstream depends on whose fault it was",
    "model_group_retry_policy": "retries are the router's, not a group's",
    "retry_after": "a provider's Retry-After is obeyed",
    "enable_pre_call_checks": "prompts are not counted before they are sent; see most_capacity",
    "enable_tag_filtering": "requests are not routed by tags; see [[rules]] with a header",
    "routing_strategy_args": "a strategy has no arguments of that kind",
    "drop_params": BODIES,
    "modify_params": BODIES,
    "cache": "answers are not kept",
    "cache_params": "answers are not kept",
    "success_callback": LOGS,
    "failure_callback": LOGS,
    "callbacks": LOGS,
    "service_callbacks": LOGS,
    "set_verbose": LOGS,
    "json_logs": LOGS,
    "telemetry": LOGS,
    "max_budget": "there are no budgets",
    "budget_duration": "there are no budgets",
    "max_fallbacks": "attempts_max in [retry] bounds them",
}
GENERAL = {
    "master_key": "clients' keys are not imported, and this version has none: whoever reaches the "
    "router's port uses the providers' keys, which you pay for; keep it on loopback, or behind a "
    "proxy that asks for a key",
    "database_url": "the router needs no database",
    "store_model_in_db": "models stand in the file and in the registry",
    "alerting": "alerts are made of the metrics",
    "background_health_checks": "upstreams that fail are always probed ([health])",
    "health_check_interval": "upstreams that fail are always probed ([health])",
    "max_parallel_requests": "limits are a provider's or a model's (max_concurrency)",
    "global_max_parallel_requests": "limits are a provider's or a model's (max_concurrency)",
    "pass_through_endpoints": "every path that is not the router's own is passed on already",
}


class Both:
    """router_settings over litellm_settings, each key where it is said."""

    def __init__(self, first: Table, second: Table) -> None:
        self._tables = (first, second)

    def _where(self, key: str) -> Table:
        found = next((one for one in self._tables if key in one), self._tables[0])
        for one in self._tables:
            if one is not found:
                one.take(key)
        return found

    def text(self, key: str) -> str | None:
        return self._where(key).text(key)

    def number(self, key: str) -> float | None:
        return self._where(key).number(key)

    def whole(self, key: str, least: int = 1) -> int | None:
        return self._where(key).whole(key, least)

    def flag(self, key: str) -> bool | None:
        return self._where(key).flag(key)

    def table(self, key: str) -> Table:
        return self._where(key).table(key)

    def names(self, key: str) -> list[tuple[str, str]]:
        return self._where(key).names(key)

    def pieces(self, key: str) -> Iterator[tuple[str, Table]]:
        """A list of tables, or a table: each with its path."""
        where = self._where(key)
        if isinstance(where.peek(key), list):
            for table in where.rows(key):
                yield table.path, table
        else:
            yield where.at(key), where.table(key)

    def peek(self, key: str) -> Any:
        return next((one.peek(key) for one in self._tables if key in one), None)

    def rest(self) -> None:
        for one in self._tables:
            one.rest(WHY)


def shuffles(router: Both) -> bool:
    """LiteLLM's default, too."""
    said = router.peek("routing_strategy")
    return STRATEGIES.get(str(said), "weighted_random") == "weighted_random"


def strategy(router: Both, draft: Draft) -> None:
    said = router.text("routing_strategy")
    if said is None:
        return
    if ours := STRATEGIES.get(said):
        draft.top["strategy"] = ours
        return
    closest = "  (score weighs costs)" if "cost" in said else ""
    draft.lose(
        "router_settings.routing_strategy", f"there is no {said}; least_requests is used{closest}"
    )


def numbers(router: Both, draft: Draft) -> None:
    retries = router.whole("num_retries", 0)
    if retries is not None:
        attempts = min(retries + 1, ATTEMPTS_PER_TARGET_MAX)
        draft.set("retry", "attempts_per_target", attempts)
        if attempts * 3 > 6:  # so that a chain of two is reached
            draft.set("retry", "attempts_max", min(attempts * 3, ATTEMPTS_MAX))
    _rests(router, draft)
    total = router.number("timeout")
    other = router.number("request_timeout")
    if (total or other) is not None:
        draft.set("timeouts", "total_s", total or other)
    if (first := router.number("stream_timeout")) is not None:
        draft.set("timeouts", "first_event_s", first)
    router.rest()


def _rests(router: Both, draft: Draft) -> None:
    off = router.flag("disable_cooldowns")
    fails = router.whole("allowed_fails", 0)
    seconds = router.number("cooldown_time")
    if off or (fails is None and seconds is None):
        return
    draft.set("retry", "error_cooldown", (ALLOWED_FAILS if fails is None else fails) + 1)
    draft.set("retry", "error_window_s", 60)
    if seconds is not None:
        draft.set("retry", "error_cooldown_s", seconds)
        draft.set("retry", "rest_s", seconds)


def general(table: Table, draft: Draft, known: Callable[[str], bool]) -> None:
    model = table.text("completion_model")
    if model is not None and known(model):
        draft.top["default"] = model
    elif model is not None:
        draft.lose(table.at("completion_model"), f'nobody serves "{model}"')
    table.rest(GENERAL)
