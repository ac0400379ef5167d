from posixpath import normpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.endpoint import Key, endpoint, key, metadata
from router.errors import RequestError
from router.head import read_request
from router.named import Cost, Limits, Provider


def provider(base_url: str, type: str = "openai_compatible", **more: object) -> Provider:
    return Provider(type=type, base_url=base_url, **more)  # type: ignore[arg-type]


def under(base_url: str, target: str, type: str = "openai_compatible") -> str:
    paths = endpoint(provider(base_url, type)).paths
    return target if paths is None else paths.under(target.encode()).decode()


CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("base_url", "type", "target", "wanted"),
    [
        ("https://x/v1", "openai", CHAT, CHAT),
        ("https://x/v1/", "openai", "/chat/completions", CHAT),
        ("https://x/v1", "openai", CHAT + "?a=/v1/b", CHAT + "?a=/v1/b"),
        ("https://x", "openai", "/chat/completions?x=1", CHAT + "?x=1"),
        ("https://x", "openai_compatible", CHAT, CHAT),
        ("https://x", "openai_compatible", "/chat/completions", "/chat/completions"),
        ("https://x/api/openai/v1", "openai", CHAT, "/api/openai/v1/chat/completions"),
        ("https://x/api/openai/v1", "openai", "/embeddings", "/api/openai/v1/embeddings"),
        ("https://x/api", "openai_compatible", CHAT, "/api" + CHAT),
        ("https://x/v1beta/openai", "openai_compatible", CHAT, "/v1beta/openai/chat/completions"),
        ("https://x/api/paas/v4", "openai_compatible", CHAT, "/api/paas/v4/chat/completions"),
        ("https://x/v1x-ray", "openai_compatible", CHAT, "/v1x-ray" + CHAT),
        ("https://x/v1", "openai", "/v1x/y", "/v1/v1x/y"),
        ("https://x/v1", "anthropic", "/v1/messages", "/v1/messages"),
        ("https://x", "anthropic", "/v1/messages?beta=true", "/v1/messages?beta=true"),
        ("https://x", "anthropic", "/messages/count_tokens", "/v1/messages/count_tokens"),
        ("http://x:11434/v1", "ollama", "/api/tags", "/api/tags"),
        ("http://x:11434/v1", "ollama", "/api/chat", "/api/chat"),
        ("http://x:11434/v1", "ollama", CHAT, CHAT),
        ("http://x:11434", "ollama", "/chat/completions", CHAT),
        ("http://x/ollama/v1", "ollama", "/api/tags", "/ollama/api/tags"),
        ("http://x:8000/v1", "vllm", "/tokenize", "/tokenize"),
        ("http://x:8000/v1", "vllm", "/completions", "/v1/completions"),
        ("http://x:8080/v1", "llama_cpp", "/slots?a=1", "/slots?a=1"),
        ("http://x:8080", "llama_cpp", "/completions", "/completions"),
        ("http://x:8080", "infinilm", "/chat/completions", "/chat/completions"),
        ("http://x:8080/v1", "infinilm", "/chat/completions", CHAT),
        ("http://x/a b", "infinilm", "/c", "/a%20b/c"),
    ],
)
def test_a_path_joins_the_base_without_a_second_version(
    base_url: str, type: str, target: str, wanted: str
) -> None:
    assert under(base_url, target, type) == wanted


@pytest.mark.parametrize(
    ("base_url", "type", "probe"),
    [
        ("https://x/v1", "openai", "/v1/models"),
        ("https://x", "openai", "/v1/models"),
        ("https://x/api/openai/v1", "openai_compatible", "/api/openai/v1/models"),
        ("https://x", "anthropic", "/v1/models"),
        ("http://x/v1", "ollama", "/api/tags"),
        ("http://x/ollama", "ollama", "/ollama/api/tags"),
        ("http://x/v1", "vllm", "/health"),
        ("http://x", "llama_cpp", "/health"),
        ("http://x/lm/v1", "infinilm", "/lm/health"),
    ],
)
def test_a_probe_asks_what_that_type_answers(base_url: str, type: str, probe: str) -> None:
    assert endpoint(provider(base_url, type)).probe == probe


def test_the_scheme_settles_port_and_encryption() -> None:
    found = endpoint(provider("https://api.x.com/v1"))
    assert (found.host, found.port, found.tls) == ("api.x.com", 443, True)
    found = endpoint(provider("HTTP://[::1]:8080"))
    assert (found.host, found.port, found.tls) == ("::1", 8080, False)


@pytest.mark.parametrize(
    "url",
    ["x/v1", "ftp://x", "https://", "https://x:0", "https://x/v1?a=1", "https://x/#a", "http://["],
)
def test_a_url_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        endpoint(provider(url))


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError) as refused:
        endpoint(provider("https://user:hunter22@x/v1"))
    assert "hunter22" not in str(refused.value)


def test_each_type_sends_its_key_in_its_own_header() -> None:
    def sent(type: str) -> tuple[str, str]:
        found = key(provider("https://x", type), "k")
        return found.header, found.value

    assert sent("openai") == ("Authorization", "Bearer k")
    assert sent("ollama") == ("Authorization", "Bearer k")
    assert sent("anthropic") == ("x-api-key", "k")


def test_a_key_is_not_shown() -> None:
    assert "hunter22" not in repr(Key("Authorization", "Bearer hunter22"))


def test_a_provider_declares_itself_as_a_service_would() -> None:
    found = metadata(
        provider(
            "https://x",
            models=("a", "b"),
            region="eu",
            priority=2,
            limits=Limits(max_concurrency=4),
            cost=Cost(relative=0.5),
        )
    )
    assert found == {
        "type": "openai-api",
        "provider": "openai_compatible",
        "models": ["a", "b"],
        "capabilities": [],
        "region": "eu",
        "privacy": "internal",
        "cost": 0.5,
        "priority": 2,
        "max_concurrency": 4,
    }


_PARTS = st.sampled_from(
    ["..", ".", "%2e", "%2E%2e", "/", "//", "%2f", "%5c", "\\", ";a", "%3b", "a", "v1", "models",
     "chat", "?", "%252e", "%00", "api", "..."]
)  # fmt: skip


@given(
    st.lists(_PARTS, max_size=9).map(lambda parts: "/" + "".join(parts)),
    st.sampled_from(["https://x/base/v1", "https://x/base", "https://x/base/v1/"]),
    st.sampled_from(["openai_compatible", "openai", "ollama", "vllm", "anthropic"]),
)
def test_no_path_that_the_door_lets_in_leads_out_of_a_base_path(
    target: str, base_url: str, type: str
) -> None:
    """However an upstream reads it: decoded or not, backslashes as slashes, parameters dropped."""
    try:
        head = read_request(b"GET", target.encode(), "1.1", [(b"Host", b"a")])
    except RequestError:
        return
    path = under(base_url, head.target_text, type).partition("?")[0]
    for decoded in (path, unquote(path)):
        for slashed in (decoded, decoded.replace("\\", "/")):
            bare = "/".join(part.partition(";")[0] for part in slashed.split("/"))
            assert (normpath(bare) + "/").startswith("/base/"), (path, bare)
