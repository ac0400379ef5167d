"""Which engines a restart takes, in which order, and how many must stay. Pure.

what is not ready first: it costs nothing, and may be mended by it
then, one after the other, whoever leaves at least `floor` others ready for each of its models
"""

from collections.abc import Sequence

from msgspec import Struct

from common.wire.babysitter import EngineState
from common.wire.router import RouterService
from ctl import leaving, which
from ctl.errors import CtlError, Exit
from ctl.fleet import Fleet
from ctl.views import EngineView, engine_views


class Roll(Struct, frozen=True, kw_only=True):
    """`floors`: how many others must be ready, by model; models that are not in it want one other.
    `forced`: none must."""

    engines: tuple[EngineView, ...]
    floors: dict[str, int]
    skipped: tuple[str, ...] = ()
    forced: bool = False

    def short(
        self, engine: EngineView, services: Sequence[RouterService]
    ) -> tuple[str, int, int] | None:
        """(model, others ready, floor) of a model that would have too few without `engine`."""
        mine = next((one for one in services if one.name == engine.service), None)
        if self.forced or mine is None or not leaving.serves(mine):
            return None
        for model in sorted(mine.models):
            others = leaving.others_ready(services, engine.service, model)
            floor = self.floors.get(model, 1)
            if others < floor:
                return model, others, floor
        return None


def of_services(fleet: Fleet, names: Sequence[str], *, force: bool) -> Roll:
    """The engines called `names`, in that order. Raises CtlError."""
    views = engine_views(fleet)
    chosen = list(dict.fromkeys(which.engine(views, name).service for name in names))
    by_name = {one.service: one for one in views}
    engines = tuple(by_name[one] for one in chosen)
    for one in engines:
        which.babysitter_of(one)
    return Roll(engines=engines, floors={}, forced=force)


def of_model(fleet: Fleet, model: str, minimum: int | None, *, force: bool) -> Roll:
    """Every engine that serves `model`, or should. Raises CtlError."""
    serving = [one for one in engine_views(fleet) if model in one.models]
    wanted = [one for one in serving if one.state != EngineState.STOPPED]
    engines = [one for one in wanted if one.babysitter_url and one.told_by != "router"]
    if not engines:
        raise CtlError(
            f"no engine of {model} can be restarted",
            "none is known" if not wanted else "none of them has a babysitter that answers",
            "All:  creche engines",
        )
    count = len(wanted)
    floor = count - 1 if minimum is None else minimum
    if not force and minimum is not None and minimum >= count:
        raise CtlError(
            f"{model} has {count} engines; with {minimum} always ready none can be restarted",
            code=Exit.USAGE,
        )
    if count == 1 and not force and minimum is None:
        raise _only(engines[0].service, model)
    return Roll(
        engines=tuple(sorted(engines, key=lambda one: (one.ready, one.service))),
        floors={model: floor},
        skipped=tuple(one.service for one in serving if one not in engines),
        forced=force,
    )


def refuse_now(roll: Roll, services: Sequence[RouterService]) -> None:
    """What can be known before anything is touched. Raises CtlError."""
    for engine in roll.engines:
        short = roll.short(engine, services)
        if short is not None and short[2] <= 1:
            raise _only(engine.service, short[0])


def _only(service: str, model: str) -> CtlError:
    return CtlError(
        f"{service} is the only engine that serves {model}",
        "a restart would leave the model without one until it is ready again",
        "If that is what you want, add  --force",
    )
