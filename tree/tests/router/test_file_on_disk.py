"""What /admin/config tells of the file as it is on disk, before a restart finds out."""

from pathlib import Path

import pytest

from tests.router.test_reload import GOOD, case


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'strategey = "prefix"\n{GOOD}', 'unknown key "strategey"'),
        ("listen = ", "not TOML"),
        ("", "the file is empty, and was not before"),
    ],
)
async def test_a_file_that_no_restart_would_take_is_told(
    text: str, said: str, tmp_path: Path
) -> None:
    async with case(tmp_path) as one:
        one.file.write_text(text)
        found = await one.about()
        assert found.file_differs
        assert said in found.file_problem
        assert (found.message, one.router.swaps) == ("", 0), "nobody asked for a reload"


async def test_a_file_that_only_waits_for_its_reload_has_no_problem(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        assert (await one.about()).file_problem == ""
        one.file.write_text(f"# later\n{GOOD}")
        found = await one.about()
        assert (found.file_differs, found.file_problem) == (True, "")


async def test_a_file_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    async with case(tmp_path) as one:
        one.file.unlink()
        assert (await one.about()).file_problem
