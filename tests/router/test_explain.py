"""/explain: what it says is what a request would get, and asking changes nothing."""

import copy
from typing import Any

import pytest
from msgspec import to_builtins

from router import choose, views
from router.brain import Brain
from router.config import Breaker, Config, Needs, Retry
from router.envelope import Envelope, read_json
from router.errors import RequestError
from router.explain import Candidate, Explanation, explain
from router.hooks import BEFORE_ROUTE, Hook, Hooks
from router.named import Limits, Model, Pattern
from router.nodes import Node, NodeHealth
from router.outcome import Outcome
from tests.router.making import ask, begin, brain, cloud, end, name_of, serve, service, with_file

NOW = 1.0


def _explain(found: Brain, model: str | None = "m", now: float = NOW, **more: Any) -> Explanation:
    return explain(found, ask(model, **more), now)


def _told(found: Brain, model: str = "m", **more: Any) -> dict[str, tuple[str, str]]:
    """Of the first target: state and reason by name."""
    candidates = _explain(found, model, **more).targets[0].candidates
    return {one.name: (one.state, one.why) for one in candidates}


def _state(found: Brain) -> dict[str, Any]:
    """All that a request could change."""
    nodes = {
        one.name: {name: copy.copy(_plain(one, name)) for name in Node.__slots__}
        for one in (u.node for u in found.table.upstreams.values())
    }
    rotations = {
        state.name: (state.rotation.cursor, dict(state.rotation._standings))
        for state in found.states()
    }
    stats = to_builtins(views.stats(found, now=NOW, started=0.0))
    budgets = {state.name: state.budget.retries.count for state in found.states()}
    learnt = {name: len(one.index) for name, one in _learning(found)}
    fitness = (found.fitness.version, len(found.fitness.out))
    return {
        "nodes": nodes,
        "rotations": rotations,
        "stats": stats,
        "budgets": budgets,
        "learnt": learnt,
        "fitness": fitness,
    }


def _plain(node: Node, name: str) -> Any:
    found = getattr(node, name)
    if name == "breaker":
        return {slot: getattr(found, slot) for slot in type(found).__slots__}
    return found if isinstance(found, int | float | str | bytes | list | dict) else id(found)


def _learning(found: Brain) -> list[tuple[str, Any]]:
    return [(name, one) for name, one in found._strategies.items() if one.learns]


def _fleet(strategy: str, count: int = 4) -> Brain:
    config = Config(strategy=strategy)  # type: ignore[arg-type]
    return brain(
        *(
            service(f"{name}@h", "m", weight=1 + (at % 2), metadata={"priority": at % 2})
            for at, name in enumerate("abcd"[:count])
        ),
        config=config,
    )


PROMPT = read_json(b'{"model": "m", "prompt": "%s"}' % (b"lorem ipsum " * 500))


@pytest.mark.parametrize("strategy", sorted(choose.MAKERS))
def test_what_it_says_is_chosen_is_what_the_next_request_gets(strategy: str) -> None:
    found = _fleet(strategy)
    running = []
    for _ in range(25):
        said = _explain(found, envelope=PROMPT).chosen
        plan = begin(found, envelope=PROMPT, now=NOW)
        assert name_of(plan.next(NOW)) == said
        running.append(plan)
        if len(running) > 3:
            running.pop(0).ended(end(now=NOW))


@pytest.mark.parametrize("strategy", sorted(choose.MAKERS))
def test_asking_changes_nothing(strategy: str) -> None:
    found = _fleet(strategy)
    for _ in range(5):
        serve(found, envelope=PROMPT, now=NOW)
    running = begin(found, envelope=PROMPT, now=NOW)
    running.next(NOW)
    before = _state(found)
    for _ in range(3):
        _explain(found, envelope=PROMPT)
        _explain(found, headers={"x-session-id": "ana", "x-creche-region": "eu"})
    assert _state(found) == before


def test_asking_leaves_no_state_of_a_model_that_nobody_has_asked_for() -> None:
    config = Config(models={"code": Model(backend_model="m", limits=Limits(rpm=1))})
    found = brain(service("a@h", "m"), config=config)
    for _ in range(3):
        assert _explain(found, "code").chosen == "a@h"
    assert not found.models
    assert serve(found, "code") == "a@h", "nor was a limit charged"


def test_asking_takes_no_trial_of_a_breaker() -> None:
    found = brain(service("a@h", "m"))
    node = found.table.upstreams["a@h"].node
    for _ in range(5):
        found.fitness.failed(node, node.breaker.life, 0.0)
    found.fitness.probed(node)
    for _ in range(3):
        assert _explain(found, now=30.0).chosen == "a@h"
    assert name_of(begin(found, "m", now=30.0).next(30.0)) == "a@h"
    assert _explain(found, now=30.0).chosen is None, "the trial runs"


