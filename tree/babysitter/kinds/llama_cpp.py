"""`llama_cpp`: the native `llama-server` of llama.cpp. Pure.

503 on `/health` while it loads. Its token counter moves only when a request ends; what moves while
it works is the number of decode calls, so that is what the stall watchdog reads.
"""

from babysitter.kinds.base import Given, Kind, Probe, Progress, Run, has_flag

PROGRESS = Progress(
    path="/metrics",
    running=("llamacpp:requests_processing",),
    waiting=("llamacpp:requests_deferred",),
    work=("llamacpp:n_decode_total", "llamacpp:tokens_predicted_total"),
    cache_use=("llamacpp:kv_cache_usage_ratio",),
)


def plan(given: Given) -> Run:
    alias = ("--alias", ",".join(given.names)) if given.names else ()
    metrics = () if has_flag(given.args, "--metrics") else ("--metrics",)
    argv = (
        given.bin or "llama-server", "--model", given.model or "",
        "--host", given.host, "--port", str(given.port),
        *alias, *metrics, *given.args,
    )  # fmt: skip
    return Run(
        argv=argv,
        probe=Probe(progress=PROGRESS),
        cwd=given.work_dir,
    )


def model_at(given: Given) -> str | None:
    """A model that it fetches by itself need not be there yet."""
    fetched = has_flag(given.args, "--hf-repo", "-hf", "-hfr", "--model-url", "-mu")
    return None if fetched else given.model


KIND = Kind(
    plan,
    program_fix=(
        'bin = "/path/to/llama-server"'
        ', or  kind = "xllamacpp"  for the server of the PyPI wheel (pip install xllamacpp)'
    ),
    model_at=model_at,
)
