"""`sglang`: `python3 -m sglang.launch_server --model-path MODEL …`; `bin` is that Python. Pure.

503 on `/health` while it loads. Metrics are off unless asked for, so they are asked for. One
served name only: the first of `models`.
"""

from babysitter.kinds.base import Given, Kind, Probe, Progress, Run, has_flag

PROGRESS = Progress(
    path="/metrics",
    running=("sglang:num_running_reqs",),
    waiting=("sglang:num_queue_reqs",),
    work=("sglang:generation_tokens_total", "sglang:prompt_tokens_total"),
    cache_use=("sglang:token_usage",),
)


def plan(given: Given) -> Run:
    name = ("--served-model-name", given.names[0]) if given.names else ()
    metrics = () if has_flag(given.args, "--enable-metrics") else ("--enable-metrics",)
    argv = (
        given.bin or "python3", "-m", "sglang.launch_server",
        "--model-path", given.model or "",
        "--host", given.host, "--port", str(given.port),
        *name, *metrics, *given.args,
    )  # fmt: skip
    return Run(
        argv=argv,
        probe=Probe(progress=PROGRESS),
        cwd=given.work_dir,
    )


KIND = Kind(plan)
