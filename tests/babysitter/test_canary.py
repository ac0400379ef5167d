"""When an idle engine is asked for a token, and what follows from what it says."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from babysitter import canary
from babysitter.canary import PATHS, Answer, Canary, Glance, Said, Verdict

IDLE = Glance(0, 5)
TOKEN, NOTHING = Said(Answer.GENERATED), Said(Answer.NOTHING, "no answer in time")


def idle(at: float = 100.0) -> Canary:
    """Idle since 0, and due from 60 on."""
    found = Canary(60, failures_max=2)
    assert not found.due(IDLE, 0)
    assert found.due(IDLE, at)
    return found


def test_it_is_asked_when_it_was_idle_for_long_enough() -> None:
    found = Canary(60, failures_max=2)
    assert [found.due(IDLE, at) for at in (0, 30, 59, 60)] == [False, False, False, True]


def test_a_request_or_any_work_begins_the_idle_time_anew() -> None:
    found = Canary(60, failures_max=2)
    assert not found.due(IDLE, 0)
    assert not found.due(Glance(1, 5), 50)
    assert not found.due(Glance(0, 6), 70), "one came and went between two glances"
    assert [found.due(Glance(0, 6), at) for at in (129, 130)] == [False, True]


def test_where_its_kind_tells_no_work_connections_alone_count() -> None:
    found = Canary(60, failures_max=2)
    glances = [(0, 0.0), (1, 50.0), (0, 100.0), (0, 110.0)]
    assert [found.due(Glance(n), at) for n, at in glances] == [False, False, False, True]


def test_off_it_is_never_asked() -> None:
    found = Canary(0, failures_max=2)
    assert not any(found.due(IDLE, at) for at in (0, 1e6))


def test_a_token_begins_the_idle_time_anew() -> None:
    found = idle()
    assert found.answered(TOKEN, IDLE, Glance(0, 6), 101) is Verdict.WELL
    after = Glance(0, 6)
    assert [found.due(after, at) for at in (102, 160, 161)] == [False, False, True]


def test_no_token_makes_it_doubted_then_sick() -> None:
    found = idle()
    assert found.answered(NOTHING, IDLE, IDLE, 130) is Verdict.DOUBTED
    assert not found.due(Glance(1, 5), 130), "a stall of what is in flight is watched for itself"
    assert found.due(IDLE, 131)
    assert found.answered(NOTHING, IDLE, Glance(1, 5), 160) is Verdict.SICK, "ours may still count"


@pytest.mark.parametrize(
    ("said", "before"), [(NOTHING, Glance(1, 5)), (Said(Answer.BUSY), Glance(0, 5))]
)
def test_an_engine_at_work_is_not_judged(said: Said, before: Glance) -> None:
    found = idle()
    found.answered(NOTHING, IDLE, IDLE, 130)
    assert found.answered(said, before, Glance(1, 5), 160) is Verdict.UNKNOWN
    assert found.failures == 0


def test_a_token_in_between_clears_it() -> None:
    found = idle()
    found.answered(NOTHING, IDLE, IDLE, 130)
    assert found.answered(TOKEN, IDLE, Glance(0, 6), 131) is Verdict.WELL
    assert not found.due(Glance(0, 6), 132)
    assert found.due(Glance(0, 6), 200)
    assert found.answered(NOTHING, Glance(0, 6), Glance(0, 6), 230) is Verdict.DOUBTED


@pytest.mark.parametrize("after", [Glance(0, 6), Glance(2, 5)])
def test_what_moved_meanwhile_speaks_for_it(after: Glance) -> None:
    found = idle()
    assert found.answered(NOTHING, IDLE, after, 130) is Verdict.UNKNOWN
    assert found.failures == 0


def test_who_refuses_is_not_asked_again() -> None:
    found = idle()
    assert found.answered(Said(Answer.REFUSED), IDLE, IDLE, 101) is Verdict.UNASKABLE
    assert not any(found.due(IDLE, at) for at in (200, 1e6))


def test_one_that_was_not_ready_begins_anew() -> None:
    found = idle()
    found.answered(NOTHING, IDLE, IDLE, 130)
    found.begin_anew()
    assert not found.due(IDLE, 140)


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, b'{"choices":[{"text":"a"}]}', Answer.GENERATED),
        (200, b'{"choices":[]}', Answer.NOTHING),
        (200, b'{"error":{"message":"dead"}}', Answer.NOTHING),
        (200, b"<html>", Answer.NOTHING),
        (200, b"", Answer.NOTHING),
        (500, b"", Answer.NOTHING),
        (503, b"", Answer.BUSY),
        (429, b"", Answer.BUSY),
        (400, b"", Answer.REFUSED),
        (401, b"", Answer.REFUSED),
        (404, b"", Answer.REFUSED),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, answer: Answer) -> None:
    assert canary.read(PATHS[0], status, body).answer is answer


def test_the_question_asks_for_one_token() -> None:
    for path in PATHS:
        body = msgspec.json.decode(canary.question(path, "m"))
        assert (body["model"], body["max_tokens"], body["stream"]) == ("m", 1, False)
        assert ("messages" in body) == path.endswith("chat/completions")


def test_what_an_engine_declares_decides_whether_it_is_asked() -> None:
    assert canary.generates({}) and canary.generates({"capabilities": ()})
    assert canary.generates({"capabilities": ("embed", "code")})
    assert not canary.generates({"capabilities": ("embed",)})


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Answer), st.integers(0, 2), st.integers(0, 1), st.floats(0.1, 100)
        ),
        max_size=40,
    )
)
def test_it_is_sick_only_after_so_many_in_a_row_of_which_nothing_moved(
    answers: list[tuple[Answer, int, int, float]],
) -> None:
    found, now, work, bad = Canary(10, failures_max=3), 0.0, 0, 0
    for answer, others, moved, seconds in answers:
        before = Glance(0, work)
        if not found.due(before, now):
            now += seconds
            continue
        now += seconds
        work += moved
        verdict = found.answered(Said(answer), before, Glance(others, work), now)
        silent = answer is Answer.NOTHING and others < 2 and not moved
        bad = bad + 1 if silent else 0
        assert (verdict is Verdict.SICK) == (bad >= 3)
        assert (verdict is Verdict.DOUBTED) == (0 < bad < 3)
        if verdict is Verdict.UNASKABLE:
            assert not found.due(before, now + 1e9)
            return
