"""What `check` says of a file with nothing wrong: how much there is, and what was not looked at."""

from router.check.chains import chains
from router.check.listing import active, promises
from router.check.words import count
from router.config import Config

NAMES = ("name clients may ask for", "names clients may ask for")


def summary(config: Config, compared: int | None = None) -> str:
    """Two or three lines, the first follows `ok`. `compared`: with how many registered services."""
    lines = [_named(config), _around(config)]
    if compared is None:
        lines.append("not checked: whether engines are up (creche status)")
    else:
        services = count(compared, "registered service", "registered services")
        lines.append(f"compared with what the router knows now: {services}")
    if config.static_file is not None:
        lines.append("not checked: static_file, which is read at the start")
    return "\n     ".join(lines)


def _named(config: Config) -> str:
    """`2 providers, 3 names clients may ask for, 1 fallback chain`."""
    used = active(config)
    if not (config.providers or config.models or config.capabilities or config.expect):
        return "no names of its own: clients ask for what is registered"
    resting = len(config.providers) - len(used)
    parts = _some(
        (len(used), "provider", "providers"),
        (resting, "provider that is not active", "providers that are not active"),
        (len({name for name, _ in promises(config)}), *NAMES),
        (len(config.patterns), "pattern", "patterns"),
        (len(config.rules), "rule", "rules"),
        (sum(1 for _ in chains(config)), "fallback chain", "fallback chains"),
    )
    return ", ".join(parts)


def _around(config: Config) -> str:
    """`listens on 127.0.0.1:8000, 1 registry, strategy least_requests`."""
    listens = config.listen + (f" and {config.control_listen}" if config.control_listen else "")
    sources = _some(
        (len(config.registries), "registry", "registries"),
        (len(config.static_services), "static service", "static services"),
    )
    return ", ".join([f"listens on {listens}", *sources, f"strategy {config.strategy}"])


def _some(*counted: tuple[int, str, str]) -> list[str]:
    """Those that are there at all."""
    return [count(number, one, many) for number, one, many in counted if number]
