"""`command`: any server, started by an argv list of the operator's. Pure.

`{host}`, `{port}` and `{model}` in the list are filled in; other braces stay as they are.
"""

from babysitter.kinds.base import Given, Kind, Missing, Probe, Run, no_model


def plan(given: Given) -> Run:
    paths = (given.ready_path,) if given.ready_path else ("/health", "/v1/models", "/models", "/")
    return Run(
        argv=tuple(_filled(word, given) for word in (*given.command, *given.args)),
        probe=Probe(ready_paths=paths, lists_models=not given.models),
        cwd=given.work_dir,
    )


def _filled(word: str, given: Given) -> str:
    for name, value in (
        ("{host}", given.host),
        ("{port}", str(given.port)),
        ("{model}", given.model or ""),
    ):
        word = word.replace(name, value)
    return word


def missing(given: Given) -> Missing | None:
    if given.command:
        return None
    return Missing("command", "says nothing to run", 'command = ["server", "--port", "{port}"]')


KIND = Kind(plan, missing, program_fix='command = ["/path/to/program", "…"]', model_at=no_model)
