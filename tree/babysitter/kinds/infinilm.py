"""`infinilm`: InfiniLM's Python server, `launch_server.py --port P --host H`, in `work_dir`. Pure.

502, 503 or 504 while it loads. Older versions have no health path and list no model: any other
answer counts, and the names come from the config. `bin` is the Python that runs it.
"""

from babysitter.kinds.base import Given, Kind, Missing, Probe, Run, has_flag, needs_model


def plan(given: Given) -> Run:
    model: tuple[str, ...] = ()
    if given.model and not has_flag(given.args, "--model-path", "--model_path"):
        model = ("--model-path", given.model)
    argv = (
        given.bin or "python3", "launch_server.py",
        "--port", str(given.port), "--host", given.host,
        *model, *given.args,
    )  # fmt: skip
    return Run(
        argv=argv,
        probe=Probe(
            ready_paths=("/health", "/v1/models", "/models"), any_answer=True, lists_models=False
        ),
        cwd=given.work_dir,
    )


def missing(given: Given) -> Missing | None:
    if not given.work_dir:
        why = "names no work_dir: launch_server.py is started from InfiniLM's own scripts folder"
        return Missing("work_dir", why, 'work_dir = "/opt/InfiniLM/scripts"')
    return needs_model(given)


KIND = Kind(plan, missing)
