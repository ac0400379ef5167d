"""What a configured name leads to, compiled: nodes, and the Way that walks them. Pure.

    code ─ Virtual ─┬─ Fixed: qwen3-coder
                    └─ Alias: big ─ Fixed: llama-3.3-70b

A node adds the targets that it leads to, the chosen first, and tells which entry decided.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from router.names.choosing import Choice, Choosing
from router.names.facts import Dice, Facts
from router.names.target import Target

Path = tuple[str | int, ...]


class Way:
    """One request's way. `asked` None: a survey of everywhere it could lead."""

    __slots__ = (
        "_dice",
        "_places",
        "_seen",
        "asked",
        "fallbacks",
        "path",
        "targets",
        "told",
        "varies",
    )

    def __init__(
        self, asked: Facts | None, dice: Dice, told: tuple[str, ...] = (), path: Path = ()
    ) -> None:
        self.asked = asked
        self.targets: list[Target] = []
        self.fallbacks: list[Target] = []
        self.told = list(told)
        self.path = path
        self.varies = False
        self._dice = dice
        self._seen: set[Node] = set()
        #: Keys of targets of one model: what is asked already, alone or in a pool.
        self._places: set[tuple[tuple[str, ...], str | None]] = set()

    def follow(self, node: "Node") -> None:
        """Once each: what two models share is asked once, and nothing goes round."""
        if node not in self._seen:
            self._seen.add(node)
            node.lead(self)

    def tell(self, text: str, path: Path) -> None:
        """Of the way to the first target only: the others are not what was chosen."""
        if not self.targets and not self.fallbacks:
            self.told.append(text)
            self.path = self.path or path

    def add(self, target: Target) -> None:
        """Unless whoever could serve it is asked already."""
        places = self._places
        if len(target.models) == 1:
            if target.key in places:
                return
            places.add(target.key)
        else:
            each = {((model,), target.provider) for model in target.models}
            if each <= places and each:
                return
            places |= each
        (self.fallbacks if target.fallback else self.targets).append(target)

    def choose(self, choosing: Choosing) -> Choice:
        if self.asked is None:
            return Choice(choosing.models, "", ())
        self.varies = self.varies or choosing.varies
        return choosing.order(self.asked, self._dice)


class Node(Protocol):
    #: More than one model may serve it: it is no other name for one.
    virtual: bool

    def lead(self, way: Way) -> None:
        """Through `way.follow`, so that each node leads once."""
        ...


class Fixed:
    """The same for everybody. No targets: what it names cannot be asked."""

    def __init__(
        self,
        targets: Sequence[Target],
        told: str = "",
        path: Path = (),
        *,
        virtual: bool = False,
    ) -> None:
        self._targets = tuple(targets)
        self._told = told
        self._path = path
        self.virtual = virtual

    def lead(self, way: Way) -> None:
        if self._told:
            way.tell(self._told, self._path)
        for target in self._targets:
            way.add(target)


class Alias:
    def __init__(self, name: str, of: str, node: Node, path: Path) -> None:
        self._told = f"{name} is an alias → {of}"
        self._node = node
        self._path = path
        self.virtual = node.virtual

    def lead(self, way: Way) -> None:
        way.tell(self._told, self._path)
        way.follow(self._node)


class Virtual:
    """One of several is chosen, the others follow."""

    virtual = True

    def __init__(
        self, what: str, choosing: Choosing, members: Mapping[str, Node], path: Path
    ) -> None:
        """`what`: `code is virtual`."""
        self._what = what
        self._choosing = choosing
        self._members = members
        self._path = path

    def lead(self, way: Way) -> None:
        choice = way.choose(self._choosing)
        if choice.models:
            told = f"{self._what} → {choice.models[0]} ({choice.why})"
            way.tell(told, (*self._path, *choice.place))
        for model in choice.models:
            way.follow(self._members[model])


def survey(*nodes: Node) -> Way:
    """All targets that they could lead to, as the file orders them."""
    way = Way(None, _no_dice)
    for node in nodes:
        way.follow(node)
    return way


def _no_dice() -> float:
    raise AssertionError("a survey draws nothing")
