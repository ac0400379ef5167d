"""`llama_cpp`: the native `llama-server` of llama.cpp. Pure.

503 on `/health` while it loads. Its token counter moves only when a request ends; what moves while
it works is the number of decode calls, so that is what the stall watchdog reads.
"""

from babysitter.kinds.base import Given, Kind, Probe, Progress, Run, has_flag

PROGRESS = Progress(
    path="/metrics",
    in_flight=("llamacpp:requests_processing", "llamacpp:requests_deferred"),
    work=("llamacpp:n_decode_total", "llamacpp:tokens_predicted_total"),
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


KIND = Kind(plan)