def test_a_resolution_is_told_with_its_place_and_the_chain() -> None:
    config = Config(
        models={"code": Model(backend_model="big", fallbacks=("small",))}, expect=("big", "small")
    )
    found = brain(service("b@h", "big"), service("s@h", "small"), config=config)

    def place(path: tuple[str | int, ...]) -> str:
        return "router.toml:" + ".".join(map(str, path))

    said = explain(found, ask("code"), NOW, place)
    assert said.resolution.how == "exact"
    assert said.resolution.why == "code is an alias → big"
    assert said.resolution.place == "router.toml:models.code.backend_model"
    assert (said.resolution.targets, said.resolution.fallbacks) == (["big"], ["small"])
    assert [(one.model, one.fallback) for one in said.targets] == [("big", False), ("small", True)]
    assert said.targets[1].candidates[0].state == "later"
    assert explain(found, ask("code"), NOW).resolution.place is None


def test_the_chain_is_chosen_where_its_target_cannot_be() -> None:
    config = Config(models={"big": Model(fallbacks=("small",))}, expect=("big", "small"))
    found = brain(service("b@h", "big"), service("s@h", "small"), config=config)
    node = found.table.upstreams["b@h"].node
    found.fitness.failed(node, 0, 0.0, connect=True)
    said = _explain(found, "big")
    assert said.chosen == "s@h"
    states = [(one.name, one.state) for each in said.targets for one in each.candidates]
    assert states == [("b@h", "later"), ("s@h", "chosen")]


# --- in words -------------------------------------------------------------------------------------


def test_tiers_are_worded() -> None:
    config = Config(retry=Retry(attempts_per_target=1), breaker=Breaker(failures=3, open_s=30))
    found = brain(*(service(f"{name}@h", "m") for name in "abcdef"), config=config)
    found.apply({"f@h": service("f@h", "m")}, suspect=["f@h"])
    nodes = {name: one.node for name, one in found.table.upstreams.items()}
    found.fitness.rest(nodes["b@h"], 30.0, 0.0)
    found.fitness.failed(nodes["c@h"], 0, 0.0, connect=True)
    for _ in range(3):
        found.fitness.failed(nodes["d@h"], nodes["d@h"].breaker.life, 0.0)
    for _ in range(3):
        nodes["e@h"].failed()
    nodes["a@h"].in_flight = 2
    assert _told(found) == {
        "a@h": ("chosen", "2 in flight"),
        "b@h": ("later", "rests 29 s more"),
        "c@h": ("later", "set aside: a connect failed"),
        "d@h": ("refused", "breaker open, trial in 29 s"),
        "e@h": ("later", "unhealthy: 3 failures in a row"),
        "f@h": ("later", "suspect: used only where nothing fit is left"),
    }
    tiers = {one.name: one.tier for one in _explain(found).targets[0].candidates}
    assert list(tiers.values()) == ["well", "resting", "out", "open", "out", "suspect"]


def test_needs_are_worded() -> None:
    found = brain(
        service("a@h", "m", metadata={"privacy": "confidential", "gpu": "H100"}),
        service("b@h", "m"),
        service("c@h", "m", metadata={"privacy": "confidential"}),
    )
    headers = {"x-creche-privacy": "confidential", "x-creche-gpu": "require"}
    assert _told(found, headers=headers) == {
        "a@h": ("chosen", "0 in flight"),
        "b@h": ("refused", "privacy internal, wanted confidential"),
        "c@h": ("refused", "gpu not declared, wanted one"),
    }
    assert _explain(found, headers=headers).needs == {
        "privacy": "confidential",
        "gpu": "require",
        "cost_tolerance": 50.0,
    }


def test_preferences_are_worded() -> None:
    found = brain(
        service("a@h", "m", metadata={"region": "us"}),
        service("b@h", "m", metadata={"region": "eu"}),
        config=Config(needs=Needs(region="eu", gpu="prefer")),
    )
    assert _told(found) == {
        "a@h": ("later", "after those in eu, with a GPU"),
        "b@h": ("chosen", "0 in flight"),
    }


def test_what_keeps_a_session_together_is_worded() -> None:
    found = brain(*(service(f"{name}@h", "m") for name in "abcd"))
    headers = {"x-session-id": "ana"}
    told = _told(found, headers=headers)
    chosen = serve(found, "m", headers=headers)
    state, why = told[chosen]
    assert state == "chosen" and why == "1 of 4 for this key, 0 in flight of 0.31"
    assert sorted(why[:6] for _, why in told.values()) == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]


