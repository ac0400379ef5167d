"""docs/api-router.md shows an answer of /explain: it is one, key by key."""

import re
from pathlib import Path

from msgspec import json, to_builtins

from router.explain import Explanation

PAGE = Path(__file__).parents[2] / "docs" / "api-router.md"


def test_the_explanation_that_is_shown_has_every_key_and_no_other() -> None:
    found = re.search(r"```json\nGET /explain[^\n]*\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    shown = json.decode(found[1])
    assert to_builtins(json.decode(found[1], type=Explanation)) == shown
