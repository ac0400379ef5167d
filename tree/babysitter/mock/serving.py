"""A mock engine on a port: for `__main__`, and for tests that want one in their own process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from babysitter.mock.connection import Connection
from babysitter.mock.engine import Engine
from common import listen
from common.address import Address


@asynccontextmanager
async def serve(engine: Engine) -> AsyncIterator[int]:
    """Serve `engine` while the block runs; gives the port. Raises RefusalError if it is taken."""
    settings = engine.settings
    connections: set[Connection] = set()
    sockets = listen.bind(Address(settings.host, settings.port), key="--port", backlog=4096)
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: Connection(engine, connections), sock=one)
        for one in sockets
    ]
    try:
        yield listen.port_of(sockets)
    finally:
        for server in servers:
            server.close()
        for connection in list(connections):
            connection.stop()
        await asyncio.sleep(0)  # connection_lost of each
