"""Keys in a file: durable, followed by others, never half-read."""

import sqlite3
from pathlib import Path

import pytest

from common.errors import RefusalError
from router.keys.keeper import Keeper
from router.keys.orders import Order
from router.keys.record import Key
from router.keys.ring import KeyRing
from router.keys.sqlite_file import SqliteKeys
from router.keys.store import StoreError, TakenError


def made(name: str, number: int = 0, **more: object) -> Key:
    return Key(id=f"{number:012x}", name=name, digest="d", created=1.0, **more)  # type: ignore[arg-type]


async def test_what_was_added_is_there_after_a_new_start(tmp_path: Path) -> None:
    store = SqliteKeys(tmp_path / "keys.db")
    await store.open()
    await store.add(made("ana"))
    await store.close()
    again = SqliteKeys(tmp_path / "keys.db")
    await again.open()
    assert await again.load() == [made("ana")]
    await again.close()
    assert (tmp_path / "keys.db").stat().st_mode & 0o777 == 0o600


async def test_one_name_holds_once_and_again_after_it_was_revoked(tmp_path: Path) -> None:
    store = SqliteKeys(tmp_path / "keys.db")
    await store.open()
    await store.add(made("ana", 1))
    with pytest.raises(TakenError):
        await store.add(made("ana", 2))
    assert await store.revoke("nobody", 5.0) is None
    gone = await store.revoke("ana", 5.0)
    assert gone is not None
    assert (gone.id, gone.revoked) == (made("ana", 1).id, 5.0)
    assert await store.revoke("ana", 6.0) is None
    await store.add(made("ana", 3))
    gone = await store.revoke(made("ana", 3).id, 7.0)
    assert gone is not None
    assert [(key.id, key.revoked) for key in await store.load()] == [
        (made("ana", 1).id, 5.0),
        (made("ana", 3).id, 7.0),
    ]
    await store.close()


async def test_what_another_process_writes_changes_the_mark(tmp_path: Path) -> None:
    one, other = SqliteKeys(tmp_path / "keys.db"), SqliteKeys(tmp_path / "keys.db")
    await one.open()
    await other.open()
    before = await one.mark()
    assert await one.mark() == before
    await other.add(made("ana"))
    assert await one.mark() != before
    assert [key.name for key in await one.load()] == ["ana"]
    await one.close()
    await other.close()


async def test_a_damaged_file_ends_the_start_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    path.write_bytes(b"this was a database once" * 100)
    with pytest.raises(RefusalError) as refused:
        await SqliteKeys(path).open()
    assert f"the clients' keys in {path} cannot be read" in str(refused.value)
    assert "Put a backup in its place" in str(refused.value)
    assert path.read_bytes() == b"this was a database once" * 100


async def test_a_damaged_key_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SqliteKeys(path)
    await store.open()
    await store.add(made("ana"))
    await store.close()
    db = sqlite3.connect(path)
    db.execute("UPDATE keys SET body = ?", (b"{",))
    db.commit()
    db.close()
    with pytest.raises(RefusalError, match="cannot be read"):
        await SqliteKeys(path).open()


async def test_a_file_that_was_put_in_its_place_is_not_written_past(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SqliteKeys(path)
    await store.open()
    path.rename(tmp_path / "aside.db")
    with pytest.raises(StoreError, match="was replaced: restart the router"):
        await store.mark()
    with pytest.raises(StoreError, match="was replaced"):
        await store.add(made("ana"))
    await store.close()


async def test_a_newer_ones_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SqliteKeys(path)
    await store.open()
    await store.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=2")
    db.commit()
    db.close()
    with pytest.raises(RefusalError, match="written by a newer Creche"):
        await SqliteKeys(path).open()


async def test_a_key_made_by_one_router_is_in_anothers_ring_when_it_looks(tmp_path: Path) -> None:
    rings: list[KeyRing] = []
    keeper = Keeper(SqliteKeys(tmp_path / "keys.db"), rings.append)
    await keeper.open()
    assert [len(ring.ids) for ring in rings] == [0]
    key, text = await keeper.create(Order(name="ana"))
    assert rings[-1].ids == {key.id}
    other: list[KeyRing] = []
    second = Keeper(SqliteKeys(tmp_path / "keys.db"), other.append)
    await second.open()
    assert getattr(other[-1].find(text, 0.0), "name", None) == "ana"
    await keeper.revoke("ana")
    assert rings[-1].ids == set()
    await keeper.close()
    await second.close()
