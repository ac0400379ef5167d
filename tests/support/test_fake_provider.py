import gc
import socket
from pathlib import Path

from tests.support.fake_provider import Authority, fake_provider
from tests.support.until import until_sync


def test_a_connection_within_its_handshake_ends_with_the_provider(tmp_path: Path) -> None:
    """Else its transport would be collected, with a warning, in the middle of another test."""
    with socket.socket() as silent:
        with fake_provider(authority=Authority(tmp_path)) as cloud:
            silent.connect(("127.0.0.1", cloud.port))
            held = cloud._loop._transports  # type: ignore[attr-defined]
            until_sync(lambda: list(held.values()), what="it is accepted")
        del cloud
        gc.collect()
