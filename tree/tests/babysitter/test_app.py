"""Who the babysitter is, and where routers find its engines: tables on plain values."""

import pytest

from babysitter.app import _advertise, _elsewhere
from babysitter.config import Config
from babysitter.readiness import Elsewhere, loopback_error
from common.errors import RefusalError

HERE, THERE = "http://127.0.0.1:18000", "http://10.0.0.10:18000"


def test_the_advertised_address_is_the_one_that_reaches_the_registry() -> None:
    assert _advertise(Config(registries=(THERE,)), "10.0.0.21") == "10.0.0.21"
    assert _advertise(Config(registries=(HERE,)), "127.0.0.1") == "127.0.0.1"
    assert _advertise(Config(registries=()), None) == "127.0.0.1"
    assert _advertise(Config(registries=(THERE,), advertise="gpu-03"), "10.0.0.21") == "gpu-03"


def test_without_a_route_to_the_registry_it_says_which_line_settles_it() -> None:
    with pytest.raises(RefusalError) as error:
        _advertise(Config(registries=(THERE,)), None)
    assert str(error.value) == (
        "no address of this host leads to the registry 10.0.0.10:18000: none can be advertised.\n"
        '  Set  advertise = "…"  (the address that routers reach this host at).'
    )


@pytest.mark.parametrize(
    ("registry", "advertise", "towards", "elsewhere"),
    [
        (HERE, "127.0.0.1", "127.0.0.1", None),
        (HERE, "127.0.0.2", "127.0.0.1", None),
        ("http://gpu-03:18000", "127.0.0.1", "127.0.0.1", None),  # a name of this very machine
        (THERE, "10.0.0.21", "10.0.0.21", Elsewhere("10.0.0.21", "10.0.0.10")),
        (THERE, "127.0.0.1", "10.0.0.21", Elsewhere("10.0.0.21", "10.0.0.10")),
    ],
)
def test_whether_routers_are_elsewhere(
    registry: str, advertise: str, towards: str, elsewhere: Elsewhere | None
) -> None:
    assert _elsewhere(Config(registries=(registry,)), advertise, towards) == elsewhere


def test_the_loopback_error_names_the_line() -> None:
    assert loopback_error(8200, Elsewhere("10.0.0.21", "10.0.0.10")) == (
        "the engine listens on 127.0.0.1:8200 but the registry is on 10.0.0.10; "
        "no router could reach it.\n"
        '  Set  advertise = "10.0.0.21"  (this host\'s address towards the registry).'
    )
