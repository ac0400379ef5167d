"""`python -m babysitter.mock`: wires a mock engine to its flags, port and signals."""

import asyncio
import os
import signal
import subprocess
import sys

from babysitter.mock.engine import Engine, log_to_stdout
from babysitter.mock.serving import serve
from babysitter.mock.settings import Settings, settings_from_args
from common import daemon, logs, tasks
from common.daemon import Daemon

#: What a left-behind worker process does: nothing, in a session of its own, whatever it is told.
_WORKER = "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(86400)"


async def run(running: Daemon, settings: Settings) -> None:
    engine = Engine(settings, None if settings.quiet else log_to_stdout)
    if settings.exit_after_ms:
        tasks.spawn(_exit_later(settings), name="mock-exit")
    if settings.ignore_term:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    async with serve(engine) as port:
        where = f"http://{settings.host}:{port}"
        log_to_stdout(f"{settings.name} ready on {where} models={','.join(settings.models)}")
        running.ready()
        await running.until_stopped()


async def _exit_later(settings: Settings) -> None:
    await asyncio.sleep(settings.exit_after_ms / 1000)
    log_to_stdout(f"{settings.name} exits with {settings.exit_code}, as it was told")
    os._exit(settings.exit_code)


def main() -> int:
    settings = settings_from_args(sys.argv[1:], os.environ.get("MOCK_API_KEY"))

    logs.set_up("mock")
    for _ in range(settings.workers):
        subprocess.Popen([sys.executable, "-c", _WORKER], start_new_session=True)

    async def wired(running: Daemon) -> None:
        await run(running, settings)

    return daemon.run(f"mock engine {settings.name}", wired)


if __name__ == "__main__":
    sys.exit(main())
