import socket
import subprocess
import sys

import pytest

from tests.support import ports
from tests.support.processes import ROOT


def test_a_port_and_those_beside_it_come_only_after_many_others() -> None:
    handed = [ports.free_port() for _ in range(100)]
    assert len(set(handed)) == 100
    assert not {port + 1 for port in handed} & set(handed)


def test_a_taken_port_is_none_of_those_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base = taken.getsockname()[1]
        assert not ports._is_free(base)
    first, second = (ports.free_port_with((0, 1, 100)) for _ in range(2))
    assert not {first, first + 1, first + 100} & {second, second + 1, second + 100}


@pytest.mark.real
def test_a_run_beside_this_one_has_other_ports() -> None:
    ports.free_port()
    code = "from tests.support.ports import free_port; print(free_port())"
    found = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, timeout=60)
    assert int(found) not in ports._mine
