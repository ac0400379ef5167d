"""Hooks as plain functions: what they may say, and what they may not do to a request."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.choose.asked import Asked
from router.errors import Problem
from router.hooks import (
    AFTER_RESPONSE,
    BEFORE_ROUTE,
    NONE,
    ON_ERROR,
    POLICIES,
    Hook,
    Hooks,
    Policy,
    Report,
    Request,
    Result,
    result,
)
from router.outcome import Outcome
from router.seam import End
from router.upstream import Upstream
from tests.router.making import begin, brain, upstream


class Bench:
    """A clock that hooks can move, and what was reported."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reports: list[Report] = []

    def hook(
        self, function: Callable[..., object], name: str = "acme", group: str = BEFORE_ROUTE
    ) -> Hook:
        return Hook(group, name, function, lambda: self.now, self.reports.append)

    def says(self, answer: object, name: str = "acme") -> Hook:
        return self.hook(lambda *_: answer, name)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(one.what, one.why) for one in self.reports]


def request(model: str | None = "m", **headers: str) -> Request:
    return Request("id", model, "/v1/chat/completions", headers, False, None)


def route(found: Hooks, asked: Request) -> Request | Problem:
    assert found.before_route is not None
    return found.before_route(asked)


def raising(*_: object) -> object:
    raise KeyError("no such team")


# --- before_route ---------------------------------------------------------------------------------


def test_nothing_installed_is_nothing_to_call() -> None:
    assert NONE.before_route is None
    assert NONE.ended is None
    assert NONE.policies == ()
    assert NONE.names() == {}


def test_a_hook_with_nothing_to_say_changes_nothing() -> None:
    asked = request()
    assert route(Hooks(before_route=(Bench().says(None),)), asked) is asked
    assert route(Hooks(before_route=(Bench().says({}),)), asked) is asked


def test_a_hook_changes_the_model_and_the_headers_that_are_decided_by() -> None:
    bench = Bench()
    hook = bench.says({"model": "big", "headers": {"X-Creche-Region": "eu", "x-a": "new"}})
    found = route(Hooks(before_route=(hook,)), request(**{"x-a": "old", "x-b": "kept"}))
    assert isinstance(found, Request)
    assert found.model == "big"
    get = found.headers.get
    assert (get("x-creche-region"), get("x-a"), get("x-b")) == ("eu", "new", "kept")
    assert get("x-c") is None
    assert get("x-c", "else") == "else"
    assert sorted(found.headers) == ["x-a", "x-b", "x-creche-region"]
    assert bench.reports == []


def test_each_hook_sees_what_those_before_it_changed() -> None:
    bench = Bench()

    def longer(asked: Request) -> object:
        return {"model": f"{asked.model}+", "headers": {"x-n": asked.headers.get("x-n", "") + "1"}}

    hooks = Hooks(before_route=(bench.hook(longer), bench.hook(longer), bench.hook(longer)))
    found = route(hooks, request("m"))
    assert isinstance(found, Request)
    assert (found.model, found.headers.get("x-n")) == ("m+++", "111")


def test_the_first_refusal_is_the_last_word() -> None:
    bench = Bench()
    hooks = Hooks(before_route=(bench.says((403, "not you")), bench.hook(raising)))
    assert route(hooks, request()) == Problem(
        403, "not you", code="refused_by_hook", type="invalid_request_error"
    )
    assert bench.reports == []


