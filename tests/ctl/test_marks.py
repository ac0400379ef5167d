"""Whether a router has heard of a mark, as one hears that stands still itself."""

from typing import Any

import msgspec
import pytest

from common.wire.router import RouterServices
from ctl import marks
from ctl.marks import SEEN_S, Ending
from tests.ctl.fleets import service


class Router:
    """Each answer takes `slow_s`; from the second on it knows of the mark, if `hears`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, slow_s: float, hears: bool) -> None:
        self.asked = 0
        self._now = 100.0
        self._slow_s = slow_s
        self._hears = hears
        monkeypatch.setattr(marks, "monotonic", lambda: self._now)

    async def get(self, _: str, shape: type[RouterServices]) -> RouterServices:
        self.asked += 1
        self._now += self._slow_s
        one = service("a@h", ["m"], draining=self._hears and self.asked > 1)
        found = {"services": [one], "total": 1, "registry_url": ""}
        return msgspec.convert(found, shape)


@pytest.mark.parametrize("hears", [True, False])
async def test_an_answer_that_took_all_the_time_is_not_the_last(
    hears: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    router: Any = Router(monkeypatch, slow_s=SEEN_S + 1, hears=hears)
    assert await Ending(router, "http://router", ["a@h"], {}).seen() is hears
    assert router.asked == 2
