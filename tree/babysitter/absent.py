"""What an engine's start would miss on this machine: its program, or its model's file.

An engine's own words for that are a stack trace, or a libc error: here it is a sentence, with the
line that settles it.
"""

import os
import shutil
from collections.abc import Mapping

from babysitter.cause import Cause, Ending
from babysitter.kinds import KINDS, Given, Run


def look(kind: str, given: Given, run: Run, env: Mapping[str, str]) -> Ending | None:
    """How a start of `run` with `env` would end, None where nothing is missing.

    A name that PATH does not lead to is hopeless. A path may lead through a mount that is late: it
    is tried again.
    """
    program = run.argv[0]
    folder = run.cwd or ""
    fix = KINDS[kind].program_fix
    if "/" not in program:
        if shutil.which(program, path=env.get("PATH", os.defpath)) is None:
            text = f'"{program}" is not on PATH; fix: {fix}'
            return Ending(Cause.NOT_STARTED, text, hopeless=True)
    elif not os.path.exists(os.path.join(folder, program)):
        return Ending(Cause.NOT_STARTED, f'there is no program "{program}"; fix: {fix}')
    model = KINDS[kind].model_at(given)
    if model is not None and not os.path.exists(os.path.join(folder, model)):
        what = "model file" if model.endswith(".gguf") else "model"
        near = " (a ~ is not expanded)" if model.startswith("~") else ""
        text = f'there is no {what} "{model}"{near}; fix: model = "/path/to/the/model"'
        return Ending(Cause.NOT_STARTED, text)
    return None
