"""The last good configuration files, kept so that one of them can come back.

    keep ─▶ a new version, in force        back_to(n) ─▶ n in force, the one it replaces rejected
    before(n) ─▶ the newest before n that says something else and was not rejected

Each version is the file byte for byte, `<number>_<time>_<digest>.toml`; `in-force.json` says
which one runs. Every write is whole or not at all (write, fsync, rename), readable by its owner
alone. Of what is kept the oldest goes first, never the one in force: until then a number that was
told stays good, also where the same text came again and has a newer one as well. What is rejected
is a text, whatever its numbers.
"""

import contextlib
import hashlib
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path

from msgspec import DecodeError, Struct, ValidationError, json

from common.wire.router import ConfigVersion

FOLDER = "config-versions"
_IN_FORCE = "in-force.json"
_NAME = re.compile(r"(\d{6,9})_(\d{8}T\d{6}Z)_([0-9a-f]{16})\.toml")
_TIME = "%Y%m%dT%H%M%SZ"
#: Files of an operator that a rollback set aside; older ones go.
ASIDE_MAX = 10
_PRIVATE = 0o600


class _InForce(Struct):
    version: int
    #: Rolled back from: never returned to unless it is asked for by number.
    rejected: list[int] = []


def digest(text: str) -> str:
    """Tells two files apart, short enough to be read out."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Versions:
    """One owner: the Reloader. All methods touch the disk and may raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[ConfigVersion]:
        """Newest first."""
        in_force = self._in_force()
        found = []
        for path in self._paths():
            number, time, mark = _parts(path)
            found.append(
                ConfigVersion(
                    version=number,
                    kept_at=time.isoformat(),
                    digest=mark,
                    in_force=number == in_force.version,
                    rejected=number in in_force.rejected,
                )
            )
        return found

    def keep(self, text: str, now_wall: float, most: int) -> int:
        """`text` is good and in force; its number. One that is in force already keeps its own."""
        mark = digest(text)
        paths, in_force = self._paths(), self._in_force()
        same = {number for number, _, other in map(_parts, paths) if other == mark}
        if in_force.version in same:
            return in_force.version
        number = (_parts(paths[0])[0] if paths else 0) + 1
        time = datetime.fromtimestamp(now_wall, UTC).strftime(_TIME)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self._folder / f"{number:06}_{time}_{mark}.toml", text.encode())
        self._set(_InForce(number, [one for one in in_force.rejected if one not in same]))
        self._forget(most)
        return number

    def back_to(self, number: int) -> None:
        """`number` is in force again; what it replaces is not returned to by itself."""
        before = self._in_force()
        wanted = self._alike(number)
        rejected = {*before.rejected, *(self._alike(before.version) if before.version else ())}
        self._set(_InForce(number, sorted(rejected - wanted)))

    def read(self, number: int) -> str | None:
        """None: there is no such version."""
        path = self.path(number)
        return None if path is None else path.read_bytes().decode()

    def path(self, number: int) -> Path | None:
        for path in self._paths():
            if _parts(path)[0] == number:
                return path
        return None

    def before(self, number: int | None) -> int | None:
        """What a rollback from `number` returns to (None: from what was not kept)."""
        alike = set() if number is None else self._alike(number)
        for one in self.all():
            earlier = number is None or one.version < number
            if earlier and not one.rejected and one.version not in alike:
                return one.version
        return None

    def _alike(self, number: int) -> set[int]:
        """The versions with the text of this one, itself among them."""
        marks = {one: mark for one, _, mark in map(_parts, self._paths())}
        return {number, *(one for one in marks if marks[one] == marks.get(number))}

    def _forget(self, most: int) -> None:
        """The oldest beyond `most`, and marks of what is gone."""
        in_force = self._in_force()
        paths = self._paths()
        for path in [p for p in paths[most:] if _parts(p)[0] != in_force.version]:
            path.unlink(missing_ok=True)
        there = {_parts(path)[0] for path in self._paths()}
        left = [number for number in in_force.rejected if number in there]
        if left != in_force.rejected:
            self._set(_InForce(in_force.version, left))

    def _paths(self) -> list[Path]:
        """Newest first; what others put there is not ours."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        return [
            self._folder / name for name in sorted(names, reverse=True) if _NAME.fullmatch(name)
        ]

    def _in_force(self) -> _InForce:
        """Damaged or missing: nothing is known to be in force, and nothing is lost but that."""
        try:
            return json.decode((self._folder / _IN_FORCE).read_bytes(), type=_InForce)
        except (FileNotFoundError, DecodeError, ValidationError):
            return _InForce(0)

    def _set(self, in_force: _InForce) -> None:
        write(self._folder / _IN_FORCE, json.encode(in_force))


def _parts(path: Path) -> tuple[int, datetime, str]:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1]), datetime.strptime(found[2], _TIME).replace(tzinfo=UTC), found[3]


def write(path: Path, data: bytes, like: os.stat_result | None = None) -> None:
    """Replace `path` whole, with the mode and owner of `like`.

    Raises OSError; then nothing has changed.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    opened = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    try:
        with os.fdopen(opened, "wb") as file:
            if like is not None:
                with contextlib.suppress(PermissionError):  # another's file stays readable to us
                    os.fchown(opened, like.st_uid, like.st_gid)
                os.fchmod(opened, stat.S_IMODE(like.st_mode))
            file.write(data)
            file.flush()
            os.fsync(opened)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A rename is on disk when its folder is."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def put_back(file: Path, text: str, now_wall: float) -> Path | None:
    """`text` becomes the operator's `file`; where what stood there is kept.

    None: it said so already. A link is followed. Raises OSError; then the file is as it was.
    """
    file = Path(os.path.realpath(file))
    try:
        before: bytes | None = file.read_bytes()
    except FileNotFoundError:
        before = None
    if before == text.encode():
        return None
    aside: Path | None = None
    like: os.stat_result | None = None
    if before is not None:
        like = file.stat()
        time = datetime.fromtimestamp(now_wall, UTC).strftime(_TIME)
        aside = file.with_name(f"{file.name}.rejected-{time}")
        write(aside, before, like)
    write(file, text.encode(), like)
    _forget_aside(file)
    return aside


def _forget_aside(file: Path) -> None:
    ours = re.compile(re.escape(file.name) + r"\.rejected-\d{8}T\d{6}Z")
    found = sorted(name for name in os.listdir(file.parent) if ours.fullmatch(name))
    for name in found[:-ASIDE_MAX]:
        with contextlib.suppress(OSError):
            (file.parent / name).unlink()
