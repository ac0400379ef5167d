"""`xllamacpp`: llama.cpp's own server from the wheel of that name, in a small runner. Pure.

It runs in Creche's environment unless `bin` names another Python that has the wheel.
"""

from babysitter.kinds.base import Given, Kind, Probe, Run
from babysitter.kinds.llama_cpp import PROGRESS


def plan(given: Given) -> Run:
    argv = (
        given.bin or given.python, "-m", "babysitter.xllamacpp_server",
        "--model", given.model or "",
        "--host", given.host, "--port", str(given.port),
        *(word for name in given.names for word in ("--alias", name)),
        *given.args,
    )  # fmt: skip
    return Run(
        argv=argv,
        probe=Probe(progress=PROGRESS),
        cwd=given.work_dir,
    )


KIND = Kind(plan, model_at=lambda given: given.model)
