"""Where upstreams come from: registries, static services, providers; at least one of them. Pure."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from common import address
from common.address import Address
from common.config import Problem
from common.names import UNUSABLE_HOSTS, is_name, why_not_a_name
from common.positions import Path
from common.wire.registry import Metadata, known_metadata
from router.check import near
from router.check.addresses import LISTENS, overlap, parsed
from router.check.file import File
from router.check.listing import active
from router.config import StaticService


def find(file: File) -> Iterator[Problem]:
    yield from _registries(file)
    yield from _static_services(file)
    yield from _none(file)


def own_port(file: File, where: Address) -> str | None:
    """The key of ours that an address leads back to."""
    for key, _ in LISTENS:
        mine = parsed(getattr(file.config, key))
        if mine is None or not overlap(mine, where):
            continue
        if address.is_loopback(where.host) or where.host == mine.host:
            return key
    return None


def _registries(file: File) -> Iterator[Problem]:
    seen: dict[Address, int] = {}
    for at, url in enumerate(file.config.registries):
        path = ("registries", at)
        try:
            where = address.parse_http_url(url)
        except ValueError as why:
            yield file.error(
                path,
                str(why),
                effect="The router could not ask it for services.",
                fix='write it like  "http://127.0.0.1:18000"',
            )
            continue
        if (key := own_port(file, where)) is not None:
            yield file.error(
                path,
                f'"{url}" is this router\'s own {key}',
                effect="It would ask itself for services, and find none.",
                fix='name the registry; its port is 18000 by default: "http://127.0.0.1:18000"',
            )
        elif where in seen:
            yield file.warning(
                path,
                f'"{url}" stands twice in registries',
                effect="Where it does not answer, it would be asked twice before the next.",
                fix="take one of the two out",
            )
        elif urlsplit(url).path.strip("/"):
            yield file.warning(
                path,
                f'"{url}" has a path',
                effect="A registry's own paths begin at its root: /services, /watch.",
                fix=f'write  "{address.http_url(where.host, where.port, urlsplit(url).scheme)}"',
            )
        seen.setdefault(where, at)


def _static_services(file: File) -> Iterator[Problem]:
    names: set[str] = set()
    places: dict[Address, str] = {}
    for at, service in enumerate(file.config.static_services):
        path: Path = ("static_services", at)
        if not is_name(service.name):
            yield file.error(
                (*path, "name"),
                f'"{service.name}" is no name for a service: {why_not_a_name(service.name)}',
                effect="Logs, metrics and commands call a service by its name.",
                fix="give it another name",
            )
        elif service.name in names:
            yield file.error(
                (*path, "name"),
                f'two static services are named "{service.name}"',
                effect="Requests and counts of the two could not be told apart.",
                fix="give one another name",
            )
        names.add(service.name)
        yield from _place(file, path, service, places)
        yield from _metadata(file, path, service)


def _place(
    file: File, path: Path, service: StaticService, places: dict[Address, str]
) -> Iterator[Problem]:
    where = Address(service.host.strip("[]"), service.port)
    if service.host in UNUSABLE_HOSTS or not address.is_host(where.host):
        yield file.error(
            (*path, "host"),
            f'"{service.host}" is no host to connect to',
            effect=f'Every request for "{service.name}" would fail.',
            fix='host = "10.0.0.40"  or its name; the port stands under  port',
        )
    elif (key := own_port(file, where)) is not None:
        yield file.error(
            (*path, "port"),
            f'"{service.name}" is this router\'s own {key}',
            effect="A request for it would go round until its attempts are spent.",
            fix="write where the engine listens",
        )
    elif where in places:
        yield file.warning(
            (*path, "port"),
            f'"{service.name}" and "{places[where]}" are both {where}',
            effect="One engine would get the requests of two.",
            fix="take one of the two out, or give it more weight",
        )
    places.setdefault(where, service.name)


def _metadata(file: File, path: Path, service: StaticService) -> Iterator[Problem]:
    """Known keys of an open table: a slip there is never an unknown key."""
    known = Metadata.__struct_fields__
    read = known_metadata(service.metadata)
    for key, value in service.metadata.items():
        place = (*path, "metadata", key)
        if key not in known:
            if (meant := near.closest(key, known)) is not None:
                yield file.warning(
                    place,
                    f'"{key}" in the metadata of "{service.name}" is not read',
                    effect="It is shown with the service and changes nothing.",
                    fix=f'did you mean "{meant}"?',
                    on_key=True,
                )
        elif value and getattr(read, key) == getattr(_NOTHING, key) != value:
            yield file.error(
                place,
                f'"{key}" in the metadata of "{service.name}" has the wrong type',
                effect="It would be read as if it were not there.",
                fix=_EXAMPLES.get(key, f"see {key} in docs/api-registry.md"),
            )


_NOTHING = Metadata()
_EXAMPLES = {
    "models": 'models = ["llama-2-7b"]',
    "models_list": 'models_list = [{ id = "llama-2-7b" }]',
    "capabilities": 'capabilities = ["generate"]',
    "tenants": 'tenants = ["research"]',
    "cost": "cost = 0.5",
    "max_concurrency": "max_concurrency = 8",
    "context_tokens": "context_tokens = 32_768",
    "priority": "priority = 1",
}


def _none(file: File) -> Iterator[Problem]:
    config = file.config
    if config.registries or config.static_file or config.static_services or active(config):
        return
    effect = "Every request would be answered with 503."
    if config.providers:
        key = next(iter(config.providers))
        yield file.error(
            ("registries",),
            "no registry, no static service and no active provider",
            effect=effect,
            fix=f'set  status = "active"  under {file.table("providers", key)}',
        )
        return
    yield file.error(
        ("registries",),
        "no registry, no static service and no provider",
        effect=effect,
        fix='registries = ["http://127.0.0.1:18000"]',
    )
