import pytest

from router.route import Family, Kind, is_capability, resolve


@pytest.mark.parametrize(
    "path",
    ["/health", "/status", "/ready", "/stats", "/services", "/models", "/v1/models"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_control_paths_are_ours(method: str, path: str) -> None:
    assert resolve(method, path).kind is Kind.CONTROL


@pytest.mark.parametrize("path", ["/v1/models/a", "/v1/models/org/a", "/v1/models/org%2Fa"])
def test_one_model_is_ours(path: str) -> None:
    assert resolve("GET", path).kind is Kind.CONTROL


@pytest.mark.parametrize("path", ["/metrics", "/explain", "/dashboard", "/admin/", "/admin/x"])
def test_operators_paths_are_told_apart(path: str) -> None:
    assert resolve("GET", path).kind is Kind.OPERATOR


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/health"),
        ("POST", "/v1/models"),
        ("GET", "/health/"),
        ("GET", "/%68ealth"),
        ("GET", "//health"),
        ("GET", "/v1/models/"),
        ("GET", "/v1"),
        ("GET", "/"),
        ("GET", "/admin"),
        ("OPTIONS", "*"),
        ("DELETE", "/v1/responses/resp_1"),
        ("BREW", "/pot"),
    ],
)
def test_everything_else_is_relayed(method: str, path: str) -> None:
    assert resolve(method, path).kind is Kind.RELAY


def test_all_of_admin_is_the_operators_whatever_the_method() -> None:
    assert resolve("POST", "/admin/reload").kind is Kind.OPERATOR


@pytest.mark.parametrize(
    ("path", "capability"),
    [
        ("/v1/chat/completions", "generate"),
        ("/chat/completions", "generate"),
        ("/v1/completions", "generate"),
        ("/v1/responses", "generate"),
        ("/v1/messages", "generate"),
        ("/v1/embeddings", "embed"),
        ("/v1/audio/transcriptions", "transcribe"),
        ("/v1/audio/translations", "transcribe"),
        ("/v1/audio/speech", "synthesize"),
        ("/v1/images/generations", "image_gen"),
        ("/v1/images/something-new", "image_gen"),
        ("/v1/rerank", None),
        ("/embedding", None),
        ("/api/chat", None),
    ],
)
def test_a_path_says_the_capability(path: str, capability: str | None) -> None:
    assert resolve("POST", path).capability == capability


def test_a_get_never_takes_a_model() -> None:
    assert not resolve("GET", "/v1/chat/completions").takes_model
    assert resolve("POST", "/v1/chat/completions").takes_model
    assert resolve("POST", "/anything").takes_model


def test_only_inference_and_reads_are_sent_twice() -> None:
    assert resolve("POST", "/v1/chat/completions").retry_after_sent
    assert resolve("GET", "/props").retry_after_sent
    assert not resolve("POST", "/api/pull").retry_after_sent
    assert not resolve("DELETE", "/api/delete").retry_after_sent
    assert not resolve("POST", "/v1/responses/resp_1/cancel").retry_after_sent


def test_a_route_knows_its_dialect() -> None:
    assert resolve("POST", "/v1/messages").family is Family.MESSAGES
    assert resolve("POST", "/v1/messages/batches").family is Family.MESSAGES
    assert resolve("POST", "/v1/responses").family is Family.RESPONSES
    assert resolve("POST", "/v1/chat/completions").family is Family.CHAT


def test_known_capabilities_and_custom_ones() -> None:
    assert is_capability("embed")
    assert is_capability("custom:ocr")
    assert not is_capability("custom:")
    assert not is_capability("anything")
