"""The file: what was committed is there, a damaged one is set aside whole, a newer one refused."""

import asyncio
import random
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.errors import RefusalError
from registry import commands as ask
from registry.sqlite_store import SqliteStore
from registry.state import Batch, Stored
from registry.store import StoreError
from tests.registry.acts import World, registration
from tests.support.processes import ROOT


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[SqliteStore, Stored]]:
    store = SqliteStore(path)
    try:
        yield store, await store.open()
    finally:
        await store.close()


async def fill(path: Path, *names: str) -> Stored:
    """Register `names`, drain the first, delete and so retire the last; what is stored then."""
    async with opened(path) as (store, stored):
        world = World(stored=stored)
        posts = [registration(name, port=8000 + number) for number, name in enumerate(names)]
        await commit(store, world, *(ask.Register(one) for one in posts))
        await commit(store, world, ask.Drain(names[0], on=True))
        await commit(store, world, ask.Remove(names[-1]))
    async with opened(path) as (_, stored):
        return stored


async def commit(store: SqliteStore, world: World, *commands: ask.Command) -> None:
    draft = world.table.draft()
    for command in commands:
        draft.do(command, world.now)
    await store.commit(draft.batch())
    world.table.adopt(draft)


async def test_what_was_committed_is_there_after_a_reopen(tmp_path: Path) -> None:
    stored = await fill(tmp_path / "db", "a", "b", "c")
    assert sorted(record.name for record in stored.records) == ["a", "b"]
    assert stored.records[0] == replaced(registration("a", port=8000), stored.records[0])
    assert (stored.retired, stored.drained) == ({("c", "c-1"): 15.0}, frozenset({"a"}))
    assert stored.revision == 5


def replaced(wanted: object, record: object) -> object:
    """`record`, once every field of the registration was seen in it."""
    for field in ("name", "host", "port", "hostname", "url", "status", "instance_id"):
        assert getattr(record, field) == getattr(wanted, field)
    return record


async def test_the_epoch_lasts(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as (_, first):
        pass
    async with opened(tmp_path / "db") as (_, second):
        assert first.epoch == second.epoch
    async with opened(tmp_path / "other") as (_, third):
        assert third.epoch != first.epoch


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    await fill(tmp_path / "db", "a")
    assert stat.S_IMODE((tmp_path / "db").stat().st_mode) == 0o600


async def test_a_batch_upon_another_revision_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as (store, _):
        ahead = Batch(base_revision=5, revision=6, records={}, retired={}, drained={})
        with pytest.raises(StoreError, match="at revision 0, not 5"):
            await store.commit(ahead)


async def test_a_newer_schema_is_refused_with_what_to_do_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    await fill(path, "a")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=2")
    db.close()
    before = path.read_bytes()
    store = SqliteStore(path)
    with pytest.raises(RefusalError, match="newer Creche") as caught:
        await store.open()
    await store.close()
    assert "its schema is 2, this one knows 1" in str(caught.value)
    assert "Start the newer version again, or move the file away" in str(caught.value)
    assert path.read_bytes() == before
    assert asides(tmp_path) == []


async def test_a_second_registry_on_the_same_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with opened(path):
        # a process of its own: locks are per process
        code = (
            "import asyncio, sys; from pathlib import Path; import registry.sqlite_store as s;"
            "s.BUSY_TIMEOUT_S = 0.1; asyncio.run(s.SqliteStore(Path(sys.argv[1])).open())"
        )
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, path, stderr=asyncio.subprocess.PIPE, cwd=ROOT
        )
        _, said = await other.communicate()
    assert b"is in use by another registry" in said


def asides(folder: Path) -> list[Path]:
    return sorted(
        one
        for one in folder.iterdir()
        if ".damaged-" in one.name and not one.name.endswith(("-wal", "-shm"))
    )


@pytest.mark.parametrize("what", ["not a database", "", "half", "header", "foreign"])
async def test_a_damaged_file_is_set_aside_and_the_table_starts_empty(
    tmp_path: Path, what: str
) -> None:
    path = tmp_path / "db"
    old = await fill(path, *(f"s{n}" for n in range(200)))
    raw = path.read_bytes()
    if what == "half":
        path.write_bytes(raw[: len(raw) // 2])
    elif what == "header":
        path.write_bytes(b"X" * 100 + raw[100:])
    elif what == "foreign":
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE notes (x)")
        db.close()
    else:
        path.write_text(what)
    damaged = path.read_bytes()
    async with opened(path) as (store, stored):
        assert stored.records == ()
        assert stored.epoch != old.epoch
        await commit(store, World(stored=stored), ask.Register(registration("new")))
    async with opened(path) as (_, stored):
        assert [record.name for record in stored.records] == ["new"]
    if what:  # an empty file is a new one
        assert [one.read_bytes() for one in asides(tmp_path)] == [damaged]


async def test_a_row_that_sqlite_would_still_read_but_that_changed_is_damage(
    tmp_path: Path,
) -> None:
    for number, statement in enumerate(
        (
            "UPDATE records SET body = replace(body, '8001', '8002') WHERE name = 's1'",
            "UPDATE records SET name = 'other' WHERE name = 's1'",
            "DELETE FROM records WHERE name = 's1'",
            "DELETE FROM retired",
            "DELETE FROM drained",
            "UPDATE drained SET name = 's1'",
            "UPDATE meta SET body = replace(body, 'epoch', 'epocH')",
            "DELETE FROM meta",
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "db"
        await fill(path, "s0", "s1", "s2")
        with sqlite3.connect(path) as db:
            db.execute(statement)
        db.close()
        async with opened(path) as (_, stored):
            assert stored.records == (), statement
        assert len(asides(folder)) == 1, statement


@pytest.mark.parametrize("seed", range(60))
async def test_a_file_with_random_damage_is_read_whole_or_not_at_all(
    tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    path = tmp_path / "db"
    old = await fill(path, *(f"s{n}" for n in range(100)))
    raw = bytearray(path.read_bytes())
    start = dice.randrange(len(raw))
    length = dice.choice([1, 8, 512, 4096])
    for at in range(start, min(len(raw), start + length)):
        raw[at] = dice.randrange(256)
    if dice.random() < 0.3:
        del raw[dice.randrange(len(raw)) :]
    path.write_bytes(raw)
    store = SqliteStore(path)
    try:
        stored = await store.open()
    except RefusalError as why:
        assert "newer Creche" in str(why)  # the damage hit the schema's number
        return
    finally:
        await store.close()
    if stored.records:
        assert sorted(stored.records, key=str) == sorted(old.records, key=str)
        assert (stored.epoch, stored.revision) == (old.epoch, old.revision)
        assert (stored.retired, stored.drained) == (old.retired, old.drained)
    else:
        assert stored.epoch != old.epoch


async def test_a_full_disk_refuses_the_batch_and_keeps_what_was(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with opened(path) as (store, stored):
        world = World(stored=stored)
        await commit(store, world, ask.Register(registration("a")))
        assert store._db is not None
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages}")
        fat = registration("b", port=8200, metadata={"x": "y" * 60_000})
        with pytest.raises(StoreError, match="full"):
            await commit(store, world, ask.Register(fat))
        assert set(world.table.entries) == {"a"}
        store._db.execute("PRAGMA max_page_count=1000000")
        await commit(store, world, ask.Register(registration("c", port=8300)))
    async with opened(path) as (_, stored):
        assert sorted(record.name for record in stored.records) == ["a", "c"]


async def test_a_path_that_is_a_folder_is_refused_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    store = SqliteStore(tmp_path / "db")
    with pytest.raises(RefusalError, match="state_dir"):
        await store.open()
    await store.close()
