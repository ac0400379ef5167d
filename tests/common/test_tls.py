"""Certificates as they are read, shown, believed and renewed."""

import ssl
from pathlib import Path

import pytest
import trustme

from common.certificates import Tls, faults
from common.errors import RefusalError
from common.tls import Certificates


class Issued:
    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.cert_file, self.key_file = folder / "d.pem", folder / "d.key"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self.renew()

    def renew(self) -> None:
        issued = self.ca.issue_cert("127.0.0.1")
        replaced(self.cert_file, issued.cert_chain_pems[0].bytes())
        replaced(self.key_file, issued.private_key_pem.bytes())

    def tls(self, **more: str) -> Tls:
        return Tls(cert_file=str(self.cert_file), key_file=str(self.key_file), **more)


def replaced(file: Path, data: bytes) -> None:
    """By another file: one that was written twice within a tick of the clock looks the same."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.chmod(0o600)
    fresh.replace(file)


@pytest.fixture
def issued(tmp_path: Path) -> Issued:
    return Issued(tmp_path)


def serial(server: ssl.SSLContext, issued: Issued) -> int:
    """Of the certificate that a new connection is shown."""
    client = ssl.create_default_context(cafile=str(issued.ca_file))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for one in (here, there):
            try:
                one.do_handshake()
            except ssl.SSLWantReadError:
                pass
    shown = here.getpeercert()
    assert shown is not None
    return int(str(shown["serialNumber"]), 16)


def test_without_a_table_nothing_is_read() -> None:
    made = Certificates(Tls())
    assert (made.server, made.client) == (None, None)


def test_a_renewed_certificate_is_shown_to_the_next_connection(issued: Issued) -> None:
    made = Certificates(issued.tls())
    assert made.server is not None
    before = serial(made.server, issued)
    assert not made.follow()
    issued.renew()
    assert made.follow()
    assert serial(made.server, issued) != before


def test_half_a_renewal_changes_nothing_until_it_is_whole(
    issued: Issued, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Certificates(issued.tls())
    assert made.server is not None
    before = serial(made.server, issued)
    key = issued.key_file.read_bytes()
    issued.renew()
    new = issued.key_file.read_bytes()
    replaced(issued.key_file, key)
    assert not made.follow()
    assert serial(made.server, issued) == before
    replaced(issued.key_file, new)
    assert made.follow()
    assert serial(made.server, issued) != before


def test_a_key_that_is_closed_after_it_was_written_is_taken_then(
    issued: Issued, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Certificates(issued.tls())
    assert made.server is not None
    before = serial(made.server, issued)
    issued.renew()
    issued.key_file.chmod(0o644)
    assert not made.follow()
    assert serial(made.server, issued) == before
    issued.key_file.chmod(0o600)
    assert made.follow()
    assert serial(made.server, issued) != before


def test_what_cannot_be_used_ends_the_start_with_one_thing_to_do(
    issued: Issued, tmp_path: Path
) -> None:
    with pytest.raises(RefusalError) as missing:
        Certificates(Tls(cert_file=str(tmp_path / "none.pem"), key_file=str(issued.key_file)))
    assert str(missing.value).startswith(f"{tmp_path}/none.pem of [tls] is not there")
    issued.key_file.chmod(0o644)
    with pytest.raises(RefusalError, match=f"chmod 600 {issued.key_file}"):
        Certificates(issued.tls())
    issued.key_file.chmod(0o600)
    with pytest.raises(RefusalError, match=r"ca_file .* cannot be used"):
        Certificates(Tls(ca_file=str(issued.key_file)))
    issued.cert_file.write_text("no certificate")
    with pytest.raises(RefusalError, match="cannot be used together"):
        Certificates(issued.tls())


def test_nothing_older_than_tls_1_2_is_spoken(issued: Issued) -> None:
    made = Certificates(issued.tls(ca_file=str(issued.ca_file)))
    for context in (made.server, made.client):
        assert context is not None
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert made.client is not None
    assert made.client.verify_mode == ssl.CERT_REQUIRED
    assert made.client.check_hostname


def test_what_is_said_by_halves_is_found() -> None:
    assert [one.key for one in faults(Tls(cert_file="a"))] == ["cert_file"]
    assert [one.key for one in faults(Tls(key_file="a"))] == ["key_file"]
    assert [one.key for one in faults(Tls(client_ca_file="a"))] == ["client_ca_file"]
    assert list(faults(Tls(cert_file="a", key_file="b", client_ca_file="c"))) == []
