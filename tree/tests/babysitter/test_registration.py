"""What the registry is told, and when: a book that is played answers and time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from babysitter.registration import (
    REFUSED_RETRY_S,
    Answer,
    Book,
    Register,
    Remove,
    Request,
    SendBeat,
    Update,
)
from common.wire.registry import Beat, ErrorCode, Registration

OK = Answer(200)
CREATED = Answer(201, beat_s=5.0)
GONE = Answer(404, "not_found", "Service 'x' not found")
STALE = Answer(409, ErrorCode.STALE_INSTANCE, "replaced or deleted")
NAME = Answer(409, ErrorCode.NAME_CONFLICT, "'x' is leased at 10.0.0.7:8100")


def record(life: str = "a", status: str = "running", **metadata: Any) -> Registration:
    return Registration(
        name="x", host="h", port=1, hostname="h", url="http://h:1",
        status=status, instance_id=life, metadata=metadata,
    )  # fmt: skip


class Play:
    def __init__(self) -> None:
        self.book = Book()
        self.now = 100.0
        self.lives = 0

    def want(self, wanted: Registration | None) -> None:
        self.book.want(wanted)

    def next(self, after_s: float = 0.0) -> Request | None:
        self.now += after_s
        return self.book.next(self.now)

    def answer(self, request: Request, answer: Answer | None) -> None:
        self.lives += 1
        if answer is None:
            self.book.unanswered(request, self.now, 0.0)
        else:
            self.book.answered(request, answer, self.now, f"fresh{self.lives}")

    def step(self, answer: Answer | None = OK, after_s: float = 0.0) -> Request | None:
        """The next request, answered."""
        request = self.next(after_s)
        if request is not None:
            self.answer(request, answer)
        return request

    def known(self) -> "Play":
        self.want(record())
        assert self.step(CREATED) == Register(record())
        return self


@pytest.fixture
def play() -> Play:
    return Play()


def test_nothing_wanted_is_nothing_said(play: Play) -> None:
    assert play.next() is None
    assert play.book.wake_at is None


def test_it_is_registered_then_beats_as_the_registry_asked(play: Play) -> None:
    play.want(record())
    play.step(Answer(201, beat_s=2.0))
    assert play.next() is None
    assert play.book.wake_at == play.now + 2.0
    assert play.step(after_s=2.0) == SendBeat("x", Beat(status="running", instance_id="a"))


def test_a_changed_state_is_beaten_at_once(play: Play) -> None:
    play.known()
    play.want(record(status="backoff"))
    assert play.step() == SendBeat("x", Beat(status="backoff", instance_id="a"))
    assert play.next() is None


def test_a_changed_record_is_put(play: Play) -> None:
    play.known()
    play.want(record(status="backoff", last_exit={"cause": "oom"}))
    assert play.step() == Update(record(status="backoff", last_exit={"cause": "oom"}))


def test_a_new_life_is_registered(play: Play) -> None:
    play.known()
    play.want(record("b"))
    assert play.step(CREATED) == Register(record("b"))


def test_a_change_while_a_request_is_under_way_follows_at_once(play: Play) -> None:
    play.want(record())
    request = play.next()
    assert request is not None
    play.want(record(status="backoff"))
    play.answer(request, CREATED)
    assert play.step() == SendBeat("x", Beat(status="backoff", instance_id="a"))


@pytest.mark.parametrize("status", ["running", "backoff"])
def test_404_registers_again_at_once(play: Play, status: str) -> None:
    play.known()
    play.want(record(status=status))
    play.step(GONE, after_s=5.0)
    assert not play.book.registered
    assert play.step(CREATED) == Register(record(status=status))


def test_a_retired_life_takes_a_new_instance_id_at_once_and_keeps_it(play: Play) -> None:
    play.known()
    play.step(STALE, after_s=5.0)
    request = play.step(CREATED)
    assert request == Register(record("fresh2"))
    play.want(record("a", status="draining"))
    assert play.step() == SendBeat("x", Beat(status="draining", instance_id="fresh2"))
    assert play.book.alias == ("a", "fresh2")


def test_a_second_retirement_is_renamed_from_the_lifes_own_id(play: Play) -> None:
    play.known()
    play.step(STALE, after_s=5.0)
    play.step(CREATED)
    play.step(STALE, after_s=5.0)
    assert play.book.alias is not None
    assert play.book.alias[0] == "a"


def test_a_conflict_is_tried_once_more_then_told_then_tried_slowly(play: Play) -> None:
    play.want(record())
    play.step(NAME)
    assert play.book.conflict is None, "it may be the end of an earlier life"
    assert play.step(NAME, after_s=2.5) == Register(record())
    assert play.book.conflict == "'x' is leased at 10.0.0.7:8100"
    assert play.next(after_s=REFUSED_RETRY_S - 1) is None
    assert play.step(CREATED, after_s=1.0) == Register(record())
    assert play.book.conflict is None


def test_a_conflict_does_not_make_it_hurry_when_its_state_changes(play: Play) -> None:
    play.want(record())
    play.step(NAME)
    play.step(NAME, after_s=2.5)
    play.want(record(status="backoff"))
    assert play.next() is None


def test_a_refused_token_is_told_and_tried_slowly(play: Play) -> None:
    play.want(record())
    play.step(Answer(401, "unauthorized", "a valid token is wanted"))
    assert play.book.conflict == "the registry refuses it: 401 a valid token is wanted"
    assert play.next(after_s=REFUSED_RETRY_S - 1) is None


def test_away_it_is_asked_again_soon_then_at_the_pace_of_a_beat(play: Play) -> None:
    play.known()
    waits = []
    for _ in range(7):
        assert play.step(None, after_s=(play.book.wake_at or 0.0) - play.now) is not None
        waits.append(round((play.book.wake_at or 0.0) - play.now, 3))
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert play.book.registered, "a registry that is away has not forgotten"


def test_no_longer_wanted_it_is_removed_once(play: Play) -> None:
    play.known()
    play.want(None)
    assert play.step() == Remove("x", "a")
    assert play.book.done
    assert play.next(after_s=100) is None


@pytest.mark.parametrize("answer", [GONE, STALE])
def test_what_is_gone_or_not_ours_any_more_need_not_be_removed(play: Play, answer: Answer) -> None:
    play.known()
    play.want(None)
    play.step(answer)
    assert play.book.done


def test_a_registration_whose_answer_was_lost_is_removed_when_it_is_not_wanted(play: Play) -> None:
    play.want(record())
    play.step(None)
    play.want(None)
    assert not play.book.done
    assert play.step() == Remove("x", "a")
    assert play.book.done


def test_a_new_life_whose_answer_was_lost_is_removed_and_so_is_the_one_before(play: Play) -> None:
    play.known()
    play.want(record("b"))
    play.step(None)
    play.want(None)
    assert play.step(GONE) == Remove("x", "b"), "it never arrived"
    assert play.step() == Remove("x", "a")
    assert play.book.done


def test_a_lost_answer_is_forgotten_once_a_later_registration_is_answered(play: Play) -> None:
    play.want(record())
    play.step(None)
    play.step(CREATED, after_s=1.0)
    play.want(None)
    assert play.step() == Remove("x", "a")
    assert play.book.done


def test_what_is_to_go_is_asked_at_once_of_a_registry_that_was_away(play: Play) -> None:
    play.known()
    for _ in range(6):
        play.step(None, after_s=5.0)
    play.want(None)
    assert play.step(None) == Remove("x", "a")
    assert play.next() is None, "and then not in a hurry"


ANSWERS = st.sampled_from([OK, CREATED, GONE, STALE, NAME, Answer(400, "invalid", "no"), None])
WANTS = st.sampled_from([record("a"), record("a", "backoff"), record("b", n=1), None, "as it was"])


@given(st.lists(st.tuples(WANTS, ANSWERS, st.floats(0, 20)), max_size=40), st.integers(0, 3))
def test_whatever_happens_it_ends_well_once_the_registry_answers_well(
    steps: list[tuple[Any, Answer | None, float]], last: int
) -> None:
    play = Play()
    for want, answer, pause in steps:
        if want != "as it was":
            play.want(want)
        play.step(answer, after_s=pause)
        assert play.book.wake_at is None or play.book.wake_at - play.now < REFUSED_RETRY_S + 0.001
    wanted = [record("a"), record("a", "fatal"), record("c", m=2), None][last]
    play.want(wanted)
    for _ in range(4):
        play.step(CREATED, after_s=REFUSED_RETRY_S)
    assert play.book.done
    if wanted is None:
        assert play.book.known is None
    else:
        known = play.book.known
        assert known is not None
        assert structs.replace(known, instance_id=wanted.instance_id) == wanted
        assert play.book.conflict is None


@pytest.mark.parametrize("status", [400, 413])
def test_beats_go_on_while_a_changed_record_is_refused(play: Play, status: int) -> None:
    play.known()
    too_large = record(models=["m" * 100])
    play.want(too_large)
    assert play.step(Answer(status, text="too large")) == Update(too_large)
    assert play.book.conflict == f"the registry refuses it: {status} too large"
    beat = SendBeat("x", Beat(status="running", instance_id="a"))
    for after_s in (0.0, 5.0, 5.0):
        assert play.step(after_s=after_s) == beat
        assert play.next() is None
    assert play.book.registered and play.book.conflict  # a beat taken is no record taken
    assert play.step(after_s=5.0) == Update(too_large)  # the registry may take more by now
    assert play.book.conflict is None and play.book.done


def test_its_state_is_told_while_its_record_is_refused(play: Play) -> None:
    play.known()
    play.want(record(models=["m"]))
    play.step(Answer(413))
    play.step()
    play.want(record(models=["m"], status="backoff"))
    assert play.step() == SendBeat("x", Beat(status="backoff", instance_id="a"))
    assert play.next() is None


def test_a_record_that_is_changed_again_is_put_at_once(play: Play) -> None:
    play.known()
    play.want(record(models=["m"] * 2))
    play.step(Answer(413))
    play.step()
    play.want(record(models=["m"]))
    assert play.step() == Update(record(models=["m"]))
    assert play.book.conflict is None
    assert play.book.done


def test_a_refused_beat_is_sent_again_with_the_next(play: Play) -> None:
    play.known()
    play.step(Answer(400, text="no"), after_s=5.0)
    assert play.next(4.9) is None
    assert isinstance(play.next(0.2), SendBeat)
