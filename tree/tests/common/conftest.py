"""Logging as it was before a test that sets it up; a service manager that listens."""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.systemd import Systemd


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    access = logging.getLogger("aiohttp.access").disabled
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").disabled = access
    structlog.reset_defaults()


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    path = str(tmp_path / "notify") if request.param == "a path" else f"@creche-{uuid.uuid4().hex}"
    one = Systemd(path)
    yield one
    one.close()