def test_limits_are_worded() -> None:
    config = Config(
        models={"m": Model(limits=Limits(rpm=1), fallbacks=("small",))},
        providers={"cloud": cloud(models=("gpt",), limits=Limits(max_concurrency=1))},
        expect=("m", "small"),
    )
    found = with_file(config, service("a@h", "m"), service("s@h", "small"))
    serve(found, "m", now=NOW)
    assert _told(found) == {
        "a@h": ("refused", "limit of 1 requests a minute reached, room in 60 s")
    }
    assert _explain(found).chosen == "s@h"
    begin(found, "gpt").next(NOW)
    assert _told(found, "gpt") == {"cloud": ("refused", "at capacity: 1 of 1 in flight")}
    assert _explain(found, "gpt").queue == "it would wait for a place, the first to do so"


def test_a_score_is_shown_part_by_part() -> None:
    config = Config(strategy="score")
    found = brain(
        service("a@h", "m", metadata={"region": "eu", "cost": 0.2}),
        service("b@h", "m", metadata={"region": "us"}),
        service("c@h", "m"),
        config=config,
    )
    nodes = {name: one.node for name, one in found.table.upstreams.items()}
    nodes["a@h"].health = NodeHealth.HEALTHY
    nodes["a@h"].answers.append(0.045)
    nodes["b@h"].in_flight = 1  # idle, it would go first to become known
    nodes["c@h"].answers.append(7.0)
    nodes["c@h"].answered_at = 0.5
    candidates = {
        one.name: one
        for one in _explain(found, headers={"x-creche-region": "eu"}).targets[0].candidates
    }
    a, b, c = (candidates[f"{name}@h"] for name in "abc")
    assert a.state == "chosen"
    assert a.parts == {"health": 2, "latency": 0.991, "privacy": 1, "locality": 0.8, "cost": 0.8}
    assert a.score == 1.118
    assert b.state == "candidate"
    assert b.parts == {"health": 0.6, "latency": 0.8, "privacy": 1, "locality": 0.5, "cost": 0.5}
    assert b.score == 0.68
    assert (c.state, c.why) == ("refused", "refused: slower than 5 s: p50 7.0 s"[9:])


def test_panic_is_told_as_it_is() -> None:
    found = brain(*(service(f"{name}@h", "m") for name in "abcd"))
    for upstream in found.table.upstreams.values():
        for _ in range(5):
            found.fitness.failed(upstream.node, upstream.node.breaker.life, 0.0)
    said = _explain(found)
    assert said.chosen is not None
    states = sorted(one.state for one in said.targets[0].candidates)
    assert states == ["candidate", "candidate", "candidate", "chosen"]


def test_nothing_to_choose_from() -> None:
    found = brain(service("a@h", "m"))
    said = _explain(found, "typo")
    assert (said.chosen, said.targets) == (None, [])
    assert said.resolution.how == "none"
    assert said.error == "No healthy services available for model 'typo'"


def test_a_request_that_would_be_refused_is_refused() -> None:
    found = brain(service("a@h", "m"))
    with pytest.raises(RequestError):
        _explain(found, headers={"x-creche-gpu": "maybe"})
    assert not found.models


def test_a_name_from_outside_cannot_end_a_header() -> None:
    shape = Pattern(match=r"gpt[\s\S]*", provider="cloud")
    found = with_file(Config(patterns=(shape,), providers={"cloud": cloud()}))
    plan = begin(found, envelope=Envelope("gpt\r\nx-evil: é"), headers={"x-creche-explain": "1"})
    plan.next(0.0)
    assert plan.answer_head.startswith(b"x-creche-explain: pattern; target=gpt%0D%0Ax-evil: %C3%A9")
    assert plan.answer_head.count(b"\r\n") == 1
    plan.ended(end(Outcome.CANCELLED))


def test_hooks_are_asked_as_for_a_real_request() -> None:
    found = brain(service("a@h", "m"), service("b@h", "n"))
    hook = Hook(BEFORE_ROUTE, "acme", lambda _: {"model": "n"}, lambda: 0.0, lambda _: None)
    found.reconfigure(Config(), hooks=Hooks(before_route=(hook,)))
    assert _explain(found, "m").chosen == serve(found, "m") == "b@h"


def test_every_candidate_is_there_once() -> None:
    names = [f"s{at:02}@h" for at in range(30)]
    found = brain(*(service(name, "m") for name in names))
    candidates: list[Candidate] = _explain(found).targets[0].candidates
    assert [one.name for one in candidates] == names
