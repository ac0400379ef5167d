import re
from pathlib import Path

import pytest

from common.config import decode, load, read
from common.errors import RefusalError
from router import access, check
from router.config import Config

DOCUMENTED = Path(__file__).parents[2] / "configs" / "router.toml"


def problems(text: str) -> list[str]:
    config, document = read(text, Config, "router.toml")
    return [str(one) for one in check.problems(config, document)]


def test_an_empty_file_is_valid() -> None:
    assert problems("") == []
    assert decode("", Config) == Config()


def test_the_documented_file_says_every_default() -> None:
    assert load(DOCUMENTED, Config) == Config()
    assert problems(DOCUMENTED.read_text()) == []


def test_the_examples_of_the_documented_file_are_a_good_one() -> None:
    """All of them together, taken out of their comments."""
    head, line, examples = DOCUMENTED.read_text().partition("# ----")
    expected = 'expect = ["qwen3-8b", "qwen3-32b", "qwen3-coder"]'
    text = head.replace("expect = []", expected) + line + _COMMENTED.sub("", examples)
    config, _ = read(text, Config, "router.toml")
    assert problems(text) == []
    assert set(config.providers) == {"openai", "lab"}
    assert len(config.models) == 7
    assert len(config.rules) == 2


_COMMENTED = re.compile(r"^# (?=\[|[a-z_]+ = )", re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('listen = "nowhere"', "names no port"),
        ('control_listen = "127.0.0.1:8000"', "the same address as listen"),
        ('registries = ["127.0.0.1:18000"]', "begins with neither http:// nor https://"),
        ("registries = []", "no registry, no static service and no provider"),
        (
            '[[static_services]]\nname = "a"\nhost = "h"\nport = 1\n'
            '[[static_services]]\nname = "a"\nhost = "h"\nport = 2',
            'two static services are named "a"',
        ),
        ('[[static_services]]\nname = "no good"\nhost = "h"\nport = 1', "a name may hold"),
        ('trusted_proxies = ["10.0.0.0/99"]', "is neither an IP address nor a network"),
    ],
)
def test_what_does_not_agree_is_said_with_its_place(text: str, says: str) -> None:
    (problem,) = problems(text)
    assert says in problem
    assert "router.toml:" in problem or "registries = []" in text


def test_a_trusted_proxy_is_an_address_or_a_network_as_the_relay_has_it() -> None:
    assert problems('trusted_proxies = ["10.0.0.5", "10.1.0.0/16", "::1", "fd00::/8"]') == []


def test_the_summary_of_a_good_file() -> None:
    assert check.summary(Config()).splitlines() == [
        "no names of its own: clients ask for what is registered",
        "     listens on 127.0.0.1:8000, 1 registry, strategy least_requests",
        "     not checked: whether engines are up (creche status)",
    ]


def settle(**keys: object) -> str | None:
    return access.settle(Config(**keys), "router.toml")  # type: ignore[arg-type]


def test_loopback_wants_nothing() -> None:
    assert settle() is None


def test_off_loopback_client_keys_must_be_said() -> None:
    with pytest.raises(RefusalError) as refused:
        settle(listen="0.0.0.0:8000", auth="none")
    assert str(refused.value).splitlines()[0] == (
        "0.0.0.0:8000 is reachable by others and client_keys is not set."
    )
    assert 'client_keys = "none"' in str(refused.value)


def test_off_loopback_the_token_must_be_settled_too() -> None:
    with pytest.raises(RefusalError, match="token_file"):
        settle(listen="0.0.0.0:8000", client_keys="none")
    with pytest.raises(RefusalError, match="token_file"):
        settle(control_listen="0.0.0.0:8001")
    assert settle(listen="0.0.0.0:8000", client_keys="none", auth="none") is None


def test_off_loopback_wanting_keys_is_one_of_the_words() -> None:
    reached = {"listen": "0.0.0.0:8000", "client_keys": "required", "auth": "none"}
    assert settle(**reached, control_listen="127.0.0.1:8001") is None


def test_keys_that_anyone_who_reaches_the_port_could_make_keep_nobody_out() -> None:
    with pytest.raises(RefusalError, match="any of them could make a client key"):
        settle(listen="0.0.0.0:8000", client_keys="required", auth="none")
