"""Whose key a text is, and what it may do."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import envelope
from router.caller import Caller, Scope
from router.errors import Problem, RequestError
from router.keys.admission import admit
from router.keys.orders import Order, OrderError
from router.keys.record import Key, KeyNeeds, digest_of, text_of
from router.keys.ring import KeyRing
from router.named import Limits
from router.route import Route, resolve
from router.seam import Ask
from tests.router.making import brain, service

TEXT = text_of(b"abcdef", b"s" * 24)


def key(text: str = TEXT, **more: object) -> Key:
    order = Order(name=more.pop("name", "ana"), **more)  # type: ignore[arg-type]
    return order.key(text.split("-")[2], digest_of(text), 1_000.0)


def test_a_key_is_known_by_its_text_alone() -> None:
    ring = KeyRing([key()])
    found = ring.find(TEXT, 1_000.0)
    assert isinstance(found, Caller)
    assert (found.name, found.scope, found.expires) == ("ana", Scope.USE, inf)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        TEXT + "0",
        TEXT[:-1],
        TEXT[:-1] + ("0" if TEXT[-1] != "0" else "1"),
        TEXT.upper(),
        text_of(b"abcdef", b"t" * 24),
        text_of(b"fedcba", b"s" * 24),
        "sk-creche-é" + "0" * 60,
        TEXT * 1_000,
    ],
)
def test_any_other_text_is_refused_without_saying_why(text: str) -> None:
    found = KeyRing([key()]).find(text, 1_000.0)
    assert isinstance(found, Problem)
    assert (found.status, found.code, found.message) == (
        401,
        "invalid_api_key",
        "Incorrect API key provided",
    )


@given(st.text(max_size=120))
def test_no_text_but_its_own_opens_a_key(text: str) -> None:
    assert isinstance(KeyRing([key()]).find(text, 0.0), Problem)


def test_a_revoked_key_is_as_unknown_as_one_that_never_was() -> None:
    from msgspec.structs import replace

    ring = KeyRing([replace(key(), revoked=1_001.0)])
    assert ring.find(TEXT, 1_000.0) == KeyRing().find(TEXT, 1_000.0)


def test_an_expired_key_says_so_and_the_last_second_before_is_good() -> None:
    ring = KeyRing([key(expires_s=60.0)])
    assert isinstance(ring.find(TEXT, 1_059.9), Caller)
    found = ring.find(TEXT, 1_060.0)
    assert isinstance(found, Problem)
    assert found.message == "The API key 'ana' has expired"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TEXT}"},
        {"authorization": f"bearer   {TEXT} "},
        {"x-api-key": TEXT},
        {"api-key": TEXT},
    ],
)
def test_clients_send_it_as_they_send_one_to_openai_anthropic_or_azure(
    headers: dict[str, str],
) -> None:
    assert KeyRing([key()]).identify(headers, 0.0).name == "ana"


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "No API key was given"),
        ({"authorization": f"Basic {TEXT}"}, "No API key was given"),
        ({"authorization": "Bearer"}, "No API key was given"),
        ({"authorization": "Bearer x", "x-api-key": TEXT}, "Incorrect API key"),
    ],
)
def test_what_came_without_a_key_is_told_how_to_send_one(
    headers: dict[str, str], says: str
) -> None:
    with pytest.raises(RequestError) as refused:
        KeyRing([key()]).identify(headers, 0.0)
    assert refused.value.problem.message.startswith(says)


# --- what a key may do ----------------------------------------------------------------------------


class Head:
    def __init__(self, method: str = "POST", path: str = "/v1/chat/completions") -> None:
        self.method, self.path = method, path
        self.websocket = path.endswith("/realtime")
        self.fields = {"authorization": f"Bearer {TEXT}"}
        self.caller = Caller("nobody yet", expires=inf)
        self.admitted_by: object = None

    @property
    def route(self) -> Route:
        return resolve(self.method, self.path)


FOR_USERS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/resp_1"),
    ("DELETE", "/v1/responses/resp_1"),
    ("POST", "/v1/responses/resp_1/cancel"),
    ("GET", "/v1/realtime"),
    ("POST", "/api/chat"),
    ("GET", "/api/tags"),
    ("POST", "/api/show"),
    ("POST", "/v1/images/edits"),
]
FOR_ADMINS = [
    ("DELETE", "/api/delete"),
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/slots/0"),
    ("GET", "/slots"),
    ("GET", "/props"),
    ("POST", "/props"),
    ("POST", "/v1/load_lora_adapter"),
    ("GET", "/v1/messages/batches"),
    ("POST", "/v1/messages/batches"),
    ("GET", "/v1/audio/voices"),
    ("GET", "/anything"),
    ("PUT", "/v1/chat/completions"),
]


@pytest.mark.parametrize(("method", "path"), FOR_USERS)
def test_a_users_key_is_for_inference(method: str, path: str) -> None:
    head = Head(method, path)
    admit(KeyRing([key()]), head, head.route, 0.0)
    assert head.caller.name == "ana"


def test_a_tunnel_whose_questions_nobody_sees_wants_an_admins_key() -> None:
    head = Head("GET", "/v1/responses")
    admit(KeyRing([key()]), head, head.route, 0.0)
    tunnel = Head("GET", "/v1/responses")
    tunnel.websocket = True
    with pytest.raises(RequestError, match="wants a key with the scope 'admin'"):
        admit(KeyRing([key()]), tunnel, tunnel.route, 0.0)


@pytest.mark.parametrize(("method", "path"), FOR_ADMINS)
def test_other_routes_of_engines_want_an_admins_key(method: str, path: str) -> None:
    head = Head(method, path)
    with pytest.raises(RequestError) as refused:
        admit(KeyRing([key()]), head, head.route, 0.0)
    problem = refused.value.problem
    assert (problem.status, problem.code) == (403, "insufficient_scope")
    assert problem.message == f"{method} {path} wants a key with the scope 'admin'; 'ana' has 'use'"
    admit(KeyRing([key(scope=Scope.ADMIN)]), head, head.route, 0.0)


def test_a_head_that_comes_again_is_looked_up_again_once_keys_have_changed() -> None:
    head, first = Head(), KeyRing([key(expires_s=10.0)])
    admit(first, head, head.route, 1_000.0)
    known = head.caller
    admit(first, head, head.route, 1_009.0)
    assert head.caller is known
    with pytest.raises(RequestError, match="expired"):
        admit(first, head, head.route, 1_010.0)
    admit(first, head, head.route, 1_000.0)
    with pytest.raises(RequestError, match="Incorrect"):
        admit(KeyRing(), head, head.route, 1_000.0)


def test_models_are_named_whole_or_by_their_beginning() -> None:
    caller = Caller("ana", models=("qwen3-*", "embed"))
    assert [
        caller.may_ask_for(name) for name in ("qwen3-8b", "qwen3-", "embed", "embed-2", "qwen")
    ] == [True, True, True, False, False]
    assert Caller("bob").may_ask_for("anything")


def test_scopes_include_those_below() -> None:
    may = {
        scope: [other for other in Scope if Caller("x", scope=scope).may(other)] for scope in Scope
    }
    assert may == {
        Scope.USE: [Scope.USE],
        Scope.READ: [Scope.USE, Scope.READ],
        Scope.ADMIN: [Scope.USE, Scope.READ, Scope.ADMIN],
    }


# --- orders ---------------------------------------------------------------------------------------


def test_an_order_becomes_a_key_with_all_it_says() -> None:
    made = Order(
        name="ci",
        tenant="lab",
        scope=Scope.READ,
        models=("m*",),
        privacy="confidential",
        needs=KeyNeeds(region="eu"),
        limits=Limits(rpm=6),
        weight=2.0,
        expires_s=60.0,
    ).key("0" * 12, "d", 100.0)
    assert made == Key(
        id="0" * 12,
        name="ci",
        digest="d",
        created=100.0,
        tenant="lab",
        scope=Scope.READ,
        models=("m*",),
        privacy="confidential",
        needs=KeyNeeds(region="eu"),
        limits=Limits(rpm=6),
        weight=2.0,
        expires=160.0,
    )


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (Order(name=""), "a key's name is made of letters, digits, . _ @ -, at most 128 of them"),
        (Order(name="a b"), "a key's name is made of"),
        (Order(name="x" * 129), "a key's name is made of"),
        (Order(name="x", tenant="a/b"), "a tenant's name is made of"),
        (Order(name="x", models=("",)), "'' is no model's name"),
        (Order(name="x", models=("a\nb",)), "is no model's name"),
        (Order(name="x", models=("a*b",)), "'a*b': a * stands at the end alone"),
        (Order(name="x", models=("m",) * 257), "at most 256 models"),
    ],
)
def test_an_order_that_cannot_be_is_refused_in_a_sentence(order: Order, says: str) -> None:
    with pytest.raises(OrderError) as refused:
        order.check()
    assert says in str(refused.value)


# --- names that only some servers read ------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"small","Model":"big"}',
        b'{"MODEL":"big","model":"small"}',
        b'{"model":"small","\\u004dodel":"big"}',
    ],
)
def test_a_key_for_certain_models_names_them_in_one_way(body: bytes) -> None:
    """Some servers compare keys without case, and the last one wins."""
    limited = Caller("ana", models=("small",))
    with pytest.raises(RequestError, match="names 'model' in two ways"):
        brain(service("a", "small", "big")).begin(asking(body, limited), 0.0)
    brain(service("a", "small", "big")).begin(asking(body, Caller("bob")), 0.0)


def asking(body: bytes, caller: Caller) -> Ask:
    route = resolve("POST", "/v1/chat/completions")
    said = envelope.read_json(body)
    return Ask("id", "POST", "/v1/chat/completions", route, {}, said, "", len(body), 0.0, caller)
