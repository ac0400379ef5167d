import pytest

from router.outcome import RETRIED, WORDS, Failure, Outcome, of_failure, of_status


@pytest.mark.parametrize(
    ("status", "retry_after", "outcome"),
    [
        (101, False, Outcome.OK),
        (200, False, Outcome.OK),
        (302, False, Outcome.OK),
        (400, False, Outcome.CLIENT),
        (404, True, Outcome.CLIENT),
        (408, False, Outcome.BROKEN),
        (409, False, Outcome.CLIENT),
        (429, False, Outcome.BACKPRESSURE),
        (500, False, Outcome.BROKEN),
        (503, False, Outcome.BROKEN),
        (503, True, Outcome.BACKPRESSURE),
        (529, False, Outcome.BACKPRESSURE),
        (599, True, Outcome.BROKEN),
    ],
)
def test_a_status_has_one_outcome(status: int, retry_after: bool, outcome: Outcome) -> None:
    assert of_status(status, retry_after) is outcome


def test_every_failure_has_an_outcome() -> None:
    assert {of_failure(one) for one in Failure} == {
        Outcome.UNREACHABLE,
        Outcome.IDLE_RACE,
        Outcome.SLOW,
        Outcome.BROKEN,
        Outcome.CUT,
        Outcome.CANCELLED,
    }


def test_what_the_client_has_seen_or_left_is_never_retried() -> None:
    assert Outcome.CUT not in RETRIED
    assert Outcome.CANCELLED not in RETRIED
    assert Outcome.CLIENT not in RETRIED


def test_a_word_for_each() -> None:
    assert WORDS[Outcome.CUT] == "cut"
    assert len(set(WORDS)) == len(Outcome)
