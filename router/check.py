"""What must agree across the keys of router.toml. Pure: faults with their place, and a summary."""

from ipaddress import ip_network

from common import address
from common.config import Document, Problem
from common.names import is_name, why_not_a_name
from router.config import Config


def problems(config: Config, document: Document) -> list[Problem]:
    return [
        *_addresses(config, document),
        *_registries(config, document),
        *_static_services(config, document),
        *_proxies(config, document),
        *_sources(config, document),
    ]


def _addresses(config: Config, document: Document) -> list[Problem]:
    found = []
    for key, text in (("listen", config.listen), ("control_listen", config.control_listen)):
        if text is None:
            continue
        try:
            address.parse(text)
        except ValueError as why:
            found.append(document.problem((key,), str(why), fix=f'write  {key} = "127.0.0.1:8000"'))
    if config.control_listen is not None and config.control_listen == config.listen:
        found.append(
            document.problem(
                ("control_listen",),
                "control_listen is the same address as listen",
                effect="One of the two could not be opened.",
                fix="leave control_listen out: its paths are then on listen",
            )
        )
    return found


def _registries(config: Config, document: Document) -> list[Problem]:
    found = []
    for at, url in enumerate(config.registries):
        try:
            address.parse_http_url(url)
        except ValueError as why:
            found.append(
                document.problem(
                    ("registries", at),
                    str(why),
                    effect="The router could not ask it for services.",
                    fix='write it like  "http://127.0.0.1:18000"',
                )
            )
    return found


def _static_services(config: Config, document: Document) -> list[Problem]:
    found = []
    seen: set[str] = set()
    for at, service in enumerate(config.static_services):
        path = ("static_services", at, "name")
        if not is_name(service.name):
            found.append(
                document.problem(path, why_not_a_name(service.name), fix="give it another name")
            )
        elif service.name in seen:
            found.append(
                document.problem(
                    path,
                    f'two static services are named "{service.name}"',
                    effect="Requests and counts of the two could not be told apart.",
                    fix="give one another name",
                )
            )
        seen.add(service.name)
    return found


def _proxies(config: Config, document: Document) -> list[Problem]:
    found = []
    for at, text in enumerate(config.trusted_proxies):
        try:
            ip_network(text, strict=False)
        except ValueError:
            found.append(
                document.problem(
                    ("trusted_proxies", at),
                    f'"{text}" is neither an IP address nor a network',
                    effect="Nothing such a proxy says of its clients would be believed.",
                    fix='write addresses or networks, like  ["10.0.0.5", "10.1.0.0/16"]',
                )
            )
    return found


def _sources(config: Config, document: Document) -> list[Problem]:
    if config.registries or config.static_file or config.static_services:
        return []
    return [
        document.problem(
            ("registries",),
            "no registry and no static service",
            effect="Every request would be answered with 503.",
            fix='add  registries = ["http://127.0.0.1:18000"]  or [[static_services]]',
        )
    ]


def summary(config: Config) -> str:
    """What `check FILE` says when nothing is wrong."""
    parts = [
        f"listens on {config.listen}",
        _count(len(config.registries), "registry", "registries"),
        _count(len(config.static_services), "static service", "static services"),
        f"strategy {config.strategy}",
    ]
    return ", ".join(parts) + "\n     not checked: whether engines are up (creche status)"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
