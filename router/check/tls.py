"""What [tls] says by halves. Whether its files can be used is for the start to find. Pure."""

from collections.abc import Iterator

from common import certificates
from common.config import Problem
from router.check.file import File


def find(file: File) -> Iterator[Problem]:
    for one in certificates.faults(file.config.tls):
        yield file.error(("tls", one.key), one.text, effect=one.effect, fix=one.fix)
