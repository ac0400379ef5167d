"""What `creche` tells when it cannot do what was asked: what, why, one fix. Pure.

✗ nothing answers at http://127.0.0.1:8000
    connection refused
    Is it running? Start the demo with  make up  or name yours:  creche --url http://HOST:8000 …
"""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes. 64 (sysexits' EX_USAGE) for usage, so that 2 can mean unreachable."""

    WELL = 0
    PROBLEMS = 1
    UNREACHABLE = 2
    USAGE = 64


class CtlError(Exception):
    """An end with a reason. `fix` is one thing to do; `code` the exit status."""

    def __init__(self, what: str, why: str = "", fix: str = "", code: Exit = Exit.PROBLEMS) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.code = code


class UnreachableError(CtlError):
    """Nothing answered. `url` is what was asked."""

    def __init__(self, url: str, why: str, fix: str = "") -> None:
        super().__init__(f"nothing answers at {url}", why, fix, Exit.UNREACHABLE)
        self.url = url


class RefusedError(CtlError):
    """Something answered, with a refusal. `status` is the HTTP status, `body` what came with it."""

    def __init__(self, what: str, why: str, fix: str, status: int, body: bytes = b"") -> None:
        super().__init__(what, why, fix, Exit.PROBLEMS)
        self.status = status
        self.body = body
