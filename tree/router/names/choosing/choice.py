"""What chooses among models: one small module each, all of this shape."""

from typing import NamedTuple, Protocol

from router.names.facts import Dice, Facts

Place = tuple[str | int, ...]


class Choice(NamedTuple):
    """Models in the order in which they are tried: the first is the choice."""

    models: tuple[str, ...]
    #: The numbers that decided, for /explain: `weight 9 of 10`.
    why: str
    #: What decided, within the entry of the file: `("levels", "high")`.
    place: Place


class Choosing(Protocol):
    @property
    def models(self) -> tuple[str, ...]:
        """All that it may choose, as the file orders them."""
        ...

    @property
    def varies(self) -> bool:
        """Not every request gets the same."""
        ...

    def order(self, asked: Facts, dice: Dice) -> Choice:
        """Each of `models` once."""
        ...
