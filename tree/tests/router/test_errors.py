import json

from router import errors
from router.errors import Problem
from router.outcome import Outcome
from router.route import Family


def test_the_texts_are_exact() -> None:
    named = errors.no_service("code", ever_offered=True, retry_after_s=5)
    assert named.message == "No healthy services available for model 'code'"
    assert errors.no_service(None, ever_offered=True, retry_after_s=5).message == (
        "No healthy services available"
    )


def test_a_name_nothing_ever_offered_is_not_worth_a_retry() -> None:
    problem = errors.no_service("typo", ever_offered=False, retry_after_s=5)
    assert (problem.status, problem.code) == (503, "model_not_found")
    assert ("x-should-retry", "false") in errors.headers(problem)
    assert "retry-after" not in dict(errors.headers(problem))


def test_a_name_that_was_offered_is_worth_one() -> None:
    problem = errors.no_service("code", ever_offered=True, retry_after_s=5)
    assert problem.code == "no_healthy_services"
    assert dict(errors.headers(problem))["retry-after"] == "5"


def test_each_dialect_gets_its_shape() -> None:
    problem = Problem(503, "none", code="c")
    openai = json.loads(errors.body(problem))
    assert openai == {
        "error": {"message": "none", "type": "server_error", "param": None, "code": "c"}
    }
    anthropic = json.loads(errors.body(problem, Family.MESSAGES, request_id="r"))
    assert anthropic["error"] == {"type": "overloaded_error", "message": "none"}
    assert anthropic["request_id"] == "r"
    assert json.loads(errors.body(problem, Family.MESSAGES, plain=True)) == {"error": "none"}


def test_mid_stream_events_are_whole_and_speak_the_dialect() -> None:
    problem = errors.failed(Outcome.CUT, "a@b")
    chat = errors.event(problem)
    assert chat.startswith(b"data: ") and chat.endswith(b"\n\n")
    assert json.loads(chat[6:])["error"]["code"] == "upstream_cut"
    responses = errors.event(problem, Family.RESPONSES)
    assert responses.startswith(b"event: error\ndata: ")
    assert json.loads(responses.partition(b"data: ")[2])["type"] == "error"
    messages = errors.event(problem, Family.MESSAGES)
    assert json.loads(messages.partition(b"data: ")[2])["error"]["type"] == "api_error"


def test_the_last_word_says_whose_fault_and_how() -> None:
    assert errors.failed(Outcome.UNREACHABLE, "a").status == 502
    assert errors.failed(Outcome.SLOW, "a").status == 504
    assert "'a'" in errors.failed(Outcome.BROKEN, "a").message
