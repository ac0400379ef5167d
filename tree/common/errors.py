"""Errors that end a daemon's start, told in full to the operator: no traceback, one fix."""


class RefusalError(Exception):
    """The daemon will not start. The text says what, what follows, and one fix; may span lines.

    Printed as `creche-router: refusing to start: <text>`, exit status 1.
    """
