"""What leads to what: where it goes round, and where it goes on too long. Pure.

Without recursion: a file may hold chains of any length.
"""

from collections.abc import Iterator, Mapping

Graph = Mapping[str, tuple[str, ...]]


def cycles(graph: Graph) -> Iterator[tuple[str, ...]]:
    """Cycles of two names and more, each once, told from the name that stands first in `graph`.

    One for every edge that leads back into the path walked so far: not all there are, but at
    least one wherever there is any.
    """
    order = {name: at for at, name in enumerate(graph)}
    done: set[str] = set()
    for start in graph:
        path: dict[str, Iterator[str]] = {}  # in the order walked; each with what it leads to
        following: str | None = start
        while following is not None or path:
            if following is None:
                name, _ = path.popitem()
                done.add(name)
            elif following in path:
                yield from _cycle(list(path), following, order)
            elif following in graph and following not in done:
                path[following] = iter(dict.fromkeys(graph[following]))
            following = next(path[next(reversed(path))], None) if path else None


def _cycle(path: list[str], back_to: str, order: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    cycle = path[path.index(back_to) :]
    if len(cycle) > 1:
        first = cycle.index(min(cycle, key=lambda name: order[name]))
        yield (*cycle[first:], *cycle[:first])


def ends(graph: Graph, steps: int) -> list[str]:
    """Names of a graph without cycles from which a way has more than `steps` steps, but only
    those that no other of them leads to."""
    longer = set(graph)
    for _ in range(steps):
        longer = {name for name in longer if any(one in longer for one in graph[name])}
    led_to = {one for name in longer for one in graph[name]}
    return [name for name in graph if name in longer and name not in led_to]
