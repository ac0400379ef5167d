"""The router as a program of the command line."""

from common.cli import Program
from router import app, check
from router.config import Config

PROGRAM = Program(
    "creche-router",
    "Sends each request to the engine that will serve it best.",
    Config,
    app.main,
    check=check.problems,
    describe=check.summary,
    replaceable=True,
)
