"""Rate limits of the older files, and what stands in where they were on without numbers. Pure.

    a provider's rate_limits    {requests_per_minute, tokens_per_minute} or {rpm, tpm}, or true
    rate_limits at the top      {enabled, providers: {NAME: …}, types: {TYPE: …}}

Off unless a file turned them on. On, and no number: the preset of the provider's type.
"""

from typing import Any

from ctl.imports.draft import Draft
from ctl.imports.table import Table

#: Requests and tokens a minute.
PRESETS = {
    "ollama": (100, 50_000),
    "llama_cpp": (120, 60_000),
    "vllm": (50, 100_000),
    "openai": (60, 150_000),
    "anthropic": (50, 100_000),
}
OTHER = (100, 50_000)
KEYS = ("rate_limits", "rate_limit", "rate_limiting")
NUMBERS = (
    ("rpm", ("requests_per_minute", "rpm")),
    ("tpm", ("tokens_per_minute", "tpm")),
    ("max_concurrency", ("max_concurrent_requests", "max_parallel_requests", "max_concurrency")),
)


class Limits:
    def __init__(self, tops: list[Table], draft: Draft) -> None:
        self._draft = draft
        #: On for every provider that says nothing itself.
        self._on = False
        self._providers: dict[str, Table] = {}
        self._types: dict[str, Table] = {}
        for top in tops:
            for key in KEYS:
                if key in top:
                    self._read(top, key)

    def _read(self, top: Table, key: str) -> None:
        if isinstance(top.peek(key), bool):
            self._on = self._on or top.flag(key) is True
            return
        table = top.table(key)
        self._on = self._on or table.flag("enabled") is not False
        for name, one in table.tables("providers"):
            self._providers[name] = one
        for name, one in table.tables("types"):
            self._types[name] = one
        table.rest()

    def of(self, provider: Table, kind: str) -> dict[str, int]:
        """What a provider's table becomes; presets where limits are on and have no number."""
        name = provider.path.rpartition(".")[2].strip('"')
        said: Any = next((provider.peek(key) for key in KEYS if key in provider), None)
        if said is False:
            provider.take(*KEYS)
            return {}
        tables = [one for one in (self._providers.get(name), self._types.get(kind)) if one]
        for key in KEYS:
            if isinstance(provider.peek(key), dict):
                tables.insert(0, provider.table(key))
        provider.take(*KEYS)
        found: dict[str, int] = {}
        on = self._on or said is True
        for table in tables:
            if table.flag("enabled") is False:
                return {}
            on = True
            for ours, theirs in NUMBERS:
                for key in theirs:
                    value = table.whole(key)
                    if value is not None:
                        found.setdefault(ours, value)
            table.rest()
        if on and "rpm" not in found and "tpm" not in found:
            rpm, tpm = PRESETS.get(kind, OTHER)
            found = {"rpm": rpm, "tpm": tpm, **found}
            self._draft.note(
                f"{name}: limits were on without numbers; {rpm} rpm and {tpm} tpm stand in"
            )
        return found
