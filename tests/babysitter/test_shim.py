"""Engines outlive their babysitter: the shim with real processes."""

import asyncio
import json
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import uvloop

from babysitter import cgroup, life, procfs, shim_control, shim_folder, shim_sweep
from babysitter.logtail import tail
from babysitter.processes import until_gone
from babysitter.shim_client import (
    EngineExit,
    LaunchError,
    ShimError,
    ShimHandle,
    adopt,
    argv_hash,
    engine_id,
    sweep_orphans,
)
from babysitter.shim_handle import connect
from babysitter.shim_life import State
from babysitter.watch import Watch
from tests.babysitter.shim_bench import Bench, bench, python, said
from tests.support.until import until

pytestmark = pytest.mark.real
ROOT = Path(__file__).resolve().parents[2]

FOREVER = "import signal; print('up'); signal.pause()"
#: Forks twice, leaves group and session, ignores TERM, and says its pid.
DAEMON = """
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('daemon', os.getpid())
        while True: signal.pause()
    os._exit(0)
os.wait()
"""


@pytest.fixture
async def shims(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as one:
        yield one


async def exit_of(handle: ShimHandle) -> EngineExit:
    async with asyncio.timeout(30):
        return await asyncio.shield(handle.exited)


def proc(pid: int) -> procfs.Proc:
    found = procfs.look(pid)
    assert found is not None
    return found


def seen(pid: int, what: str) -> bytes:
    return Path(f"/proc/{pid}/{what}").read_bytes()


# ── the end ────────────────────────────────────────────────────────────────────────────────────


async def test_stop_ends_a_daemon_that_left_its_session_and_ignores_term(shims: Bench) -> None:
    handle = await shims.launch(DAEMON + FOREVER)
    daemon = proc(int((await said(handle, "daemon")).split()[1]))
    assert daemon.ppid == handle.shim_pid  # the subreaper
    await said(handle, "up")
    ended = await handle.stop(grace_s=60)
    assert ended.signal == "SIGTERM"
    assert [one.pid for one in shims.marked()] == [handle.shim_pid]
    await handle.release()


async def test_an_engine_that_ends_leaves_no_worker(shims: Bench) -> None:
    handle = await shims.launch(DAEMON + "input() if False else None; raise SystemExit(3)")
    assert (await exit_of(handle)).code == 3
    await handle.release()
    assert shims.marked() == []


def test_a_child_that_no_table_shows_is_left_all_the_same() -> None:
    """One that forks and ends while /proc is read shows neither itself nor its child."""
    code = (
        f"import subprocess, sys; sys.path.append({str(ROOT)!r})\n"
        "from babysitter import procfs\n"
        "from babysitter.shim_leftovers import Leftovers\n"
        "procfs.table = dict\n"
        "def left(): print(Leftovers().end(spared=None))\n"
        "left(); child = subprocess.Popen(['sleep', '60']); left()\n"
        "child.kill(); left(); child.wait(); left()"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["False", "True", "True", "False"]


async def test_an_engine_that_ignores_term_is_killed_after_its_grace(shims: Bench) -> None:
    handle = await shims.launch(
        "import signal; signal.signal(signal.SIGTERM, lambda *_: print('no'))\n"
        "print('up')\nwhile True: signal.pause()"
    )
    await said(handle, "up")
    stopping = asyncio.gather(handle.stop(grace_s=3600))
    await said(handle, "no")
    ended = await handle.stop(grace_s=0.2)  # asked twice, the shorter grace holds
    assert (ended.signal, ended.oom, ended.cause) == ("SIGKILL", False, "signal")
    assert await stopping == [ended]
    await handle.release()


async def test_a_group_keeps_its_grace_when_its_leader_ends_at_once(shims: Bench) -> None:
    server = (
        "import signal\ndef bye(*_): print('bye'); raise SystemExit\n"
        "signal.signal(signal.SIGTERM, lambda *_: None); signal.signal(signal.SIGUSR1, bye)\n"
        "print('up', os.getpid())\nwhile True: signal.pause()"
    )
    leader = f"import subprocess, signal; subprocess.Popen({python(server)!r}); signal.pause()"
    handle = await shims.launch(leader)
    member = int((await said(handle, "up")).split()[1])
    stopping = asyncio.gather(handle.stop(grace_s=60))
    assert (await exit_of(handle)).signal == "SIGTERM"
    assert "bye" not in await handle.tail(10)  # an answer later than its first look around
    os.kill(member, signal.SIGUSR1)
    assert (await stopping)[0].signal == "SIGTERM"
    assert "bye" in await handle.tail(10)
    await handle.release()


async def test_stop_with_a_long_grace_can_be_cut_short_by_kill(shims: Bench) -> None:
    handle = await shims.launch(
        "import signal; signal.signal(signal.SIGTERM, lambda *_: print('no'))\n"
        "print('up')\nwhile True: signal.pause()"
    )
    await said(handle, "up")
    stopping = asyncio.gather(handle.stop(grace_s=3600))
    await said(handle, "no")
    assert (await handle.kill()).signal == "SIGKILL"
    assert (await stopping)[0].signal == "SIGKILL"
    await handle.release()


@pytest.mark.parametrize(
    ("script", "code", "killed_by"),
    [
        ("raise SystemExit(0)", 0, None),
        ("raise SystemExit(17)", 17, None),
        ("import os; os.kill(os.getpid(), 9)", None, "SIGKILL"),
        ("import os; os.abort()", None, "SIGABRT"),
    ],
)
async def test_code_and_signal_of_an_end_are_told_unasked(
    shims: Bench, script: str, code: int | None, killed_by: str | None
) -> None:
    handle = await shims.launch(f"print('last words')\n{script}")
    ended = await exit_of(handle)
    assert (ended.code, ended.signal, ended.oom, ended.lost) == (code, killed_by, False, False)
    assert "last words" in await handle.tail(10)
    await handle.release()
    assert await adopt(shims.folder(), shims.runtime) is None


async def test_a_signal_reaches_the_group_and_unknown_ones_are_refused(shims: Bench) -> None:
    handle = await shims.launch(
        "import signal; signal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n"
        "print('up')\nwhile True: signal.pause()"
    )
    await said(handle, "up")
    await handle.signal("SIGUSR1")
    await said(handle, "heard")
    with pytest.raises(ShimError, match="unknown signal"):
        await handle.signal("SIGNOPE")
    with pytest.raises(ShimError, match="still runs"):
        await handle.release()
    await handle.kill()
    await handle.release()


async def test_the_shim_ignores_the_signals_of_a_terminal(shims: Bench) -> None:
    handle = await shims.launch(FOREVER)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        os.kill(handle.shim_pid, number)
    await said(handle, "up")
    shown = proc(handle.shim_pid)
    assert shown.session == handle.shim_pid != os.getsid(0)
    assert not handle.exited.done()
    await handle.kill()
    await handle.release()


# ── starting ───────────────────────────────────────────────────────────────────────────────────


async def test_a_binary_that_is_missing_is_said_and_nothing_is_left(shims: Bench) -> None:
    with pytest.raises(LaunchError, match=r"'no-such-engine' cannot be run: No such file"):
        await shims.launch(["no-such-engine"])
    assert await adopt(shims.folder(), shims.runtime) is None
    with pytest.raises(LaunchError, match=r"folder '/no/such' cannot be entered: No such file"):
        await shims.launch(FOREVER, cwd="/no/such")
    assert sorted(os.listdir(shims.folder())) == ["lock", "shim.err"]


async def test_an_end_that_comes_with_the_first_answer_is_heard(shims: Bench) -> None:
    path = shims.runtime / "shim.sock"
    runs = State(
        schema=1, phase="running", engine_id="e", instance_id="life-1", argv_hash="", boot_id="",
        shim_pid=os.getpid(), shim_start_time=0, pid=1, start_time=0, started_at=0.0,
        socket=str(path), exit=None, released=False,
    )  # fmt: skip
    ended = {"event": "exited", "exit": {"code": 3}, "last_words": ["bye"]}

    async def shim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = json.loads(await reader.readline())["id"]
        answer = {**msgspec.to_builtins(runs), "id": number, "ok": True}
        writer.write(b"".join(msgspec.json.encode(one) + b"\n" for one in (answer, ended)))
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(shim, path):
        link, state = await connect(str(path))
        handle = ShimHandle(link, state, shims.folder())
        assert (await exit_of(handle)).code == 3
        assert (handle.last_words, handle.lost) == (["bye"], False)
        await handle.close()


async def test_a_second_life_in_the_same_folder_is_refused_and_harms_nothing(
    shims: Bench,
) -> None:
    handle = await shims.launch(FOREVER)
    with pytest.raises(LaunchError, match="another shim keeps an engine"):
        await shims.launch(FOREVER)
    await said(handle, "up")
    await handle.kill()
    await handle.release()


async def test_a_runtime_folder_too_long_for_sockets_is_said(shims: Bench) -> None:
    shims.runtime = shims.base / ("x" * 100)
    with pytest.raises(LaunchError, match="limit of 107"):
        await shims.launch(FOREVER)


async def test_a_cancelled_launch_leaves_nothing(shims: Bench) -> None:
    launching = asyncio.ensure_future(shims.launch(FOREVER))  # noqa: TID251
    await until(shims.marked)
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    assert shims.marked() == []
    assert await adopt(shims.folder(), shims.runtime) is None


async def test_secrets_are_in_no_file_and_no_command_line(shims: Bench) -> None:
    secret = "sk-very-secret-value"
    handle = await shims.launch(
        "import os, signal; print(len(os.environ['KEY'])); signal.pause()",
        env={"KEY": secret},
    )
    await said(handle, str(len(secret)))
    for path in shims.folder().iterdir():
        assert secret not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for pid in (handle.pid, handle.shim_pid):
        assert secret.encode() not in seen(pid, "cmdline")
    assert secret.encode() in seen(handle.pid, "environ")
    assert secret.encode() not in seen(handle.shim_pid, "environ")
    await handle.kill()
    await handle.release()


def test_the_shim_needs_nothing_but_the_standard_library() -> None:
    code = (
        f"import sys; sys.path.append({str(ROOT)!r}); import babysitter.shim\n"
        "print('\\n'.join(sorted(sys.modules)))\n"
        "print('\\n'.join(str(getattr(m, '__file__', '')) for m in sys.modules.values()))"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert not [line for line in told if "site-packages" in line]
    assert not {"asyncio", "threading", "subprocess", "ssl", "msgspec"} & set(told)


def test_a_life_runs_on_uvloop_too(tmp_path: Path) -> None:
    async def life() -> None:
        async with bench(tmp_path) as shims:
            handle = await shims.launch(FOREVER)
            await said(handle, "up")
            await handle.close()
            again = await adopt(shims.folder(), shims.runtime)
            assert isinstance(again, ShimHandle)
            assert (await again.stop(60)).signal == "SIGTERM"
            await again.release()

    uvloop.run(life())


# ── adoption ───────────────────────────────────────────────────────────────────────────────────

#: A babysitter that launches an engine, says so, and does no more.
KEEPER = """
import asyncio, sys
from pathlib import Path
from babysitter.shim_client import EngineSpec, launch
async def main():
    spec = EngineSpec(engine="engine", instance_id="life-1", argv=sys.argv[3:], env={"A": "b"})
    handle = await launch(spec, folder=Path(sys.argv[1]), runtime=Path(sys.argv[2]), linger_s=60)
    print(handle.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def begun_by_another(shims: Bench, script: str) -> int:
    """Have a babysitter launch `script`, kill -9 it, and tell the engine's pid."""
    keeper = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KEEPER, str(shims.folder()), str(shims.runtime), *python(script),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )  # fmt: skip
    assert keeper.stdout is not None
    pid = int(await keeper.stdout.readline())
    keeper.kill()
    await keeper.wait()
    return pid


async def test_a_killed_babysitters_engine_is_adopted_and_its_end_is_seen(shims: Bench) -> None:
    script = "print('up')\nsignal.sigwait([signal.SIGUSR1]); raise SystemExit(5)"
    block = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
    pid = await begun_by_another(shims, block + script)
    handle = await adopt(shims.folder(), shims.runtime)
    assert isinstance(handle, ShimHandle)
    assert (handle.pid, handle.instance_id) == (pid, "life-1")
    assert handle.argv_hash == argv_hash(python(block + script))
    await said(handle, "up")
    await handle.signal("SIGUSR1")
    assert (await exit_of(handle)).code == 5
    await handle.release()


async def test_an_end_that_nobody_saw_is_told_once(shims: Bench) -> None:
    pid = await begun_by_another(shims, FOREVER)
    engine = proc(pid)
    os.kill(pid, signal.SIGKILL)
    assert await until_gone(engine, 30)
    found = await adopt(shims.folder(), shims.runtime)
    assert isinstance(found, EngineExit)
    assert found.signal == "SIGKILL"
    assert await adopt(shims.folder(), shims.runtime) is None


async def test_an_end_is_told_when_the_shim_has_left_too(shims: Bench) -> None:
    handle = await shims.launch(
        "import signal\ndef end(*_): raise SystemExit(9)\n"
        "signal.signal(signal.SIGUSR1, end); print('up'); signal.pause()",
        linger_s=0.01,
    )
    kept = proc(handle.shim_pid)
    await said(handle, "up")
    os.kill(handle.pid, signal.SIGUSR1)
    await exit_of(handle)
    assert await until_gone(kept, 30)
    await until(lambda: handle.lost)
    found = await adopt(shims.folder(), shims.runtime)
    assert isinstance(found, EngineExit)
    assert found.code == 9
    assert await adopt(shims.folder(), shims.runtime) is None


async def test_a_detached_engine_goes_on_and_can_be_adopted(shims: Bench) -> None:
    handle = await shims.launch(FOREVER)
    await said(handle, "up")
    await handle.close()
    assert handle.exited.cancelled()
    again = await adopt(shims.folder(), shims.runtime)
    assert isinstance(again, ShimHandle)
    assert again.pid == handle.pid
    await again.kill()
    await again.release()


async def test_a_shim_whose_socket_folder_was_removed_makes_a_new_one(shims: Bench) -> None:
    handle = await shims.launch(FOREVER)
    await handle.close()
    shutil.rmtree(shims.runtime)
    elsewhere = shims.runtime / "new"
    again = await adopt(shims.folder(), elsewhere)
    assert isinstance(again, ShimHandle)
    assert os.listdir(elsewhere) == [f"{handle.engine_id}.sock"]
    await again.kill()
    await again.release()


async def test_a_state_of_another_boot_or_nothing_is_nothing(shims: Bench) -> None:
    assert await adopt(shims.folder(), shims.runtime) is None
    handle = await shims.launch("raise SystemExit(1)")
    await exit_of(handle)
    await handle.release()
    path = shims.folder() / shim_folder.STATE
    state = json.loads(path.read_text()) | {"released": False, "boot_id": "another"}
    path.write_text(json.dumps(state))
    assert await adopt(shims.folder(), shims.runtime) is None


async def test_a_state_of_a_newer_version_is_refused(shims: Bench) -> None:
    shims.folder().mkdir()
    (shims.folder() / shim_folder.STATE).write_text('{"schema": 99}')
    with pytest.raises(ShimError, match="newer Creche"):
        await adopt(shims.folder(), shims.runtime)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"null", b'{"schema": "x"}', b'"\xff"', b"[" * 5000, b'{"schema": 1}']
)
async def test_a_damaged_state_is_nothing_and_can_be_swept(shims: Bench, raw: bytes) -> None:
    shims.folder().mkdir()
    (shims.folder() / shim_folder.STATE).write_bytes(raw)
    assert await adopt(shims.folder(), shims.runtime) is None
    assert await sweep_orphans(shims.folder()) == 0


