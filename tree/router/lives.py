"""A Node for a new life of a service. Pure."""

from collections.abc import Callable
from ssl import SSLContext

from common.wire.registry import Service
from router.breaker import Breaker
from router.config import Config
from router.named import BreakerOf
from router.nodes import Node
from router.upstream import address

MakeNode = Callable[[Service, Config], Node]


def breaker(config: Config, name: str, provider: BreakerOf | None = None) -> Breaker:
    """With the numbers of [breaker], under the provider's, under those of the service's name."""
    return Breaker(*_numbers(config, name, provider))


def _numbers(config: Config, name: str, provider: BreakerOf | None) -> tuple[int, float, int]:
    found = config.breaker
    failures, open_s, trials = found.failures, found.open_s, found.trials
    for own in (provider, found.services.get(name)):
        if own is not None:
            failures = own.failures or failures
            open_s = own.open_s or open_s
            trials = own.trials or trials
    return failures, open_s, trials


def engine(service: Service, config: Config, tls: Callable[[], SSLContext] | None = None) -> Node:
    """Of a registered or a static service. `tls` makes the context for an https URL."""
    where = address(service)
    return Node(
        service.name,
        where.host,
        where.port,
        path_prefix=where.path_prefix,
        tls=tls() if where.tls and tls is not None else None,
        connect_timeout_s=config.timeouts.connect_s,
        breaker=breaker(config, service.name),
    )


def adjust(node: Node, config: Config) -> None:
    """An engine that lives on under another configuration. (Another provider is another life.)"""
    node.breaker.change(*_numbers(config, node.name, None))
    node.connect_timeout_s = config.timeouts.connect_s
