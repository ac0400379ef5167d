"""How long upstreams take for a good answer, half of the time: their p50. Pure.

Only good answers are in a Node's samples, so what fails fast never looks fast. To sort 256 of them
costs about 10 µs: each choice looks at RENEWED of the candidates, the next ones each time, and
sorts anew what has answered since. So up to RENEWED candidates it is always exact, and among 1,000
at most 63 choices old.
"""

from router.choose.asked import Candidates

RENEWED = 16


class Medians:
    def __init__(self) -> None:
        self._next = 0

    def of(self, candidates: Candidates) -> list[float | None]:
        """Seconds, in the candidates' order. None: has not given a good answer."""
        at = self._next if self._next < len(candidates) else 0
        self._next = at + RENEWED
        for upstream in candidates[at : at + RENEWED]:
            upstream.node.answers.median()
        found = [upstream.node.answers.p50 for upstream in candidates]
        if None in found:
            found = [
                (upstream.node.answers or _NONE)[-1] if p50 is None else p50
                for upstream, p50 in zip(candidates, found, strict=True)
            ]
        return found


_NONE = (None,)


def p50s(candidates: Candidates) -> list[float | None]:
    """The same, exact for all: for explanations, which may take their time."""
    return [upstream.node.answers.percentile(50) for upstream in candidates]