def test_a_refusal_may_be_the_servers_fault() -> None:
    found = route(Hooks(before_route=(Bench().says((503, "closed at night")),)), request())
    assert isinstance(found, Problem)
    assert found.type == "server_error"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (7, "returned 7: neither None, a dict nor (status, message)"),
        ("no", "returned 'no': neither None, a dict nor (status, message)"),
        ((403,), "returned tuple: neither None, a dict nor (status, message)"),
        ((200, "fine"), "returned the status 200: not 400 to 599"),
        ((True, "fine"), "returned the status True: not 400 to 599"),
        ((403, ""), "returned '' for a message"),
        ({"body": "x"}, "returned the key 'body': only model and headers change"),
        ({"model": ""}, "returned '' for a model's name"),
        ({"model": None}, "returned None for a model's name"),
        ({"model": "x" * 257}, f"returned '{'x' * 80}' for a model's name"),
        ({"headers": ["a"]}, "returned list for headers: not a dict"),
        ({"headers": {"a": 1}}, "returned 1 in headers: not a text"),
        (10**5_000, "returned int: neither None, a dict nor (status, message)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nonsense_is_reported_and_passed_over(answer: object, why: str) -> None:
    bench = Bench()
    asked = request()
    hooks = Hooks(before_route=(bench.says(answer), bench.says({"model": "next"})))
    found = route(hooks, asked)
    assert isinstance(found, Request)
    assert found.model == "next"
    assert bench.told == [("nonsense", why)]


def test_a_hook_that_raises_breaks_no_request() -> None:
    bench = Bench()
    asked = request()
    assert route(Hooks(before_route=(bench.hook(raising),)), asked) is asked
    assert bench.reports == [
        Report(BEFORE_ROUTE, "acme", "raised", "KeyError: 'no such team'", unsaid=0)
    ]


def test_a_hook_that_exits_takes_nobody_with_it() -> None:
    def leave(_: Request) -> object:
        raise SystemExit(3)

    bench = Bench()
    asked = request()
    assert route(Hooks(before_route=(bench.hook(leave),)), asked) is asked
    assert bench.told == [("raised", "SystemExit: 3")]


def test_an_error_that_cannot_even_be_written_is_named() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    def odd(_: Request) -> object:
        raise Odd

    bench = Bench()
    route(Hooks(before_route=(bench.hook(odd),)), request())
    assert bench.told == [("raised", "Odd")]


def test_each_kind_of_trouble_is_reported_once_a_minute_with_what_went_unsaid() -> None:
    bench = Bench()
    hooks = Hooks(before_route=(bench.hook(raising), bench.says(7)))
    for tenth in range(1_300):
        bench.now = tenth / 10
        route(hooks, request())
    assert [(one.what, one.unsaid) for one in bench.reports] == [
        ("raised", 0), ("nonsense", 0), ("raised", 599), ("nonsense", 599),
        ("raised", 599), ("nonsense", 599),
    ]  # fmt: skip


def test_a_slow_hook_is_reported_and_obeyed() -> None:
    bench = Bench()

    def slow(_: Request) -> object:
        bench.now += 0.0021
        return {"model": "slowly"}

    found = route(Hooks(before_route=(bench.hook(slow),)), request())
    assert isinstance(found, Request)
    assert found.model == "slowly"
    assert bench.told == [("slow", "took 2.1 ms; requests wait for it")]


def test_a_millisecond_is_no_trouble() -> None:
    bench = Bench()

    def quick(_: Request) -> object:
        bench.now += 0.001
        return None

    route(Hooks(before_route=(bench.hook(quick),)), request())
    assert bench.reports == []


SAID = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["model", "headers", "x"]) | st.integers(), inner)
    ),
    max_leaves=6,
)


@given(SAID)
def test_whatever_a_hook_says_the_request_is_routed_or_refused(said: object) -> None:
    bench = Bench()
    found = route(Hooks(before_route=(bench.says(said),)), request())
    if isinstance(found, Problem):
        assert 400 <= found.status <= 599
    else:
        assert found.model
        assert all(isinstance(found.headers.get(name), str) for name in found.headers)


# --- policies -------------------------------------------------------------------------------------


def asked() -> Asked:
    return begin(brain(), "m")


def policy(bench: Bench, function: Callable[..., object]) -> Policy:
    return Hooks(policies=(bench.hook(function, "spot", POLICIES),)).policies[0]


