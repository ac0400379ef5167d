"""Fleets for tests, built as the daemons' JSON says them, and decoded as `creche` decodes them."""

from typing import Any

import msgspec

from common.clock import wire_time
from common.wire.babysitter import Engines
from common.wire.registry import Services
from common.wire.router import RouterConfig, RouterHealth, RouterServices, RouterStats
from ctl.fleet import Fleet, Silent

NOW = 1_800_000_000.0
URL = "http://10.0.0.10:8000"
REGISTRY = "http://10.0.0.10:18000"


def ago(seconds: float) -> str:
    return wire_time(NOW - seconds)


def service(name: str, models: list[str], **more: Any) -> dict[str, Any]:
    """An engine as the router's /services tells it."""
    host = name.rpartition("@")[2]
    return {
        "name": name,
        "host": host,
        "port": 8100,
        "url": f"http://{host}:8100",
        "babysitter_url": f"http://{host}:8101",
        "healthy": True,
        "request_count": 0,
        "error_count": 0,
        "response_time": 0.0,
        "weight": 1.0,
        "models": models,
        "metadata": {"type": "openai-api"},
        "last_heartbeat": ago(1),
        **more,
    }


def engine(name: str, state: str, models: list[str], **more: Any) -> dict[str, Any]:
    """An engine as its babysitter's /engines tells it."""
    short, _, host = name.partition("@")
    return {
        "name": short,
        "service": name,
        "kind": "vllm",
        "state": state,
        "since": ago(840),
        "host": host,
        "port": 8100,
        "url": f"http://{host}:8100",
        "models": models,
        "pid": 4121,
        **more,
    }


def exit_of(text: str, seconds_ago: float = 840, cause: str = "code") -> dict[str, Any]:
    return {"cause": cause, "text": text, "at": ago(seconds_ago), "code": 1}


def babysitter_record(host: str, engines: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A babysitter's own record in the registry."""
    return {
        "name": f"babysitter@{host}",
        "host": host,
        "port": 8101,
        "hostname": host,
        "url": f"http://{host}:8101",
        "status": "running",
        "timestamp": ago(1),
        "last_heartbeat": ago(1),
        "metadata": {"type": "babysitter", "engines": engines},
        **more,
    }


def provider(name: str, models: list[str], **more: Any) -> dict[str, Any]:
    """A provider of the router's file as its /services tells it."""
    url = "http://10.9.9.9:443/v1"
    own = {"source": "provider", "babysitter_url": None, "url": url, "host": "10.9.9.9"}
    return service(name, models, **{**own, **more})


#: What /admin/config says of a router whose file is in force.
_CONFIG: dict[str, Any] = {
    "file": "/etc/creche/router.toml",
    "version": 12,
    "digest": "0123456789abcdef",
    "loaded_at": ago(600),
    "by": "start",
    "file_differs": False,
    "needs_restart": [],
    "message": "",
    "undo_until": None,
    "versions": [],
}


def fleet(
    services: list[dict[str, Any]],
    engines: list[dict[str, Any]] | None = None,
    *,
    stats: dict[str, Any] | None = None,
    records: list[dict[str, Any]] | None = None,
    connected: bool = True,
    silent: list[tuple[str, str]] | None = None,
    registry_silent: str | None = None,
    config: dict[str, Any] | None = None,
) -> Fleet:
    """One look. `engines` are told by the babysitter of their host; `silent` are (url, why)."""
    told: dict[str, list[Any]] = {}
    for one in engines or []:
        told.setdefault(f"http://{one['host']}:8101", []).append(one)
    health = {
        "status": "healthy",
        "router": "running",
        "healthy_services": f"{len(services)}/{len(services)}",
        "registry_url": REGISTRY,
        "message": "",
        "timestamp": ago(0),
        "registry_connected": connected,
    }
    return Fleet(
        url=URL,
        health=msgspec.convert(health, RouterHealth),
        services=msgspec.convert(
            {"services": services, "total": len(services), "registry_url": REGISTRY},
            RouterServices,
        ),
        stats=msgspec.convert(stats or {}, RouterStats),
        config=msgspec.convert({**_CONFIG, **config}, RouterConfig) if config else None,
        registry_url=REGISTRY,
        registry=None
        if registry_silent
        else msgspec.convert(
            {"services": records or [], "total": len(records or []), "timestamp": ago(0)}, Services
        ),
        registry_silent=Silent(REGISTRY, registry_silent) if registry_silent else None,
        engines={
            url: msgspec.convert(
                {"engines": some, "total": len(some), "timestamp": ago(0)}, Engines
            ).engines
            for url, some in told.items()
        },
        babysitters_silent=tuple(Silent(*one) for one in silent or []),
    )


def all_well() -> Fleet:
    names = ["coder@gpu-01", "coder@gpu-02", "qwen@gpu-01"]
    models = {"coder": ["qwen3-coder"], "qwen": ["qwen3-32b"]}
    return fleet(
        [service(name, models[name.partition("@")[0]]) for name in names],
        [engine(name, "READY", models[name.partition("@")[0]]) for name in names],
        stats={
            "total_requests": 100,
            "requests_per_s": 41.2,
            "models": {
                "qwen3-coder": {
                    "ready": 2,
                    "total": 2,
                    "in_flight": 9,
                    "ttft_p50_ms": 180.0,
                    "ttft_p99_ms": 900.0,
                    "requests_per_s": 30.0,
                    "tokens_per_s": 611.4,
                },
                "qwen3-32b": {
                    "ready": 1,
                    "total": 1,
                    "in_flight": 22,
                    "queued": 4,
                    "ttft_p50_ms": 640.0,
                    "ttft_p99_ms": 4100.0,
                    "requests_per_s": 11.2,
                    "tokens_per_s": 1902.0,
                },
            },
        },
    )
