"""What a client is told when the router speaks for itself, in the shape of its route. Pure.

One `Problem` says what happened; `body` and `event` give it the dialect that the route's SDKs
read. Upstreams' own error answers pass as they are and never come through here.
"""

from msgspec import Struct
from msgspec.json import Encoder

from router.outcome import Outcome
from router.route import Family

_encode = Encoder().encode


class Problem(Struct, frozen=True):
    """`retry_after_s` and `should_retry` become the headers that SDKs obey."""

    status: int
    message: str
    code: str | None = None
    type: str = "server_error"
    param: str | None = None
    retry_after_s: int | None = None
    should_retry: bool | None = None
    #: Further ones, by lower-case name.
    headers: tuple[tuple[str, str], ...] = ()


class RequestError(Exception):
    """A request that cannot be routed as it came. Carries the Problem to answer with."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def invalid(message: str, *, status: int = 400, param: str | None = None) -> Problem:
    """The caller's fault: 4xx."""
    return Problem(
        status, message, code="invalid_request", type="invalid_request_error", param=param
    )


def no_service(model: str | None, *, ever_offered: bool, retry_after_s: int) -> Problem:
    """Nothing fit to serve. The texts are a contract (docs/api-router.md)."""
    if model is None:
        text = "No healthy services available"
    else:
        text = f"No healthy services available for model '{model}'"
        if not ever_offered:
            return Problem(503, text, code="model_not_found", param="model", should_retry=False)
    return Problem(503, text, code="no_healthy_services", retry_after_s=retry_after_s)


#: OpenAI error type to Anthropic's, by status.
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def _anthropic_type(status: int) -> str:
    fallback = "invalid_request_error" if status < 500 else "api_error"
    return _ANTHROPIC_TYPES.get(status, fallback)


def _openai(problem: Problem) -> dict[str, object]:
    return {
        "message": problem.message,
        "type": problem.type,
        "param": problem.param,
        "code": problem.code,
    }


def _anthropic(problem: Problem, request_id: str | None) -> dict[str, object]:
    return {
        "type": "error",
        "error": {"type": _anthropic_type(problem.status), "message": problem.message},
        "request_id": request_id,
    }


def body(
    problem: Problem,
    family: Family = Family.CHAT,
    *,
    plain: bool = False,
    request_id: str | None = None,
) -> bytes:
    """The JSON body of an error answer. `plain` is `error_shape = "plain"`, the older shape."""
    if plain:
        return _encode({"error": problem.message})
    if family is Family.MESSAGES:
        return _encode(_anthropic(problem, request_id))
    return _encode({"error": _openai(problem)})


def headers(problem: Problem) -> list[tuple[str, str]]:
    """The headers that go with it, besides content-type and length."""
    found = [("x-creche-error", "router")]
    if problem.retry_after_s is not None:
        found.append(("retry-after", str(problem.retry_after_s)))
    if problem.should_retry is not None:
        found.append(("x-should-retry", "true" if problem.should_retry else "false"))
    if problem.status == 401:
        found.append(("www-authenticate", "Bearer"))
    found.extend(problem.headers)
    return found


def event(
    problem: Problem, family: Family = Family.CHAT, *, request_id: str | None = None
) -> bytes:
    """One whole SSE event that tells a client mid-stream that no more will come."""
    if family is Family.RESPONSES:
        flat = {
            "type": "error",
            "code": problem.code,
            "message": problem.message,
            "param": problem.param,
            "sequence_number": 0,
        }
        return b"event: error\ndata: " + _encode(flat) + b"\n\n"
    if family is Family.MESSAGES:
        return b"event: error\ndata: " + _encode(_anthropic(problem, request_id)) + b"\n\n"
    return b"data: " + _encode({"error": _openai(problem)}) + b"\n\n"


def failed(outcome: Outcome, service: str | None) -> Problem:
    """The last word on a request that `service` did not answer."""
    who = f"'{service}'" if service else "the service"
    match outcome:
        case Outcome.UNREACHABLE:
            return Problem(502, f"{who} could not be reached", code="upstream_unreachable")
        case Outcome.SLOW:
            return Problem(504, f"{who} did not answer in time", code="upstream_timeout")
        case Outcome.CUT:
            return Problem(502, f"{who} broke off its answer", code="upstream_cut")
        case _:
            return Problem(502, f"{who} gave a broken answer", code="upstream_broken")
