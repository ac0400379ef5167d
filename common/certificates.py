"""`[tls]` of every daemon: what its port shows, and whom it believes. Pure: the files are `tls`'s.

cert_file, key_file   the port speaks TLS; as a client this daemon shows the same certificate
ca_file               whom to believe as a client, beside the system's authorities
client_ca_file        who connects must show a certificate that one of these has signed
"""

from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Certificates, PEM. Files that change are read again while the daemon runs."""

    #: Certificate of this daemon's port, with its chain. None: the port speaks plain HTTP.
    cert_file: str | None = None
    #: Its key, which only the daemon's user may read.
    key_file: str | None = None
    #: Authorities to believe beside the system's, where this daemon is the client.
    ca_file: str | None = None
    #: Only who shows a certificate signed by one of these is let in.
    client_ca_file: str | None = None

    @property
    def serves(self) -> bool:
        """The port speaks TLS."""
        return self.cert_file is not None


NONE = Tls()


class Fault(NamedTuple):
    """What `check` finds. `key` is below the table."""

    key: str
    text: str
    effect: str
    fix: str


def faults(tls: Tls) -> Iterator[Fault]:
    if tls.cert_file is not None and tls.key_file is None:
        yield Fault(
            "cert_file",
            "cert_file is set and key_file is not",
            "The port could not speak TLS.",
            'add  key_file = "…"  under [tls]',
        )
    if tls.key_file is not None and tls.cert_file is None:
        yield Fault(
            "key_file",
            "key_file is set and cert_file is not",
            "The port would speak plain HTTP.",
            'add  cert_file = "…"  under [tls]',
        )
    if tls.client_ca_file is not None and tls.cert_file is None:
        yield Fault(
            "client_ca_file",
            "client_ca_file asks for clients' certificates, and the port speaks no TLS",
            "Anyone would be let in.",
            "add cert_file and key_file under [tls], or take client_ca_file out",
        )