def test_a_policy_scores_refuses_or_has_nothing_to_say() -> None:
    bench = Bench()
    ours, one = asked(), upstream("a@spot-1", "m")
    assert policy(bench, lambda u, a: 1)(one, ours) == 1.0
    assert policy(bench, lambda u, a: None)(one, ours) is None
    assert policy(bench, lambda u, a: f"{u.name} is full")(one, ours) == "a@spot-1 is full"
    assert policy(bench, lambda u, a: 0.5).__name__ == "spot", "as /explain calls it"
    assert bench.reports == []


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), -0.1, 1.1, True, "", [], 10**400])
def test_a_policy_that_returns_nonsense_has_said_nothing(answer: object) -> None:
    bench = Bench()
    assert policy(bench, lambda u, a: answer)(upstream("a", "m"), asked()) is None
    assert [one.what for one in bench.reports] == ["nonsense"]


def test_a_policy_that_raises_has_said_nothing() -> None:
    bench = Bench()
    assert policy(bench, raising)(upstream("a", "m"), asked()) is None
    assert [one.what for one in bench.reports] == ["raised"]


def test_a_policys_time_is_that_of_all_candidates_of_one_choice() -> None:
    bench = Bench()

    def judge(one: Upstream, ours: Asked) -> object:
        bench.now += 0.0003
        return None

    judged = policy(bench, judge)
    one, first, second = upstream("a", "m"), asked(), asked()
    for ours in (first, second):
        for _ in range(3):
            judged(one, ours)
    assert bench.reports == [], "0.9 ms for each of two"
    for _ in range(5):
        judged(one, first)
    assert bench.told == [("slow", "took 1.2 ms; requests wait for it")]


# --- the end --------------------------------------------------------------------------------------


def ended(outcome: Outcome, status: int) -> Result:
    return result(End(outcome, status, 2.0), 1.0, service="a@h", attempts=1)


@pytest.mark.parametrize(
    ("outcome", "status", "failed"),
    [
        (Outcome.OK, 200, False),
        (Outcome.CLIENT, 404, False),
        (Outcome.CANCELLED, 499, False),
        (Outcome.REFUSED, 400, False),
        (Outcome.REFUSED, 503, True),
        (Outcome.BACKPRESSURE, 429, True),
        (Outcome.CUT, 200, True),
        (Outcome.BROKEN, 502, True),
    ],
)
def test_every_request_ends_in_exactly_one_kind_of_hook(
    outcome: Outcome, status: int, failed: bool
) -> None:
    bench = Bench()
    seen: list[str] = []
    hooks = Hooks(
        after_response=(bench.hook(lambda q, r: seen.append("after"), group=AFTER_RESPONSE),),
        on_error=(bench.hook(lambda q, r: seen.append("error"), group=ON_ERROR),),
    )
    assert hooks.ended is not None
    hooks.ended(request(), ended(outcome, status))
    assert seen == ["error" if failed else "after"]


def test_one_kind_alone_is_enough_to_be_called() -> None:
    bench = Bench()
    hooks = Hooks(on_error=(bench.hook(raising, group=ON_ERROR),))
    assert hooks.before_route is None
    assert hooks.ended is not None
    hooks.ended(request(), ended(Outcome.OK, 200))
    assert bench.reports == []
    hooks.ended(request(), ended(Outcome.CUT, 200))
    assert [one.group for one in bench.reports] == [ON_ERROR]


def test_a_result_says_what_became_of_it() -> None:
    end = End(Outcome.OK, 200, ended=3.5)
    end.first_byte, end.tokens_in, end.tokens_out = 1.25, 812, 240
    assert result(end, 1.0, service="a@h", attempts=2) == Result(
        outcome="ok",
        status=200,
        failed=False,
        service="a@h",
        attempts=2,
        first_byte_ms=250.0,
        total_ms=2500.0,
        tokens_in=812,
        tokens_out=240,
    )
    nobody = result(End(Outcome.REFUSED, 503, 1.0), 1.0, service=None, attempts=0)
    assert (nobody.first_byte_ms, nobody.tokens_out) == (None, None)


def test_views_cannot_be_written_to() -> None:
    for view in (request(), ended(Outcome.OK, 200)):
        with pytest.raises(AttributeError):
            view.status = 1  # type: ignore[union-attr,misc,attr-defined]
