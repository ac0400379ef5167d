from collections.abc import AsyncIterator

import pytest

from tests.ctl.standin import StandIn


@pytest.fixture
async def router() -> AsyncIterator[StandIn]:
    """A router whose answers the test sets."""
    made = StandIn()
    await made.server.start_server()
    yield made
    await made.server.close()
