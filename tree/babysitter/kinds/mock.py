"""`mock`: our own engine without a model, with faults on demand (docs/mock-engine.md). Pure."""

from babysitter.kinds.base import Given, Kind, Missing, Probe, Progress, Run, no_model

PROGRESS = Progress(
    path="/metrics",
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    work=("mock_events_total", "mock_completions_total"),
    cache_use=("vllm:kv_cache_usage_perc",),
)


def plan(given: Given) -> Run:
    names = given.models or ((given.model,) if given.model else ())
    argv = (
        given.bin or given.python, "-m", "babysitter.mock",
        "--host", given.host, "--port", str(given.port), "--name", given.name,
        *(word for name in names for word in ("--model", name)),
        *given.args,
    )  # fmt: skip
    return Run(
        argv=argv,
        probe=Probe(progress=PROGRESS),
        cwd=given.work_dir,
    )


def missing(given: Given) -> Missing | None:
    return None


KIND = Kind(plan, missing, model_at=no_model)
