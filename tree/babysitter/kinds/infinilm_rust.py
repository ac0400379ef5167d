"""`infinilm_rust`: InfiniLM's Rust server, `xtask service FILE -p P`. Pure.

FILE (`config_file`) says which models and devices. It prints `start service at HOST:PORT`; what
counts is that its socket listens and that it answers.
"""

from babysitter.kinds.base import Given, Kind, Missing, Probe, Run, no_model


def plan(given: Given) -> Run:
    argv = (
        given.bin or "xtask", "service", given.config_file or "", "-p", str(given.port),
        *given.args,
    )  # fmt: skip
    return Run(
        argv=argv,
        probe=Probe(
            ready_paths=("/health", "/v1/models", "/models"), any_answer=True, lists_models=False
        ),
        cwd=given.work_dir,
    )


def missing(given: Given) -> Missing | None:
    if given.config_file:
        return None
    fix = 'config_file = "/etc/infinilm/service.toml"'
    return Missing("config_file", "names no service file for xtask", fix)


KIND = Kind(plan, missing, program_fix='bin = "/path/to/xtask"', model_at=no_model)
