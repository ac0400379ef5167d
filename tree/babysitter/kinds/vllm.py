"""`vllm`: `vllm serve MODEL --host H --port P`, from its own environment (`bin`). Pure.

It listens only once the model is loaded; its `/health` can stay 200 while the engine core is
dead, so the stall watchdog reads `/metrics`. Worker processes outlive the API server: the shim
ends them.
"""

from babysitter.kinds.base import Given, Kind, Probe, Progress, Run

PROGRESS = Progress(
    path="/metrics",
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    work=("vllm:generation_tokens_total", "vllm:prompt_tokens_total"),
    # Its name before 0.10 is the second.
    cache_use=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
)


def plan(given: Given) -> Run:
    names = ("--served-model-name", *given.names) if given.names else ()
    argv = (
        given.bin or "vllm", "serve", given.model or "",
        "--host", given.host, "--port", str(given.port),
        *names, *given.args,
    )  # fmt: skip
    return Run(
        argv=argv,
        probe=Probe(progress=PROGRESS),
        cwd=given.work_dir,
    )


KIND = Kind(plan, program_fix='bin = "/path/to/venv/bin/vllm"')
