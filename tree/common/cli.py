"""A daemon's command line: run, or check files. The same for all three.

creche-router [--config FILE] [--log-level LEVEL] [--log-format FORM] [--version]
creche-router check FILE…          exit 0: nothing wrong, 1: errors, 64: wrong usage
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from common import config, daemon, holder, logs
from common.config import ConfigError, Document, Problem
from common.version import VERSION

EX_USAGE = 64
C = TypeVar("C")


class Parser(argparse.ArgumentParser):
    """argparse with exit status 64 for wrong usage, so that 1 and 2 can mean something else. Flags
    are written out: an abbreviation would change its meaning with the next flag."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, **how)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def no_problems(_: Any, __: Document) -> list[Problem]:
    return []


class Program(Generic[C]):
    """A daemon to run from the command line.

    `check` finds faults across fields; `describe` is what `check FILE` prints when there is none;
    `main` runs the daemon with its configuration and the path it was read from (None: no file).
    `replaceable`: it may be run under a holder (`common.holder`), which is up to its `__main__`.
    """

    def __init__(
        self,
        name: str,
        description: str,
        config_type: type[C],
        main: Callable[[daemon.Daemon, C, Path | None], Any],
        *,
        check: Callable[[C, Document], list[Problem]] = no_problems,
        describe: Callable[[C], str] = lambda _: "nothing wrong",
        replaceable: bool = False,
    ) -> None:
        self.name = name
        self.description = description
        self.config_type = config_type
        self.main = main
        self.check = check
        self.describe = describe
        self.replaceable = replaceable

    def run(self, argv: Sequence[str] | None = None) -> int:
        """What the console script returns: the exit status."""
        given = sys.argv[1:] if argv is None else list(argv)
        if given[:1] == ["check"]:
            return self._check(given[1:])
        arguments = self._parser().parse_args(given)
        logs.set_up(
            self.name.removeprefix("creche-"), level=arguments.log_level, form=arguments.log_format
        )
        try:
            chosen = self._load(arguments.config)
        except ConfigError as faults:
            daemon.tell(f"{self.name}: refusing to start: the configuration has errors.\n{faults}")
            return 1
        path = arguments.config

        async def main(running: daemon.Daemon) -> None:
            await self.main(running, chosen, path)

        return daemon.run(self.name, main)

    def _parser(self) -> Parser:
        parser = Parser(
            prog=self.name,
            description=self.description,
            epilog=f"{self.name} check FILE…   tells what is wrong in configuration files",
        )
        parser.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            default=default_config(self.name),
            help=f"the configuration (default: {config_place(self.name)} where it is there, "
            "else every key's default)",
        )
        parser.add_argument(
            "--log-level",
            choices=["debug", "info", "warning", "error"],
            default="info",
            help="the least that is logged (default: info)",
        )
        parser.add_argument(
            "--log-format",
            choices=["auto", "json", "text"],
            default="auto",
            help="json: an object per line; text: for people; auto: text on a terminal (default)",
        )
        if self.replaceable:
            parser.add_argument(
                holder.FLAG,
                action="store_true",
                help="a small parent holds the ports: SIGUSR2 to it replaces the process that "
                "serves by a new one without a refused connection",
            )
        parser.add_argument("--version", action="version", version=f"{self.name} {VERSION}")
        return parser

    def _load(self, path: Path | None) -> C:
        text, file = ("", "(no file)") if path is None else (config.read_text(path), str(path))
        found = config.checked_text(text, self.config_type, self.check, file)
        chosen, problems = found
        if chosen is None or config.has_errors(problems):
            raise ConfigError(problems)
        for one in problems:
            daemon.tell(str(one))
        return chosen

    def _check(self, argv: list[str]) -> int:
        parser = Parser(prog=f"{self.name} check")
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        statuses = [check_file(self, one) for one in parser.parse_args(argv).files]
        return max(statuses)


def check_file(program: "Program[Any]", path: Path) -> int:
    """Print what is wrong in `path`, or `ok` and what it says. 0 or 1."""
    chosen, problems = config.checked(path, program.config_type, program.check)
    if chosen is None or config.has_errors(problems):
        sys.stdout.write(config.report(problems) + "\n")
        return 1
    sys.stdout.write(config.verdict(problems, program.describe(chosen)) + "\n")
    return 0


def default_config(name: str) -> Path | None:
    """`/etc/creche/<daemon>.toml` where it exists; none means every default."""
    path = config_place(name)
    return path if path.exists() else None


def config_place(name: str) -> Path:
    return Path("/etc/creche") / f"{name.removeprefix('creche-')}.toml"
