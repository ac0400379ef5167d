"""[[rules]]: whether a request meets a rule's conditions. All that are set must hold. Pure.

What the name alone decides is asked once per name (`may`), the rest per request (`held`).
"""

from collections.abc import Iterator

from router.named import Rule, When
from router.names import size
from router.names.facts import Facts
from router.names.shape import Shape


class Conditions:
    """Raises re2.error for a pattern that does not compile, ValueError for a size that is none."""

    def __init__(self, rule: Rule, at: int) -> None:
        when = rule.when
        self.rule = rule
        self.at = at
        self.label = f"rule {rule.name}" if rule.name else f"rule {at + 1}"
        self._when = when
        self._shape = None if when.model is None else Shape(when.model)
        self._bounds = None if when.model_size is None else size.bounds(when.model_size)
        self._headers = tuple((name.lower(), value) for name, value in when.header.items())
        self._measures = any(
            bound is not None
            for bound in (
                when.batch_min,
                when.batch_max,
                when.prompt_tokens_min,
                when.prompt_tokens_max,
            )
        )
        #: Two requests for one name may differ.
        self.varies = bool(self._headers) or when.stream is not None or self._measures

    def may(self, model: str | None) -> bool:
        """Whether it can hold for a request for `model`."""
        if self._shape is not None and (model is None or not self._shape.matches(model)):
            return False
        if self._bounds is None:
            return True
        billions = None if model is None else size.billions(model)
        return billions is not None and self._bounds.hold(billions)

    def held(self, asked: Facts) -> str | None:
        """What made it hold, in words; None where it does not. Where `may` said that it can."""
        for name, value in self._headers:
            if asked.headers.get(name) != value:
                return None
        stream = self._when.stream
        if stream is not None and asked.envelope.stream is not stream:
            return None
        batch = tokens = 0
        if self._measures:
            prompt = asked.envelope.prompt()
            batch, tokens = prompt.batch, prompt.tokens
            if not self._measured(batch, tokens):
                return None
        return ", ".join(_said(self._when, batch, tokens)) or "whatever is asked"

    def _measured(self, batch: int, tokens: int) -> bool:
        when = self._when
        return _within(batch, when.batch_min, when.batch_max) and _within(
            tokens, when.prompt_tokens_min, when.prompt_tokens_max
        )


def _within(number: int, least: int | None, most: int | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most)


def _said(when: When, batch: int, tokens: int) -> Iterator[str]:
    if when.model is not None:
        yield f"the name is like {when.model}"
    if when.model_size is not None:
        yield f"its size is {when.model_size}"
    for name, value in when.header.items():
        yield f"{name} is {value}"
    if when.stream is not None:
        yield "it streams" if when.stream else "it does not stream"
    if when.batch_min is not None or when.batch_max is not None:
        yield f"{batch} in one request"
    if when.prompt_tokens_min is not None or when.prompt_tokens_max is not None:
        yield f"{tokens} prompt tokens"
