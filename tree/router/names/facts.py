"""What resolving a name may ask of a request. Each is looked at only where the file wants it.

Plain shapes, so that a test says in one line what was asked; the router's Plan is one.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

#: A float in [0, 1).
Dice = Callable[[], float]
#: Whether an upstream lists the model, or did in this life of the router.
Listed = Callable[[str], bool]


class Prompt(Protocol):
    """What the body asks, measured once."""

    @property
    def characters(self) -> int: ...
    @property
    def tokens(self) -> int:
        """Estimated."""
        ...

    @property
    def turns(self) -> int: ...
    @property
    def batch(self) -> int:
        """Inputs in one request."""
        ...


class Body(Protocol):
    @property
    def stream(self) -> bool: ...
    def prompt(self) -> Prompt: ...


class Headers(Protocol):
    """By lower-case name."""

    def get(self, name: str, /) -> str | None: ...


class Facts(Protocol):
    #: None: the request names none.
    @property
    def model(self) -> str | None: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def envelope(self) -> Body: ...
    @property
    def key(self) -> str | None:
        """What keeps requests together, or None."""
        ...

    def saturation(self, models: Sequence[str], /) -> float:
        """In flight, as a share of max_concurrency, over the registered upstreams of `models`."""
        ...
