"""Small makers for tests of providers: a file with one, and its Node with its key."""

from typing import Any

from common.config import decode
from router.config import Config
from router.nodes import Node
from router.providers import settle
from tests.support.fake_provider import FakeProvider
from tests.support.fleet import toml

KEY = "sk-test-0123456789abcdef"


def config(*, name: str = "cloud", more: dict[str, Any] | None = None, **table: Any) -> Config:
    """`more` are keys of the file beside the provider's table."""
    table = {"type": "openai", "base_url": "https://api.example.com/v1", **table}
    return decode(toml({"registries": [], **(more or {}), "providers": {name: table}}), Config)


def node_of(chosen: Config, environ: dict[str, str] | None = None) -> Node:
    found = settle(chosen, environ or {})
    return found.node(found.services["cloud"], chosen)


def node_for(cloud: FakeProvider, key: str | None = KEY, **table: Any) -> Node:
    """The router's Node for a fake, with `key`."""
    if key is not None:
        table["api_key_env"] = "CLOUD_KEY"
    more = cloud.table(connect_s=30, **table)
    return node_of(config(**more), {"CLOUD_KEY": key or ""})
