"""[providers]: a name, an address that can be asked, a key where one is wanted, and a use. Pure."""

import re
from collections.abc import Iterator
from typing import get_args
from urllib.parse import urlsplit

from common import address
from common.config import Problem
from common.names import UNUSABLE_HOSTS, is_name, why_not_a_name
from common.positions import Path
from router.check import near, references, words
from router.check.file import File
from router.check.listing import ACTIVE, asked, repeats
from router.check.secrets import is_secret
from router.check.sources import own_port
from router.named import Privacy, Provider

CLOUDS = frozenset({"openai", "anthropic"})
CAPABILITIES = ("transcribe", "synthesize", "generate", "code", "embed", "image_gen")
#: Ends of paths that are a request's own.
ROUTES = ("/completions", "/messages", "/embeddings", "/responses", "/models", "/chat")
PRIVACY: tuple[Privacy, ...] = get_args(Privacy)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def find(file: File) -> Iterator[Problem]:
    for name, provider in file.config.providers.items():
        path = ("providers", name)
        if not is_name(name):
            yield file.error(
                path,
                f'"{name}" is no name for a provider: {why_not_a_name(name)}',
                effect="Logs, metrics and commands call a provider by its name.",
                fix="give it another name",
            )
        yield from _url(file, path, provider)
        yield from _key(file, path, name, provider)
        yield from _models(file, path, name, provider)
        yield from _use(file, path, name, provider)


def _url(file: File, path: Path, provider: Provider) -> Iterator[Problem]:
    path = (*path, "base_url")
    url = provider.base_url
    unreachable = "Every request for it would fail."
    try:
        where = address.parse_http_url(url)
    except ValueError as why:
        yield file.error(path, str(why), effect=unreachable, fix=_url_fix(url))
        return
    parts = urlsplit(url)
    if where.host in UNUSABLE_HOSTS:
        yield file.error(
            path,
            f'"{where.host}" is no host to connect to',
            effect=unreachable,
            fix=f'for this machine write  "{url.replace(where.host, "127.0.0.1", 1)}"',
        )
    elif (key := own_port(file, where)) is not None:
        yield file.error(
            path,
            f'"{url}" is this router\'s own {key}',
            effect="A request for it would go round until its attempts are spent.",
            fix="write where the provider listens",
        )
    if parts.query or parts.fragment:
        yield file.error(
            path,
            f'"{url}" goes on after its path',
            effect="A request's own path is put behind it, and would be read as something else.",
            fix=f'write  "{url.partition("?")[0].partition("#")[0]}"',
        )
    elif route := next((one for one in ROUTES if parts.path.rstrip("/").endswith(one)), None):
        base = url.rstrip("/").removesuffix(route).removesuffix("/chat")
        yield file.error(
            path,
            f'"{url}" ends in a route of requests',
            effect="A request's own path is put behind it, and such a path leads nowhere.",
            fix=f'write  "{base}"',
        )
    if provider.ca_file is not None and parts.scheme == "http":
        yield file.warning(
            (*path[:-1], "ca_file"),
            "ca_file is not read: base_url begins with http://",
            effect="Nothing is encrypted, and no certificate is looked at.",
            fix=f'base_url = "https{url.removeprefix("http")}"',
        )


def _url_fix(url: str) -> str:
    if "://" not in url and address.is_host(url.partition("/")[0].partition(":")[0]):
        return f'write  "http://{url}"'
    return 'write it like  "https://api.openai.com/v1"'


def _key(file: File, path: Path, name: str, provider: Provider) -> Iterator[Problem]:
    table = words.table("providers", name)
    variable = provider.api_key_env
    if variable is not None and provider.api_key_file is not None:
        yield file.error(
            (*path, "api_key_env"),
            f"{table} has api_key_env and api_key_file",
            effect="Only one of the two keys could be sent.",
            fix="keep api_key_file: a file can be replaced without a restart",
            on_key=True,
        )
    elif variable is not None and not _VARIABLE.match(variable) and not is_secret(variable):
        yield file.error(
            (*path, "api_key_env"),
            f'"{variable}" cannot be the name of an environment variable',
            effect="The key would never be found.",
            fix=f'api_key_env = "{_variable_of(name)}"',
        )
    try:
        where = address.parse_http_url(provider.base_url)
    except ValueError:
        return
    has_key = variable is not None or provider.api_key_file is not None
    near_by = address.is_loopback(where.host)
    if provider.type in CLOUDS and not has_key and not near_by and provider.status == ACTIVE:
        yield file.warning(
            path,
            f"{table} has no key",
            effect=f"{provider.type} answers requests without one with 401.",
            fix=f'add  api_key_file = "/etc/creche/{name}.key"',
        )
    if has_key and not near_by and provider.base_url.startswith("http://"):
        yield _in_clear(file, name, where.host, provider)


def _in_clear(file: File, name: str, host: str, provider: Provider) -> Problem:
    """On one's own network that may be meant, towards a cloud never."""
    table = words.table("providers", name)
    known = address.ip(host)
    private = known is not None and known.is_private
    say = file.error if provider.type in CLOUDS and not private else file.warning
    return say(
        ("providers", name, "base_url"),
        f"the key of {table} goes to {host} in clear",
        effect="Whoever sees the traffic has the key.",
        fix=f'base_url = "https{provider.base_url.removeprefix("http")}"',
    )


def _variable_of(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_API_KEY"


def _models(file: File, path: Path, name: str, provider: Provider) -> Iterator[Problem]:
    table = words.table("providers", name)
    again = set(repeats(provider.models))
    for at, model in enumerate(provider.models):
        place = (*path, "models", at)
        if not model.strip():
            yield file.error(
                place,
                f"{table} lists a model without a name",
                effect="No client can ask for it.",
                fix="take it out",
            )
        elif at in again:
            yield file.warning(
                place,
                f'{table} lists "{model}" twice',
                effect="It counts once.",
                fix="take one of the two out",
            )
    for at, capability in enumerate(provider.capabilities):
        if capability in CAPABILITIES or capability.removeprefix("custom:") not in {"", capability}:
            continue
        meant = near.closest(capability, CAPABILITIES)
        yield file.error(
            (*path, "capabilities", at),
            f'"{capability}" is no capability',
            effect=f"No request wants it, so none would go to {name} for it.",
            fix=f'did you mean "{meant}"?'
            if meant
            else f"write one of {', '.join(CAPABILITIES)}, or  custom:{capability or 'name'}",
        )


def _use(file: File, path: Path, name: str, provider: Provider) -> Iterator[Problem]:
    """An active provider that no request can reach."""
    table = words.table("providers", name)
    if provider.status != ACTIVE:
        return
    unused = not provider.models and name not in asked(file.config)
    if unused and name not in references.blamed(file):
        yield file.warning(
            path,
            f"{table} lists no models, and nothing else names it",
            effect="No request would ever go to it.",
            fix='add  models = ["…"]',
        )
    default = file.config.needs.privacy
    if PRIVACY.index(provider.privacy) < PRIVACY.index(default):
        yield file.warning(
            (*path, "privacy"),
            f'{table} is "{provider.privacy}", '
            f'and requests need "{default}" unless they say otherwise',
            effect="Only a request with its own x-creche-privacy would go to it.",
            fix=f'set  privacy = "{default}"  there, if that is what it is',
        )
