"""What a reload decides and says: real files, a router of one line."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.daemon import Daemon
from common.tasks import cancel, spawn
from common.wire.router import ReloadAnswer, RouterConfig
from router import loaded
from router.loaded import Loaded
from router.reload import Refused, Reloader
from router.versions import FOLDER, Versions
from tests.support.until import until

GOOD = """
registries = []
[[static_services]]
name = "a@h"
host = "127.0.0.1"
port = 1000
"""


class Router:
    """What would run: takes every configuration, and says `lost` when it is asked to judge."""

    def __init__(self) -> None:
        self.running: Loaded | None = None
        self.swaps = 0
        self.lost: str | None = None
        self.judged: list[tuple[Loaded, Loaded]] = []
        #: A judgement that has been made is told when this is set.
        self.tells = asyncio.Event()
        self.tells.set()
        self.fails_on: str | None = None

    def swap(self, new: Loaded) -> None:
        if self.fails_on and self.fails_on in new.text:
            raise ValueError("a part that cannot")
        self.running = new
        self.swaps += 1

    async def judge(self, old: Loaded, new: Loaded) -> str | None:
        self.judged.append((old, new))
        lost = self.lost
        await self.tells.wait()
        return lost


class Case:
    def __init__(self, folder: Path, text: str = GOOD) -> None:
        self.file = folder / "router.toml"
        self.file.write_text(text)
        self.folder = folder
        self.router = Router()
        start, file = loaded.at_start(self.file)
        self.reloader = Reloader(self.router, start, file, Versions(folder / FOLDER))

    async def good(self, text: str | None = None) -> ReloadAnswer:
        if text is not None:
            self.file.write_text(text)
        found = await self.reloader.reload()
        assert isinstance(found, ReloadAnswer), found
        return found

    async def bad(self, text: str) -> Refused:
        self.file.write_text(text)
        found = await self.reloader.reload()
        assert isinstance(found, Refused), found
        return found

    async def back(self, version: int | None = None) -> ReloadAnswer:
        found = await self.reloader.rollback(version)
        assert isinstance(found, ReloadAnswer), found
        return found

    async def about(self) -> RouterConfig:
        found = await self.reloader.describe()
        assert isinstance(found, RouterConfig), found
        return found

    def aside(self) -> dict[str, str]:
        """Files that a rollback set aside."""
        return {str(path): path.read_text() for path in self.folder.glob("*.rejected-*")}

    @property
    def counts(self) -> dict[str, int]:
        return {how: count for how, count in self.reloader.read()[0].items() if count}


@asynccontextmanager
async def case(folder: Path, text: str = GOOD) -> AsyncIterator[Case]:
    one = Case(folder, text)
    await one.reloader.started()
    running = spawn(one.reloader.run(Daemon("test")), "reloads")
    try:
        yield one
    finally:
        await cancel(running)


def with_total(seconds: float, more: str = "") -> str:
    return f"{more}{GOOD}[timeouts]\ntotal_s = {seconds}\n[reload]\nrollback_after_s = 0\n"


def undone_after(seconds: float, total: float) -> str:
    return f"{GOOD}[timeouts]\ntotal_s = {total}\n[reload]\nrollback_after_s = {seconds}\n"


async def test_a_good_file_is_in_force_and_kept(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        answer = await one.good(with_total(7))
        about = await one.about()
    assert one.router.running is not None
    assert one.router.running.config.timeouts.total_s == 7
    assert (answer.status, answer.version) == ("reloaded", 2)
    assert answer.changed == ["timeouts.total_s", "reload.rollback_after_s"]
    assert (about.by, about.version, about.file_differs) == ("reload", 2, False)
    assert about.file == str(one.file)
    assert [(v.version, v.in_force) for v in about.versions] == [(2, True), (1, False)]
    assert one.counts == {"ok": 1}
    assert one.reloader.message == ""


async def test_a_bad_file_never_replaces_a_good_one(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        refused = await one.bad(GOOD + 'strategey = "prefix"\n[timeouts]\ntotal_s = -1\n')
        about = await one.about()
        assert one.router.swaps == 0
        assert refused.status == 400
        assert refused.answer.error == f"2 errors in {one.file}: the old configuration stays"
        assert [problem["line"] for problem in refused.answer.problems] == [7, 9]
        assert 'unknown key "strategey"' in refused.answer.report
        assert (about.version, about.file_differs, about.by) == (1, True, "start")
        assert "failed: 2 errors in" in one.reloader.message
        assert "running with version 1" in one.reloader.message
        assert one.counts == {"failed": 1}
        assert one.reloader.read()[1], "the last one failed"
        await one.good(GOOD)
        assert one.reloader.message == "", "a good one clears it"


async def test_a_file_that_is_gone_or_no_toml_changes_nothing(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        await one.bad("= nonsense")
        one.file.unlink()
        refused = await one.reloader.reload()
        assert isinstance(refused, Refused)
        assert "cannot be read" in refused.answer.report
        assert one.router.swaps == 0


async def test_a_file_that_was_cut_off_to_nothing_changes_nothing(tmp_path: Path) -> None:
    """Each key has a default, so an empty file is a good one; but nobody meant it."""
    async with case(tmp_path) as one:
        refused = await one.bad("\n")
        assert "the file is empty, and was not before" in refused.answer.report
        await one.good("# every default is meant\n")


async def test_what_refuses_a_start_refuses_a_reload(tmp_path: Path) -> None:
    """Not of the file alone: its token, its static services, who may reach the port."""
    async with case(tmp_path) as one:
        refused = await one.bad(f'token_file = "{tmp_path}/none"\n' + GOOD)
        assert "cannot be read" in refused.answer.problems[0]["text"]
        refused = await one.bad(f'static_file = "{tmp_path}/none"\n' + GOOD)
        assert "static_file" in refused.answer.problems[0]["text"]
        refused = await one.bad('listen = "0.0.0.0:8000"\n' + GOOD)
        assert "reachable by others" in refused.answer.problems[0]["text"]
        assert 'client_keys = "required"' in refused.answer.problems[0]["fix"]
        assert one.router.swaps == 0


async def test_a_port_that_stays_open_to_others_keeps_its_guard(tmp_path: Path) -> None:
    """The file would be safe after a restart; what runs listens to all still."""
    open_to_all = 'listen = "0.0.0.0:8000"\nclient_keys = "none"\nauth = "none"\n'
    async with case(tmp_path, open_to_all + GOOD) as one:
        refused = await one.bad(GOOD)
        assert "0.0.0.0:8000 is reachable by others" in refused.answer.problems[0]["text"]


async def test_ports_and_folders_wait_for_a_restart_and_the_rest_is_in_force(
    tmp_path: Path,
) -> None:
    async with case(tmp_path) as one:
        answer = await one.good(with_total(7, 'listen = "127.0.0.1:1"\nstate_dir = "/x"\n'))
        assert answer.needs_restart == ["listen", "state_dir"]
        assert "listen" not in answer.changed
        assert (await one.about()).needs_restart == ["listen", "state_dir"]
        assert one.router.running is not None
        assert one.router.running.config.listen == "127.0.0.1:8000"
        assert one.router.running.config.timeouts.total_s == 7
        assert (await one.good(with_total(7))).needs_restart == []


async def test_a_part_that_cannot_take_it_leaves_all_with_the_old_one(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        one.router.fails_on = "total_s = 7"
        refused = await one.bad(with_total(7))
        assert "could not take the file over" in refused.answer.report
        assert one.router.running is not None
        assert one.router.running.text == GOOD
        assert (await one.about()).version == 1


async def test_a_fault_of_ours_in_reading_a_file_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with case(tmp_path) as one:
        monkeypatch.setattr(loaded, "load", lambda *_: 1 / 0)
        refused = await one.bad(with_total(7))
        assert "ZeroDivisionError" in refused.answer.report
        one.reloader.ask()
        await until(lambda: one.counts == {"failed": 2})
        monkeypatch.undo()
        await one.good(with_total(7))


async def test_the_last_ten_good_files_are_kept(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        for number in range(14):
            await one.good(with_total(number + 1))
            await one.bad("bad = 1")
        versions = (await one.about()).versions
    assert [one.version for one in versions] == list(range(15, 5, -1))


async def test_a_folder_that_cannot_be_written_stops_no_reload(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    async with case(tmp_path) as one:
        answer = await one.good(with_total(7))
        assert one.router.swaps == 1
        assert answer.version is None
        assert "could not be kept" in answer.notes[0]


async def test_reloads_asked_for_together_are_made_one_after_another(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        await asyncio.gather(*(one.good() for _ in range(20)))
        assert one.router.swaps == 20
        one.reloader.ask()
        one.reloader.ask()
        await until(lambda: one.router.swaps == 21, what="two signals at once are one reload")


async def test_a_client_that_leaves_stops_no_reload(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        asked = spawn(one.reloader.reload(), "asked")
        await asyncio.sleep(0)
        asked.cancel()
        await until(lambda: one.router.swaps == 1)


# --- back to an earlier one -----------------------------------------------------------------------


async def test_a_rollback_returns_to_the_good_file_before_and_writes_it(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        await one.good(with_total(7))
        answer = await one.back()
        assert (answer.status, answer.version, answer.file_written) == ("rolled back", 1, True)
        assert one.file.read_text() == GOOD
        assert one.aside() == {str(answer.rejected_file): with_total(7)}
        assert one.router.running is not None
        assert one.router.running.text == GOOD
        assert (await one.about()).by == "rollback"
        assert one.counts == {"ok": 1, "rolled_back": 1}
        again = await one.reloader.rollback()
        assert isinstance(again, Refused)
        assert (again.status, again.answer.error) == (
            409,
            "no good version is kept from before this one",
        )


async def test_a_rollback_after_a_bad_edit_brings_back_what_runs(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        await one.good(with_total(7))
        await one.bad("bad = 1")
        answer = await one.back()
        assert answer.version == 2, "not the one before: this one was never left"
        assert one.file.read_text() == with_total(7)
        assert one.reloader.message == ""


async def test_a_rollback_goes_to_the_version_that_was_named(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        for seconds in (7, 8):
            await one.good(with_total(seconds))
        await one.back(1)
        assert one.file.read_text() == GOOD
        await one.back(3)
        assert one.file.read_text() == with_total(8)
        unknown = await one.reloader.rollback(99)
        assert isinstance(unknown, Refused)
        assert (unknown.status, unknown.answer.error) == (404, "there is no version 99")


async def test_a_file_that_cannot_be_written_is_told_loudly(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        await one.good(with_total(7))
        one.file.unlink()
        one.file.mkdir()  # as little to be replaced as a file on a read-only disk
        answer = await one.back(1)
        assert answer.file_written is False
        assert one.router.running is not None
        assert one.router.running.text == GOOD
        for said in (answer.notes[0], one.reloader.message):
            assert "could not be written" in said
            assert "a restart would load what it says" in said
            assert str(tmp_path / FOLDER / "000001") in said


async def test_a_kept_version_that_is_good_no_more_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-that-is-long-enough")
    token.chmod(0o600)
    async with case(tmp_path, f'token_file = "{token}"\n' + GOOD) as one:
        await one.good(GOOD)
        token.unlink()
        refused = await one.reloader.rollback(1)
        assert isinstance(refused, Refused)
        assert refused.status == 400
        assert one.file.read_text() == GOOD


async def test_without_a_file_there_is_nothing_to_return_to(tmp_path: Path) -> None:
    start, file = loaded.at_start(None)
    reloader = Reloader(Router(), start, file, Versions(tmp_path / FOLDER))
    await reloader.started()
    answer = await reloader.reload()
    assert isinstance(answer, ReloadAnswer)
    assert (answer.version, answer.changed) == (None, [])
    refused = await reloader.rollback()
    assert isinstance(refused, Refused)
    assert refused.status == 409


# --- undone by itself -----------------------------------------------------------------------------


async def test_a_reload_that_lost_what_the_old_file_serves_is_undone(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        one.router.lost = '"code" cannot be served'
        answer = await one.good(undone_after(0.01, 7))
        assert answer.undo_after_s == 0.01
        await until(lambda: "undone" in one.counts)
        about = await one.about()
        assert one.router.running is not None
        assert one.router.running.text == GOOD
        assert len(one.router.judged) == 2, "a second look confirms the first"
        assert one.file.read_text() == undone_after(0.01, 7), "the file is the operator's"
        assert (about.by, about.version, about.file_differs) == ("automatic rollback", 1, True)
        assert about.undo_until is None
        assert '"code" cannot be served' in one.reloader.message
        assert str(one.file) in one.reloader.message
        await one.back()
        assert one.file.read_text() == GOOD, "a rollback then writes what runs"


async def test_a_reload_that_serves_is_final_after_its_time(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        one.router.tells.clear()
        await one.good(undone_after(0.01, 7))
        assert (await one.about()).undo_until is not None
        await until(lambda: one.router.judged)
        one.router.lost = "too late"
        one.router.tells.set()
        await until(lambda: one.reloader._watching is None)
        assert one.counts == {"ok": 1}
        assert (await one.about()).undo_until is None


async def test_0_is_never(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        one.router.lost = "lost"
        assert (await one.good(undone_after(0, 7))).undo_after_s == 0
        assert one.reloader._watching is None


async def test_a_reload_that_changes_nothing_is_final_at_once(tmp_path: Path) -> None:
    static = tmp_path / "static.json"
    static.write_text('[{"name": "s@h", "host": "127.0.0.1", "port": 1001}]')
    text = f'static_file = "{static}"\n{GOOD}'
    async with case(tmp_path, text) as one:
        for same in (text, f"# a comment\n{text}"):
            answer = await one.good(same)
            assert (answer.changed, answer.undo_after_s) == ([], 0)
            assert (await one.about()).undo_until is None
        static.write_text('[{"name": "s@h", "host": "127.0.0.1", "port": 1002}]')
        assert (await one.good()).undo_after_s == 30, "other services, though by the same text"


async def test_what_is_loaded_again_while_it_is_watched_stays_watched(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        await one.good(undone_after(60, 7))
        again = await one.good()
        assert (again.changed, again.undo_after_s) == ([], 60)
        assert (await one.good(GOOD)).undo_after_s == 0, "the one that has proved itself"


async def test_what_is_judged_against_is_the_last_that_proved_itself(tmp_path: Path) -> None:
    """A second bad edit within the time must not make the first one the good one."""
    async with case(tmp_path) as one:
        one.router.lost = "lost"
        await one.good(undone_after(60, 7))
        await one.good(undone_after(0.01, 8))
        await until(lambda: "undone" in one.counts)
        assert one.router.running is not None
        assert one.router.running.text == GOOD


async def test_what_an_operator_rolled_back_to_is_never_undone(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        one.router.lost = "lost"
        await one.good(undone_after(60, 7))
        await one.back()
        assert one.reloader._watching is None
        assert one.router.judged == []


async def test_a_bad_edit_meanwhile_leaves_the_watch_as_it_is(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        await one.good(undone_after(60, 7))
        await one.bad("bad = 1")
        assert (await one.about()).undo_until is not None