# ── the shim's own end ─────────────────────────────────────────────────────────────────────────


async def test_a_killed_shims_survivors_end_and_a_parallel_fleets_engine_lives(
    shims: Bench,
) -> None:
    other = await shims.launch(FOREVER, "other")
    handle = await shims.launch(DAEMON + FOREVER)
    await said(handle, "up")
    await said(handle, "daemon")  # who prints once the shim is gone ends by that
    os.kill(handle.shim_pid, signal.SIGKILL)
    ended = await exit_of(handle)
    assert (ended.lost, ended.cause, handle.lost) == (True, "shim lost", True)
    assert len(shims.marked()) == 2  # the engine and its daemon
    assert await sweep_orphans(shims.folder()) == 2
    assert shims.marked() == []
    assert len(shims.marked("other")) == 2
    assert await sweep_orphans(shims.folder()) == 0
    assert not other.exited.done()
    await other.kill()
    await other.release()


async def test_a_look_that_misses_all_that_is_left_is_not_the_last(
    shims: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await shims.launch(FOREVER)
    await said(handle, "up")
    os.kill(handle.shim_pid, signal.SIGKILL)
    await exit_of(handle)
    looks: list[int] = []

    def look(*given: Any) -> list[procfs.Proc]:
        looks.append(1)
        return [] if len(looks) == 1 else whole(*given)

    whole = shim_sweep._of_folder
    monkeypatch.setattr(shim_sweep, "_of_folder", look)
    assert await sweep_orphans(shims.folder()) == 1
    assert shims.marked() == []


async def test_a_shim_killed_while_nobody_looked_is_told_and_swept(shims: Bench) -> None:
    handle = await shims.launch(FOREVER)
    await said(handle, "up")  # later it would find nobody to read it
    await handle.close()
    kept = proc(handle.shim_pid)
    os.kill(handle.shim_pid, signal.SIGKILL)
    assert await until_gone(kept, 30)
    found = await adopt(shims.folder(), shims.runtime)
    assert isinstance(found, EngineExit)
    assert found.lost
    assert await sweep_orphans(shims.folder()) == 1


async def test_an_engine_that_overwrote_its_environment_is_swept_too(shims: Bench) -> None:
    handle = await shims.launch(["env", "-i", *python(FOREVER)])
    await said(handle, "up")
    assert [one.pid for one in shims.marked()] == [handle.shim_pid]
    os.kill(handle.shim_pid, signal.SIGKILL)
    await exit_of(handle)
    assert await sweep_orphans(shims.folder()) == 1
    assert procfs.look(handle.pid) is None or proc(handle.pid).state == "Z"


async def test_a_shim_that_hangs_does_not_keep_its_engine_from_ending(
    shims: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await shims.launch(FOREVER)
    await said(handle, "up")
    monkeypatch.setattr("babysitter.shim_handle.END_TIMEOUT_S", 0.05)
    os.kill(handle.shim_pid, signal.SIGSTOP)
    assert (await handle.stop(0)).lost
    assert shims.marked() == []


# ── output ─────────────────────────────────────────────────────────────────────────────────────

LINE = "x" * 99


async def test_fifty_megabytes_neither_block_the_engine_nor_grow_the_shim(shims: Bench) -> None:
    script = f"import os\nfor _ in range(500): os.write(1, b'{LINE}\\n' * 1000)\nprint('done')"
    handle = await shims.launch(script, log_bytes_max=1_000_000, log_files=3)
    assert (await exit_of(handle)).code == 0
    assert (await handle.tail(2)) == [LINE, "done"]
    assert await handle.lost_bytes() == 0
    peak_kb = int(seen(handle.shim_pid, "status").partition(b"VmHWM:")[2].split()[0])
    assert peak_kb < 32 * 1024
    await handle.release()
    logs = [path for path in shims.folder().iterdir() if path.name.startswith("engine.log")]
    assert len(logs) == 3
    assert all(path.stat().st_size <= 1_000_000 for path in logs)
    assert await tail(shims.folder() / "engine.log", 2) == [LINE, "done"]


async def test_last_words_come_with_the_end_and_are_of_this_life_alone(
    shims: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shim has no time to be asked for them; its log has those of the life before, too."""
    monkeypatch.setattr("babysitter.life.LAST_WORDS_S", 0)
    for words in ("first", "second"):
        handle = await shims.launch(f"print('{words}')\nraise SystemExit(1)")
        await exit_of(handle)
        ended = life.Life("engine", handle, cast(Watch, None), shims.folder())
        assert await ended.last_words() == [words]
        await handle.release()
    assert await tail(shims.folder() / "engine.log", 9) == ["first", "second"]


async def test_output_without_an_end_of_line_is_bounded(shims: Bench) -> None:
    script = "import os\nfor _ in range(48): os.write(1, b'y' * 65536)"
    handle = await shims.launch(script, log_bytes_max=100_000, log_files=2)
    await exit_of(handle)
    (line,) = await handle.tail(5)
    assert len(line) < 20_000
    assert line.endswith("(cut)")
    await handle.release()
    sizes = [path.stat().st_size for path in shims.folder().glob("engine.log*")]
    assert len(sizes) == 2
    assert max(sizes) <= 100_000


async def test_a_full_disk_costs_output_never_the_engine_or_its_exit(shims: Bench) -> None:
    script = (
        "import os, signal\n"
        "def speak(*_): os.write(1, b'z' * 999 * 1000 + b'\\n'); print('spoken')\n"
        "signal.signal(signal.SIGUSR1, speak); print('up')\n"
        "signal.signal(signal.SIGUSR2, lambda *_: print('later'))\n"
        "while True: signal.pause()"
    )
    handle = await shims.launch(script)
    await said(handle, "up")
    unlimited = resource.prlimit(handle.shim_pid, resource.RLIMIT_FSIZE)
    resource.prlimit(handle.shim_pid, resource.RLIMIT_FSIZE, (5, unlimited[1]))
    await handle.signal("SIGUSR1")
    await said(handle, "spoken")
    lost = await handle.lost_bytes()
    assert lost > 900_000
    resource.prlimit(handle.shim_pid, resource.RLIMIT_FSIZE, unlimited)
    await handle.signal("SIGUSR2")
    await said(handle, "later")
    log = (shims.folder() / "engine.log").read_text()
    assert f"--- creche: {lost} bytes of output lost here" in log
    assert log.endswith("later\n")
    resource.prlimit(handle.shim_pid, resource.RLIMIT_FSIZE, (5, unlimited[1]))
    assert (await handle.stop(60)).signal == "SIGTERM"
    state = shims.folder() / shim_folder.STATE
    assert json.loads(state.read_text())["phase"] == "running"
    resource.prlimit(handle.shim_pid, resource.RLIMIT_FSIZE, unlimited)
    await until(lambda: json.loads(state.read_text())["phase"] == "ended")
    await handle.release()


async def test_an_engine_that_closes_its_output_is_kept_all_the_same(shims: Bench) -> None:
    handle = await shims.launch(
        "import os, signal; print('up'); os.close(1); os.close(2); signal.pause()"
    )
    await said(handle, "up")
    assert (await handle.stop(60)).signal == "SIGTERM"
    await handle.release()


# ── the control socket ─────────────────────────────────────────────────────────────────────────


async def test_clients_that_misbehave_hurt_only_themselves(shims: Bench) -> None:
    handle = await shims.launch(FOREVER)
    path = shims.runtime / f"{handle.engine_id}.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for nonsense in (b"hello\n", b"[]\n", b'{"cmd":' + b"[" * 3000 + b"\n", b"x" * 9000):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(nonsense)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass  # closed with something unread
        writer.close()
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"id": 7, "cmd": "dance"}\n{"id": 8, "cmd": "stop", "grace_s": "long"}\n')
    assert json.loads(await reader.readline())["error"] == "unknown command 'dance'"
    assert json.loads(await reader.readline()) == {"id": 8, "error": "grace_s is no duration"}
    writer.close()
    await said(handle, "up")
    await handle.kill()
    await handle.release()


@pytest.mark.parametrize(
    ("peer", "own", "heard"), [(1000, 1000, True), (0, 1000, True), (1001, 1000, False)]
)
def test_only_its_own_user_and_root_are_heard(
    peer: int, own: int, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Peer:
        def getsockopt(self, *_: int) -> bytes:
            return struct.pack("3i", 4711, peer, 100)

    monkeypatch.setattr(os, "geteuid", lambda: own)
    assert shim_control._may_talk(Peer()) is heard  # type: ignore[arg-type]


async def test_more_clients_than_fit_are_turned_away(shims: Bench) -> None:
    handle = await shims.launch(FOREVER)
    path = shims.runtime / f"{handle.engine_id}.sock"
    opened = [await asyncio.open_unix_connection(path) for _ in range(15)]
    for reader, writer in opened:
        writer.write(b'{"id": 1, "cmd": "status"}\n')
        assert json.loads(await reader.readline())["ok"]
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.read() == b""
    for _, one in [*opened, (reader, writer)]:
        one.close()
        await one.wait_closed()
    await handle.kill()
    await handle.release()


# ── control groups ─────────────────────────────────────────────────────────────────────────────


async def test_in_a_group_of_its_own_an_engine_ends_with_it(shims: Bench) -> None:
    parent = Path("/sys/fs/cgroup/unified") if CGROUP_V1_TOO else Path("/sys/fs/cgroup")
    fake = not os.access(parent / "cgroup.procs", os.W_OK)
    if fake:
        parent = shims.base.with_name(f"{shims.base.name}-cgroup")
        group = parent / f"creche-{engine_id(shims.folder(), 'engine', 'life-1')}"
        await asyncio.to_thread(fake_group, group)
    handle = await shims.launch(DAEMON + FOREVER, cgroup_parent=str(parent))
    await said(handle, "up")
    group = parent / f"creche-{handle.engine_id}"
    members = (group / "cgroup.procs").read_text().split()
    assert members == ["0"] if fake else str(handle.pid) in members
    assert (await handle.kill()).signal == "SIGKILL"
    await handle.release()
    assert fake or not group.exists()


async def test_who_lost_mark_and_parents_is_found_by_the_group_when_its_shim_was_killed(
    shims: Bench,
) -> None:
    """A worker that started itself anew without an environment, beyond every family tie."""
    parent = Path("/sys/fs/cgroup/unified") if CGROUP_V1_TOO else Path("/sys/fs/cgroup")
    group = parent / cgroup.name_for(engine_id(shims.folder(), "engine", "life-1"))
    fake = not os.access(parent / "cgroup.procs", os.W_OK)
    if fake:
        parent = shims.base.with_name(f"{shims.base.name}-cgroup")
        group = parent / group.name
        await asyncio.to_thread(fake_group, group)
    handle = await shims.launch(NAMELESS + FOREVER, cgroup_parent=str(parent))
    nameless = proc(int((await said(handle, "nameless")).split()[1]))
    if fake:
        (group / "cgroup.procs").write_text(f"{nameless.pid}\n")
    os.kill(handle.shim_pid, signal.SIGKILL)
    assert (await exit_of(handle)).lost
    await until(lambda: proc(nameless.pid).ppid not in (handle.pid, handle.shim_pid))
    assert nameless.pid not in {one.pid for one in shims.marked()}
    assert await sweep_orphans(shims.folder()) >= 1
    assert await until_gone(nameless, 30)
    assert fake or not group.exists()


#: Leaves behind a daemon whose environment says nothing.
NAMELESS = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        bare = "import os, signal; print('nameless', os.getpid(), flush=True); signal.pause()"
        os.execve(sys.executable, [sys.executable, '-I', '-S', '-c', bare], {})
    os._exit(0)
os.wait()
"""


CGROUP_V1_TOO = os.path.isdir("/sys/fs/cgroup/unified")


def fake_group(path: Path) -> None:
    """What the shim needs of a control group, where this host lets us make none."""
    path.mkdir(parents=True)
    for name in ("cgroup.procs", "cgroup.kill"):
        (path / name).touch()
