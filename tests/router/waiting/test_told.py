"""What those hear that may not wait, and what headers say of waiting."""

import pytest

from router.caller import ANYBODY, Caller
from router.config import Queue
from router.errors import RequestError
from router.named import Tenant
from router.waiting.asked import band, path, patience_s
from router.waiting.queues import Reason, Refusal
from router.waiting.told import problem


def _refusal(reason: Reason, wait_s: float | None = 12.5, patience_s: float = 10.0) -> Refusal:
    return Refusal(reason, wait_s, patience_s, waiting=7, own=3)


def test_a_fleet_without_places_is_503_and_says_when_one_as_patient_is_let_in() -> None:
    found = problem(_refusal(Reason.WAIT), "code", "key 'ana'")
    assert (found.status, found.code, found.type) == (503, "overloaded", "server_error")
    assert found.message == (
        "Every place for model 'code' is taken: 7 others wait, its turn would come in 12.5 s."
        " Try again in 3 s"
    )
    assert found.retry_after_s == 3
    assert found.headers == (("retry-after-ms", "2500"),)


@pytest.mark.parametrize("reason", [Reason.SHARE, Reason.DISPLACED])
def test_ones_own_share_is_429_and_names_whose(reason: Reason) -> None:
    found = problem(_refusal(reason), "code", "key 'ana'")
    assert (found.status, found.code, found.type) == (429, "rate_limit_exceeded", "requests")
    assert found.message.startswith(
        "Too many requests of key 'ana' wait for model 'code': 3 of its own wait"
    )


def test_without_a_key_it_is_the_address_that_asks_too_much() -> None:
    found = problem(_refusal(Reason.SHARE), None, "")
    assert found.message.startswith("Too many requests of this address wait for this request")


def test_a_limit_of_the_file_is_429() -> None:
    assert problem(_refusal(Reason.FULL), "code", "", limited=True).status == 429


def test_one_that_waited_in_vain_is_told_for_how_long() -> None:
    found = problem(_refusal(Reason.LATE, wait_s=4.0, patience_s=30.0), "code", "")
    assert found.status == 503
    assert "was taken for 30 s" in found.message
    assert found.retry_after_s == 4, "it has no patience left to take off"


def test_nobody_is_told_to_come_back_at_once() -> None:
    found = problem(_refusal(Reason.FULL, wait_s=None), "code", "")
    assert (found.retry_after_s, found.headers) == (1, (("retry-after-ms", "100"),))


def test_a_request_that_says_nothing_is_normal_and_as_patient_as_the_file() -> None:
    assert band({}) == 1
    assert patience_s({}) is None


def test_headers_are_read_as_people_write_them() -> None:
    assert band({"x-priority": "High"}) == 0
    assert patience_s({"x-request-timeout": "2.5"}) == 2.5
    assert patience_s({"x-request-timeout": "0"}) == 0


@pytest.mark.parametrize("said", ["", "1e3", "inf", "-1", "5s", "1" * 200])
def test_a_timeout_that_is_no_number_is_refused_and_not_echoed_whole(said: str) -> None:
    with pytest.raises(RequestError) as error:
        patience_s({"x-request-timeout": said})
    assert error.value.problem.status == 400
    assert len(error.value.problem.message) < 150


def test_a_share_is_the_tenants_then_the_keys() -> None:
    ana = Caller("ana", id="1", tenant="lab", weight=3.0)
    found = path(ana, "10.0.0.1", 1, Queue(), {"lab": Tenant(weight=2.0)})
    assert found == ((1, 4.0), (("tenant", "lab"), 2.0), (("key", "1"), 3.0))


def test_without_a_tenant_it_is_the_keys_and_without_keys_the_addresss() -> None:
    ana = Caller("ana", id="1", weight=3.0)
    assert path(ana, "10.0.0.1", 0, Queue(), {})[1:] == ((("key", "1"), 3.0),)
    assert path(ANYBODY, "10.0.0.1", 0, Queue(), {})[1:] == ((("address", "10.0.0.1"), 1.0),)


def test_a_key_is_held_to_its_band_and_may_ask_for_less() -> None:
    ana = Caller("ana", id="1", band_max=1)
    assert [path(ana, "", asked, Queue(), {})[0][0] for asked in (0, 1, 2)] == [1, 1, 2]
