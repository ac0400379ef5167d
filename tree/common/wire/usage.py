"""What a router answers on `GET /admin/usage` (docs/api-router.md)."""

from msgspec import Struct, field

#: What an answer may be divided by. `key` gives `key_id` besides.
DIVISIONS = ("key", "tenant", "model", "served", "service", "month", "day", "hour")


class UsageCounts(Struct, frozen=True, kw_only=True):
    """requests = ok + failed. Tokens and cost are sums over the requests that told them."""

    requests: int = 0
    ok: int = 0
    failed: int = 0
    #: A service worked for them and told no tokens: they are in no other sum.
    unknown: int = 0
    #: Tokens were told, and the service declares no price for them: they are in no sum of cost.
    unpriced: int = 0
    tokens_in: int = 0
    #: Of tokens_in.
    tokens_cached: int = 0
    tokens_out: int = 0
    #: Null: nothing had a price.
    cost: float | None = None


class UsageRow(UsageCounts, frozen=True, kw_only=True):
    """`names`: a name for each of the answer's `by`, empty where there is nothing to say."""

    names: dict[str, str] = field(default_factory=dict)


class Usage(Struct, frozen=True, kw_only=True):
    """`from` counts, `to` does not; null: no bound was asked for. Times are UTC."""

    by: list[str]
    rows: list[UsageRow]
    total: UsageCounts
    since: str | None = field(default=None, name="from")
    until: str | None = field(default=None, name="to")
    #: Whose requests they are: "this router" or "all routers".
    of: str = "this router"
    #: What keeps it from being all; empty: nothing.
    message: str = ""
