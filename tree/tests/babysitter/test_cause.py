"""Causes told apart: the same exit means different things with different last words."""

import pytest

from babysitter.cause import LOG_LINES_KEPT, Cause, of_exit

CUDA = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
BIND = "OSError: [Errno 98] error while attempting to bind: address already in use"
OURS = "xllamacpp_server: port 8100 is taken by vllm (pid 7, user ml)."


@pytest.mark.parametrize(
    ("code", "signal", "oom", "log", "cause", "text"),
    [
        (1, None, False, (), Cause.CODE, "exited with code 1"),
        (
            0,
            None,
            False,
            (),
            Cause.CODE,
            "exited with code 0: a server should not end, nor go into the background",
        ),
        (None, "SIGSEGV", False, (), Cause.SIGNAL, "killed by SIGSEGV"),
        (None, "SIGKILL", True, (), Cause.OOM, "the kernel killed it: out of memory"),
        (1, None, False, ("loading", CUDA, "Traceback"), Cause.OOM, CUDA),
        (1, None, False, (BIND,), Cause.PORT_TAKEN, "its port is taken by vllm (pid 7, user ml)"),
        (75, None, False, (OURS,), Cause.PORT_TAKEN, f"({OURS}); exited with code 75"),
        (134, None, False, ("terminate: std::bad_alloc",), Cause.OOM, "std::bad_alloc"),
        (None, None, False, (), Cause.CODE, "ended, its exit status was lost"),
    ],
)
def test_the_cause(
    code: int | None, signal: str | None, oom: bool, log: tuple[str, ...], cause: Cause, text: str
) -> None:
    ending = of_exit(code, signal, oom, log, "vllm (pid 7, user ml)")
    assert ending.cause is cause
    assert text in ending.text
    assert (ending.code, ending.signal) == (code, signal)


def test_a_kill_from_outside_is_a_kill_whatever_the_log_says() -> None:
    assert of_exit(None, "SIGKILL", False, (CUDA, BIND)).cause is Cause.SIGNAL


def test_only_the_last_lines_are_kept() -> None:
    ending = of_exit(1, None, False, tuple(str(n) for n in range(100)))
    assert len(ending.log) == LOG_LINES_KEPT
    assert ending.log[-1] == "99"
