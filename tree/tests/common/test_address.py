"""Addresses as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import address
from common.address import Address, Networks, parse


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("[::1]:8000", "::1", 8000),
        ("gpu-03:8100", "gpu-03", 8100),
        (":8000", "0.0.0.0", 8000),
        ("localhost:0", "localhost", 0),
        ("  10.0.0.10:18000  ", "10.0.0.10", 18000),
        ("my_host.example:1", "my_host.example", 1),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    assert parse(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write HOST:PORT"),
        ("8000", "names no port"),
        ("gpu-03", "names no port"),
        ("::1", "names no port"),
        ("::1:8000:x", "in brackets"),
        ("[::1", "[IPV6]:PORT"),
        ("[gpu]:80", "[IPV6]:PORT"),
        ("[::1]80", "[IPV6]:PORT"),
        ("host:", '"" is no port'),
        ("host:65536", "1 to 65535"),
        ("host:-1", "1 to 65535"),
        ("host:80a", "1 to 65535"),
        ("host:٣", "1 to 65535"),
        ("http://host:80", "in brackets"),
        ("a b:80", "HOST:PORT"),
        ("a/b:80", "HOST:PORT"),
    ],
)
def test_a_text_that_is_no_address_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("[", r"\[")):
        parse(text)


def test_a_bare_host_takes_the_default_port() -> None:
    assert parse("gpu-03", 80) == Address("gpu-03", 80)
    assert parse("::1", 80) == Address("::1", 80)
    assert parse("[::1]", 80) == Address("::1", 80)


@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True),
    ),
    st.integers(0, 65535),
)
def test_what_is_written_can_be_read_again(host: str, port: int) -> None:
    assert parse(str(Address(host, port))) == Address(host, port)


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert 0 <= found.port <= 65535


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST.", "::ffff:127.0.0.1"]
)
def test_loopback_is_only_for_this_machine(host: str) -> None:
    assert address.is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "10.0.0.1", "localhost.example.com", "127.0.0.1.nip.io", "fe80::1"],
)
def test_everything_else_can_be_reached_by_others(host: str) -> None:
    assert not address.is_loopback(host)


def test_every_interface_has_four_spellings() -> None:
    assert all(map(address.is_any, ["", "*", "0.0.0.0", "::", "[::]"]))
    assert not address.is_any("127.0.0.1")


def test_urls_bracket_ipv6() -> None:
    assert address.http_url("::1", 80) == "http://[::1]:80"
    assert address.http_url("[::1]", 80) == "http://[::1]:80"
    assert address.http_url("gpu", 8100) == "http://gpu:8100"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://gpu:8100", Address("gpu", 8100)),
        ("http://gpu/v1", Address("gpu", 80)),
        ("https://api.openai.com/v1", Address("api.openai.com", 443)),
        ("http://[::1]:9/", Address("::1", 9)),
    ],
)
def test_a_url_leads_somewhere(url: str, expected: Address) -> None:
    assert address.parse_http_url(url) == expected


@pytest.mark.parametrize(
    "url",
    ["", "gpu:8100", "ftp://gpu", "http://", "http://gpu:0", "http://gpu:99999", "http://a b",
     "http://[::1", "http:///path", "//gpu"],
)  # fmt: skip
def test_a_text_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no URL"):
        address.parse_http_url(url)


def test_networks_hold_addresses_networks_and_exact_names() -> None:
    allowed = Networks(["10.0.0.0/24", "192.168.1.7", "gpu-03", "fd00::/8"])
    inside = ["10.0.0.9", "192.168.1.7", "gpu-03", "GPU-03.", "fd00::1", "[fd00::1]", "127.0.0.1"]
    outside = ["10.0.1.9", "192.168.1.8", "gpu-04", "fe80::1", "evil.gpu-03", "", "::ffff:10.0.1.1"]
    assert [host for host in inside if host not in allowed] == []
    assert [host for host in outside if host in allowed] == []


def test_a_mapped_address_is_the_address_it_maps() -> None:
    assert "::ffff:10.0.0.9" in Networks(["10.0.0.0/24"])


def test_loopback_can_be_left_out() -> None:
    assert "127.0.0.1" not in Networks([], loopback=False)
    assert "127.0.0.1" in Networks([])


def test_an_entry_that_is_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="neither an address"):
        Networks(["10.0.0.0/33"])
