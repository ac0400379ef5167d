"""The life of a daemon's process: real processes, real signals, a real notify socket."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes import Process, Processes
from tests.support.systemd import Systemd
from tests.support.until import until

pytestmark = pytest.mark.real

#: What the child runs: `main` is the text between.
CHILD = """
import asyncio, sys
from common import daemon, logs, tasks
from common.config import ConfigError, Problem
from common.errors import RefusalError
logs.set_up("test", form="json")

async def main(me):
{body}

sys.exit(daemon.run("creche-test", main))
"""
WAITS = """
    me.ready("on port 1")
    print("ready", flush=True)
    await me.until_stopped()
    print("stopped", me.hurry.is_set(), flush=True)
"""


def start(processes: Processes, body: str, **env: str) -> Process:
    lines = "\n".join(f"    {line}" for line in body.strip().split("\n"))
    if body.startswith("\n    "):
        lines = body.strip("\n")
    return processes.start([sys.executable, "-c", CHILD.format(body=lines)], name="child", env=env)


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_well(processes: Processes, which: signal.Signals) -> None:
    child = start(processes, WAITS)
    await child.said("ready")
    child.signal(which)
    assert await child.ended() == 0
    assert "stopped False" in child.log


@pytest.mark.parametrize("which", ["SIGTERM", "SIGHUP"])
async def test_a_signal_that_comes_when_it_has_ended_changes_no_status(
    processes: Processes, which: str
) -> None:
    """The interpreter gives the handlers back before it lets go of the modules."""
    late = f"""
import os, signal
class Late:
    def __del__(self, kill=os.kill, me=os.getpid()):
        kill(me, signal.{which})
globals()["late"] = Late()
"""
    assert await start(processes, late).ended() == 0


async def test_it_may_open_as_many_files_as_the_host_lets_it(processes: Processes) -> None:
    look = "    import resource; print('limits', *resource.getrlimit(resource.RLIMIT_NOFILE))"
    limited = 'ulimit -Sn 256; ulimit -Hn 2000; exec "$0" -c "$1"'
    child = processes.start(["sh", "-c", limited, sys.executable, CHILD.format(body=look)])
    assert await child.ended() == 0
    assert "limits 2000 2000" in child.log


RELOADS = """
    def reload():
        me.reloading()
        print("read again", flush=True)
        me.reloaded("version 2")
    me.on_reload(reload)
    me.ready("on port 1")
    print("ready", flush=True)
    await me.until_stopped()
    print("stopping", flush=True)
    await me.hurry.wait()
"""


async def test_a_hangup_asks_for_a_reload_and_ends_nothing(processes: Processes) -> None:
    child = start(processes, RELOADS)
    await child.said("ready")
    child.signal(signal.SIGHUP)
    await child.said("read again")
    child.terminate()
    await child.said("stopping")
    child.signal(signal.SIGHUP)
    child.terminate()
    assert await child.ended() == 0
    assert child.log.count("read again") == 1, "none while it stops"


TERMINAL = """
import os, pty, signal, sys
child, terminal = pty.fork()
if not child:
    os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
