"""One router.toml under check: what it says, where each word stands, what it will list. Pure."""

from common.config import Document, Problem
from common.positions import Path
from router.check import words
from router.check.listing import Listing
from router.config import Config


class File:
    """Each fault says what, where, what would happen and one fix: none may be left out."""

    def __init__(self, config: Config, document: Document) -> None:
        self.config = config
        self.document = document
        self.listing = Listing(config)

    def error(
        self, path: Path, text: str, *, effect: str, fix: str, on_key: bool = False
    ) -> Problem:
        """The router does not start with it, and a running one keeps the file it has."""
        return self.document.problem(path, text, effect=effect, fix=fix, on_key=on_key)

    def warning(
        self, path: Path, text: str, *, effect: str, fix: str, on_key: bool = False
    ) -> Problem:
        """It starts, and this may surprise."""
        return self.document.problem(
            path, text, effect=effect, fix=fix, on_key=on_key, severity="warning"
        )

    def table(self, *names: str) -> str:
        """`[providers.openai] (line 14)`."""
        line = self.document.line_of(*names)
        return f"{words.table(*names)} (line {line})" if line else words.table(*names)

    def line(self, path: Path) -> int:
        return self.document.line_of(*path)
