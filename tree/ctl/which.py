"""Which engine a name on the command line means. Pure.

llama-70b@gpu-03   exactly that one          llama-70b   if only one host runs it
"""

import difflib
from collections.abc import Sequence

from ctl.errors import CtlError, Exit
from ctl.views import EngineView


def engine(views: Sequence[EngineView], name: str) -> EngineView:
    """The engine called `name`. Raises CtlError that lists what it could have been."""
    exact = [one for one in views if one.service == name]
    if exact:
        return exact[0]
    short = [one for one in views if one.name == name]
    if len(short) == 1:
        return short[0]
    if short:
        names = "  ".join(one.service for one in short)
        raise CtlError(
            f"{name} runs on {len(short)} hosts", f"name one of:  {names}", code=Exit.USAGE
        )
    raise CtlError(f"no engine is called {name}", _known(views, name), "All:  creche engines")


def _known(views: Sequence[EngineView], name: str) -> str:
    if not views:
        return "no engine is known at all"
    serving = [one.service for one in views if name in one.models]
    if serving:
        return f"it is a model; these engines serve it:  {'  '.join(serving[:8])}"
    names = sorted({one.service for one in views} | {one.name for one in views})
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean  {'  '.join(near)}?" if near else ""


def babysitter_of(view: EngineView) -> str:
    """The base URL of its babysitter. Raises CtlError for engines that nobody here watches over."""
    if not view.babysitter_url:
        raise CtlError(
            f"{view.service} has no babysitter that could be asked",
            "it is a fixed service, or was registered by something else",
        )
    return view.babysitter_url