signal.pause()
"""


async def test_a_terminal_that_is_closed_ends_it_though_it_reloads(
    processes: Processes, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    body = CHILD.format(body=RELOADS.replace("await me.hurry.wait()", "").strip("\n"))
    holder = processes.start([sys.executable, "-c", TERMINAL, said, body], name="terminal")

    def has_said(text: str) -> bool:
        return said.exists() and text in said.read_text()

    await until(lambda: has_said("ready"))
    (child,) = [pid for pid in processes.survivors() if pid != holder.pid]
    os.kill(child, signal.SIGHUP)
    await until(lambda: has_said("read again"))
    holder.kill()  # and with it the terminal
    await until(lambda: has_said("stopping"))
    await until(lambda: child not in processes.survivors())


async def test_a_hangup_that_nobody_asked_for_ends_it(processes: Processes) -> None:
    child = start(processes, WAITS)
    await child.said("ready")
    child.signal(signal.SIGHUP)
    assert await child.ended() == -signal.SIGHUP


async def test_a_second_signal_hurries(processes: Processes) -> None:
    child = start(
        processes,
        """
        print("ready", flush=True)
        await me.until_stopped()
        print("draining", flush=True)
        await me.hurry.wait()
        print("hurried", flush=True)
        """.replace("\n        ", "\n"),
    )
    await child.said("ready")
    child.terminate()
    await child.said("draining")
    child.terminate()
    assert await child.ended() == 0
    assert "hurried" in child.log


async def test_a_third_signal_cuts_what_does_not_end(processes: Processes) -> None:
    child = start(
        processes,
        """
        print("ready", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("cut", flush=True)
        """.replace("\n        ", "\n"),
    )
    await child.said("ready")
    for word in ("stopping", "hurrying"):
        child.terminate()
        await child.said(word)
    child.terminate()
    assert await child.ended() == 0
    assert "cut" in child.log


async def test_a_refusal_is_told_in_full_and_without_a_traceback(processes: Processes) -> None:
    body = "raise RefusalError('port 1 is taken.' + chr(10) + '  Stop it.')"
    child = start(processes, body)
    assert await child.ended() == 1
    assert child.log == "creche-test: refusing to start: port 1 is taken.\n  Stop it.\n"


async def test_a_bad_config_is_told_in_full_and_without_a_traceback(processes: Processes) -> None:
    child = start(processes, 'raise ConfigError([Problem(text="x is wrong")])')
    assert await child.ended() == 1
    assert "error: x is wrong" in child.log
    assert "Traceback" not in child.log


async def test_a_fatal_task_that_fails_ends_it_with_its_error(processes: Processes) -> None:
    child = start(
        processes,
        """
        async def fails():
            raise OSError("the disk is full")
        tasks.spawn(fails(), "store", fatal=True)
        await me.until_stopped()
        print("cleaned up", flush=True)
        """.replace("\n        ", "\n"),
    )
    assert await child.ended() == 1
    assert "cleaned up" in child.log
    assert "creche-test: failed: OSError: the disk is full" in child.log


async def test_an_ordinary_task_that_fails_does_not_end_it(processes: Processes) -> None:
    child = start(
        processes,
        """
        async def fails():
            raise OSError("the disk is full")
        tasks.spawn(fails(), "probe")
        await me.until_stopped()
        """.replace("\n        ", "\n"),
    )
    await child.said("task failed")
    assert child.alive
    child.terminate()
    assert await child.ended() == 0


async def test_an_error_in_main_is_a_failure(processes: Processes) -> None:
    child = start(processes, 'raise ValueError("token sk-0123456789abcdef is bad")')
    assert await child.ended() == 1
    assert "creche-test: failed: ValueError: token [hidden] is bad" in child.log
    assert "sk-0123456789abcdef" not in child.log


async def test_it_runs_on_uvloop_and_without_it_on_asyncio(processes: Processes) -> None:
    ask = "print(type(asyncio.get_running_loop()).__module__, flush=True)"
    assert await start(processes, ask).ended() == 0
    blocked = CHILD.replace(
        "import asyncio, sys", "import asyncio, sys\nsys.modules['uvloop']=None"
    )
    plain = processes.start([sys.executable, "-c", blocked.format(body=f"    {ask}")], name="plain")
    assert await plain.ended() == 0
    assert processes.all[0].log.startswith("uvloop")
    assert plain.log.startswith("asyncio")


async def test_systemd_is_told_of_a_reload(processes: Processes, systemd: Systemd) -> None:
    child = start(processes, RELOADS, NOTIFY_SOCKET=systemd.address)
    assert systemd.next() == "READY=1\nSTATUS=on port 1"
    child.signal(signal.SIGHUP)
    first, usec = systemd.next().split("\nMONOTONIC_USEC=")
    assert (first, usec.isdigit()) == ("RELOADING=1", True)
    assert systemd.next() == "READY=1\nSTATUS=version 2"
    child.terminate()
    assert systemd.next() == "STOPPING=1"
    child.terminate()
    assert await child.ended() == 0


async def test_systemd_is_told_of_every_step(processes: Processes, systemd: Systemd) -> None:
    child = start(processes, WAITS, NOTIFY_SOCKET=systemd.address)
    assert systemd.next() == "READY=1\nSTATUS=on port 1"
    child.terminate()
    assert systemd.next() == "STOPPING=1"
    assert await child.ended() == 0


async def test_the_watchdog_gets_signs_of_life_while_the_loop_turns(
    processes: Processes, systemd: Systemd
) -> None:
    hangs = """
        me.ready()
        await me.until_stopped()
        import time
        me.status("hangs")
        time.sleep(1.5)
        me.status("turns")
    """.replace("\n        ", "\n").rstrip()
    # A beat each half second: of a faster one more would wait here than a socket keeps, ten.
    child = start(processes, hangs, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="1000000")
    said = [systemd.next() for _ in range(4)]
    assert said == ["READY=1", *["WATCHDOG=1"] * 3]
    child.terminate()
    systemd.until("STATUS=hangs")
    assert systemd.next() == "STATUS=turns"
    assert await child.ended() == 0


async def test_a_watchdog_meant_for_another_process_is_left_alone(
    processes: Processes, systemd: Systemd
) -> None:
    other = {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid())}
    child = start(processes, WAITS, NOTIFY_SOCKET=systemd.address, **other)
    await child.said("ready")
    child.terminate()
    assert systemd.until("STOPPING=1") == ["READY=1\nSTATUS=on port 1", "STOPPING=1"]
    assert await child.ended() == 0


async def test_children_do_not_inherit_the_notify_socket(
    processes: Processes, systemd: Systemd
) -> None:
    body = "import os; print([k for k in os.environ if k[:6] in ('NOTIFY', 'WATCHD')])"
    child = start(processes, body, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="9000000")
    assert await child.ended() == 0
    assert child.log == "[]\n"


async def test_a_service_manager_that_is_gone_does_no_harm(processes: Processes) -> None:
    child = start(processes, WAITS, NOTIFY_SOCKET="/nonexistent/notify", WATCHDOG_USEC="100000")
    await child.said("ready")
    child.terminate()
    assert await child.ended() == 0
