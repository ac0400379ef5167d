from pathlib import Path

import pytest

from common.errors import RefusalError
from router import static
from router.static import Item

ITEM = '{"name": "a@h", "host": "10.0.0.1", "port": 8100}'


@pytest.mark.parametrize(
    "text",
    [
        f"[{ITEM}]",
        f'{{"services": [{ITEM}]}}',
        f'{{"static_services": {{"services": [{ITEM}]}}}}',
    ],
)
def test_three_shapes(text: str) -> None:
    assert static.parse(text.encode()) == [Item(name="a@h", host="10.0.0.1", port=8100)]


def test_a_static_service_counts_as_openai_api_and_never_expires() -> None:
    text = '[{"name": "a", "host": "::1", "port": 1, "weight": 2, "metadata": {"models": ["m"]}}]'
    record = static.services(static.parse(text.encode()))["a"]
    assert record.metadata == {"models": ["m"], "type": "openai-api"}
    assert (record.url, record.weight, record.lease_s) == ("http://[::1]:1", 2.0, None)
    assert record.is_healthy


@pytest.mark.parametrize(
    "text",
    ["", "{}", "7", '{"services": {}}', '[{"name": "a"}]', '[{"name":"a","host":"h","port":0}]'],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "static.json"
    path.write_text(text)
    with pytest.raises(RefusalError, match="cannot be used"):
        static.load(str(path))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(RefusalError, match="cannot be read"):
        static.load("/nowhere/static.json")


@pytest.mark.parametrize("names", [["a", "a"], ["no good"]])
def test_names_are_names_and_each_stands_once(names: list[str]) -> None:
    with pytest.raises(RefusalError):
        static.services([Item(name=name, host="h", port=1) for name in names])
