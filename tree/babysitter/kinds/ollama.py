"""`ollama`: `ollama serve`, which takes its address from OLLAMA_HOST. Pure.

It serves whatever models it has pulled and loads each on demand; with none pulled it lists none,
and then the config's names are taken.
"""

from babysitter.kinds.base import Given, Kind, Missing, Probe, Run, no_model


def plan(given: Given) -> Run:
    host = f"[{given.host}]" if ":" in given.host else given.host
    return Run(
        argv=(given.bin or "ollama", "serve", *given.args),
        probe=Probe(ready_paths=("/api/version", "/"), lists_models=not given.models),
        env={"OLLAMA_HOST": f"{host}:{given.port}"},
        cwd=given.work_dir,
    )


def missing(given: Given) -> Missing | None:
    return None


KIND = Kind(plan, missing, program_fix='bin = "/path/to/ollama"', model_at=no_model)
