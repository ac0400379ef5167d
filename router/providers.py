"""Providers as services of the table: their records, and the Nodes that hold their keys.

    config, environment, files ─settle─▶ Providers ─ services ─▶ Brain.apply(…, source="provider")
                                                   └ node ─────▶ Brain: a Node per life

Everything that can fail about them fails in `settle`, at the start and at each reload, which it
then refuses. Keys go into request heads and probes of their own provider, and nowhere else: not
into records, logs, errors or views.
"""

import hashlib
import os
import ssl
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.json import encode

from common import address, logs
from common.errors import RefusalError
from common.names import is_name, why_not_a_name
from common.redact import SECRETS
from common.wire.registry import Service
from router import endpoint, limits, lives, static
from router.config import Config
from router.endpoint import Endpoint, Key
from router.named import Provider
from router.nodes import Node

#: `source` of their upstreams.
SOURCE = "provider"
KEY_BYTES_MAX = 8_192
CA_BYTES_MAX = 4 << 20

_log = logs.get("providers")
#: Makes a context for a connection to an engine.
Contexts = Callable[[], ssl.SSLContext]
#: Lives are told apart by a digest that nobody can turn back into a key.
_SALT = os.urandom(32)


class _Settled:
    __slots__ = ("endpoint", "key", "provider", "service", "tls")

    def __init__(
        self,
        service: Service,
        provider: Provider,
        endpoint: Endpoint,
        key: Key | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.service = service
        self.provider = provider
        self.endpoint = endpoint
        self.key = key
        self.tls = tls


class Providers:
    """The active providers of one configuration. `services` by name, as records of the table."""

    def __init__(
        self, settled: Mapping[str, _Settled], engines: Contexts = ssl.create_default_context
    ) -> None:
        self._settled = settled
        #: For engines at an https URL.
        self._engines = engines
        self.services: dict[str, Service] = {n: one.service for n, one in settled.items()}

    def node(self, service: Service, config: Config) -> Node:
        """A Node for any service: one of these with its key, any other as an engine."""
        one = self._settled.get(service.name)
        if one is None or one.service.instance_id != service.instance_id:
            return lives.engine(service, config, self._engines)
        where = one.endpoint
        return Node(
            service.name,
            where.host,
            where.port,
            paths=where.paths,
            probe_path=where.probe,
            key=one.key,
            tls=one.tls,
            connect_timeout_s=one.provider.connect_s,
            breaker=lives.breaker(config, service.name, one.provider.breaker),
            limiter=limits.limiter(one.provider.limits),
        )


NONE = Providers({})


def settle(
    config: Config,
    environ: Mapping[str, str],
    file: str = "router.toml",
    *,
    engines: Contexts = ssl.create_default_context,
) -> Providers:
    """The active ones, with keys and certificates read. Raises RefusalError.

    `file` is the configuration's, for messages. Reads files: at a reload, off the loop.
    """
    contexts = _Contexts()
    return Providers(
        {
            name: _settled(name, provider, config, environ, contexts, file)
            for name, provider in config.providers.items()
            if provider.status == "active"
        },
        engines,
    )


def _settled(
    name: str,
    provider: Provider,
    config: Config,
    environ: Mapping[str, str],
    contexts: "_Contexts",
    file: str,
) -> _Settled:
    table = f"[providers.{name}]"
    if not is_name(name):
        raise _refusal(table, why_not_a_name(name), file, "Give it another name.")
    try:
        where = endpoint.endpoint(provider)
    except ValueError as why:
        raise _refusal(
            f"{table} base_url", str(why), file, 'Write it like  "https://api.openai.com/v1"'
        ) from None
    value = _key(provider, environ, table, file)
    ca = _ca(provider.ca_file, table, file) if where.tls and provider.ca_file else b""
    key = None if value is None else endpoint.key(provider, value)
    if key is not None and not where.tls and not address.is_loopback(where.host):
        _log.warning("a key goes over the network in clear", provider=name, host=where.host)
    tls = contexts.get(ca, provider.ca_file, table, file) if where.tls else None
    return _Settled(_service(name, provider, where, value, ca, config), provider, where, key, tls)


def _service(
    name: str, provider: Provider, where: Endpoint, key: str | None, ca: bytes, config: Config
) -> Service:
    said = encode((provider, key, config.breaker))
    life = hashlib.blake2b(said + ca, digest_size=8, key=_SALT).hexdigest()
    return static.record(
        name,
        where.host,
        where.port,
        url=provider.base_url,
        weight=provider.weight,
        metadata=endpoint.metadata(provider),
        instance_id=life,
    )


def _refusal(where: str, why: str, file: str, fix: str) -> RefusalError:
    return RefusalError(f"{file}: {where}: {why}.\n  {fix}")


# --- keys -----------------------------------------------------------------------------------------


def _key(provider: Provider, environ: Mapping[str, str], table: str, file: str) -> str | None:
    """Its key, hidden from the logs from now on; None where it has none."""
    if provider.api_key_env is not None and provider.api_key_file is not None:
        why = "api_key_env and api_key_file are both set"
        raise _refusal(table, why, file, "Keep one of the two.")
    if provider.api_key_env is not None:
        value = _from_environment(provider.api_key_env, environ, table, file)
    elif provider.api_key_file is not None:
        value = _from_file(provider.api_key_file, table, file)
    else:
        return None
    SECRETS.add(value)
    return value


def _from_environment(name: str, environ: Mapping[str, str], table: str, file: str) -> str:
    where = f"{table} api_key_env"
    # A key written in the place of a name must not be repeated.
    is_name_like = name.isidentifier() and len(name) <= 64 and (name.isupper() or "_" in name)
    shown = name if is_name_like else "the variable it names"
    fix = f"Set it where the router is started (systemd: EnvironmentFile=), or remove {where}."
    value = environ.get(name, "").strip()
    if not value:
        state = "empty" if name in environ else "not set"
        raise _refusal(where, f"{shown} is {state} in the router's environment", file, fix)
    if not _is_key(value):
        raise _refusal(where, f"{shown} holds more than one word of printable ASCII", file, fix)
    return value


def _from_file(path: str, table: str, file: str) -> str:
    where = f"{table} api_key_file"
    found = Path(path).expanduser()
    try:
        with found.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            raw = opened.read(KEY_BYTES_MAX + 1)
    except OSError as why:
        text = f"{found} cannot be read: {why.strerror}"
        raise _refusal(where, text, file, f"Write the key into {found}, or name another.") from None
    if stat.S_ISREG(mode) and mode & 0o007:
        text = f"{found} can be read by every user of this machine (mode {mode & 0o777:03o})"
        raise _refusal(where, text, file, f"Close it:  chmod 600 {found}")
    value = raw.decode("ascii", "replace").strip()
    if not value:
        raise _refusal(where, f"{found} is empty", file, "Write the key into it, on one line.")
    if len(raw) > KEY_BYTES_MAX or not _is_key(value):
        text = f"{found} holds more than one word of printable ASCII"
        raise _refusal(where, text, file, "Write the key into it, on one line.")
    return value


def _is_key(text: str) -> bool:
    """It becomes part of a head, so it holds nothing that could end a line there."""
    return all("!" <= c <= "~" for c in text)


# --- certificates ---------------------------------------------------------------------------------


def _ca(path: str, table: str, file: str) -> bytes:
    found = Path(path).expanduser()
    try:
        with found.open("rb") as opened:
            data = opened.read(CA_BYTES_MAX + 1)
    except OSError as why:
        text = f"{found} cannot be read: {why.strerror}"
        fix = "Name the file with the certificates to trust (PEM)."
        raise _refusal(f"{table} ca_file", text, file, fix) from None
    if len(data) > CA_BYTES_MAX:
        text = f"{found} has more than {CA_BYTES_MAX} bytes"
        raise _refusal(f"{table} ca_file", text, file, "Name a file with certificates alone (PEM).")
    return data


class _Contexts:
    """One for each set of certificates. Names and dates are checked, whatever is trusted."""

    def __init__(self) -> None:
        self._made: dict[bytes, ssl.SSLContext] = {}

    def get(self, ca: bytes, path: str | None, table: str, file: str) -> ssl.SSLContext:
        found = self._made.get(ca)
        if found is not None:
            return found
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if ca:
            try:
                context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))
            except ssl.SSLError:
                text = f"{path} holds no certificate that can be read"
                fix = "Write certificates in PEM into it: -----BEGIN CERTIFICATE----- …"
                raise _refusal(f"{table} ca_file", text, file, fix) from None
        elif path:
            text = f"{path} is empty"
            fix = "Write certificates in PEM into it: -----BEGIN CERTIFICATE----- …"
            raise _refusal(f"{table} ca_file", text, file, fix)
        self._made[ca] = context
        return context
