import asyncio
from pathlib import Path

import pytest
from msgspec import json

from common.errors import RefusalError
from router import snapshot
from router.fleet import Fleet
from tests.router.making import service
from tests.support.until import until


def fleet(*names: str) -> Fleet:
    found = Fleet()
    found.restore("e", 4, [service(name, "m") for name in names])
    return found


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    kept = snapshot.of(fleet("a@h", "b@h"), 0.0)
    assert kept is not None
    snapshot.save(path, kept)
    assert snapshot.load(path) == kept
    assert [one.name for one in tmp_path.iterdir()] == ["s.json"]


def test_before_the_first_sync_there_is_nothing_to_keep() -> None:
    assert snapshot.of(Fleet(), 0.0) is None


def test_no_file_is_no_snapshot(tmp_path: Path) -> None:
    assert snapshot.load(tmp_path / "none.json") is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": "x"}', b"\x00"])
def test_a_damaged_file_is_set_aside_never_half_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(data)
    assert snapshot.load(path) is None
    assert not path.exists()
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith("s.json.damaged-")
    assert aside.read_bytes() == data


def test_a_newer_schema_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(json.encode({"schema": snapshot.SCHEMA + 1, "something": "else"}))
    with pytest.raises(RefusalError, match=r"newer router wrote it.*\n.*remove the file"):
        snapshot.load(path)
    assert path.exists()


def test_fields_that_a_newer_version_added_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    kept = snapshot.of(fleet("a@h"), 0.0)
    assert kept is not None
    path.write_bytes(json.encode(kept)[:-1] + b',"added":1}')
    assert snapshot.load(path) == kept


async def test_many_changes_are_one_write_and_the_last_is_written_on_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.json"
    written: list[int] = []

    def save(path: Path, kept: snapshot.Snapshot) -> None:
        written.append(len(kept.services))

    monkeypatch.setattr(snapshot, "save", save)
    found = fleet("a@h")
    keeper = snapshot.Keeper(path, found, every_s=60.0)
    task = asyncio.get_running_loop().create_task(keeper.run())
    for _ in range(100):
        keeper.changed()
    await until(lambda: written)
    found.restore("e", 5, [service("a@h"), service("b@h")])
    keeper.changed()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await keeper.close()
    assert written == [1, 2]


async def test_a_disk_that_refuses_stops_nothing(tmp_path: Path) -> None:
    keeper = snapshot.Keeper(tmp_path / "missing" / "s.json", fleet("a@h"))
    keeper.changed()
    await keeper.close()
    keeper.changed()
    await keeper.close()
