"""The eight checks behind validate.sh. Stdlib only; what is compared is what the fleet itself says.

Requests carry ids of this run (`x-request-id`); the router names the engine that answered
(`x-creche-service`); check 8 holds the one against what each engine wrote in its log.
"""

import http.client
import json
import os
import re
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ENGINES = {
    "engine-a@server-1": "model-1",
    "engine-b@server-1": "model-2",
    "engine-c@server-2": "model-1",
    "engine-d@server-2": "model-2",
}
BABYSITTERS = ("babysitter-a", "babysitter-b", "babysitter-c", "babysitter-d")
REQUESTS_EACH = 4
TIMEOUT_S = 60.0
#: What was started just now registers beside its first answer; an engine's last log line may come
#: a moment after the answer that it tells of.
WITHIN_S = 10.0


class Wrong(Exception):
    """A check does not hold; the text says what was found instead."""


class NotYet(Wrong):
    """It may hold a moment later."""


@dataclass
class Fleet:
    registry: str
    router: str
    token: str
    run: str = field(default_factory=lambda: f"validate-{uuid.uuid4().hex[:12]}")
    #: Until then, on the monotonic clock, what is not there may have been started just now.
    settled_at: float = field(default_factory=lambda: time.monotonic() + WITHIN_S)
    #: Request id to the service that answered it, of every request of this run.
    answered: dict[str, str] = field(default_factory=dict)

    def call(
        self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body. Raises Wrong when nothing answers."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        sent = {"content-type": "application/json", **(headers or {})}
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, path, json.dumps(body) if body else None, sent)
            answer = connection.getresponse()
            given = {key.lower(): value for key, value in answer.getheaders()}
            return answer.status, given, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Wrong(f"{url}: {_why(error)}") from error
        finally:
            connection.close()

    def get(self, url: str, *, token: bool = False) -> Any:
        headers = {"authorization": f"Bearer {self.token}"} if token and self.token else {}
        status, _, body = self.call("GET", url, headers=headers)
        if status in (401, 403):
            raise Wrong(f"{url} wants the cluster token: set CRECHE_TOKEN_FILE")
        if status != 200:
            raise Wrong(f"{url} answers {status}: {body[:200].decode('utf-8', 'replace')}")
        return _json(url, body)

    def text(self, url: str) -> str:
        status, _, body = self.call("GET", url, headers={"authorization": f"Bearer {self.token}"})
        if status != 200:
            raise Wrong(f"{url} answers {status}")
        return body.decode("utf-8", "replace")

    def chat(self, model: str) -> str:
        """The service that answered one chat. Raises Wrong for anything but an answer."""
        name = f"{self.run}-{len(self.answered) + 1}"
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        url = f"{self.router}/v1/chat/completions"
        status, headers, answer = self.call("POST", url, body, {"x-request-id": name})
        if status != 200:
            raise Wrong(f"{model}: {status} {answer[:200].decode('utf-8', 'replace')}")
        table = _json(url, answer)
        text = table["choices"][0]["message"]["content"]
        if not text:
            raise Wrong(f"{model}: an empty answer")
        service = headers.get("x-creche-service")
        if not service:
            raise Wrong(f"{model}: the answer does not name its engine (x-creche-service)")
        self.answered[name] = service
        return service


def _why(error: Exception) -> str:
    """In words: `connection refused`, not `[Errno 111] …`."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def _json(url: str, body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise Wrong(f"{url} answers no JSON: {body[:80]!r}") from error


# ---- the checks: each returns what it saw, or raises Wrong -------------------------------------


def registry_healthy(fleet: Fleet) -> str:
    told = fleet.get(f"{fleet.registry}/health")
    if told.get("status") != "healthy":
        raise Wrong(f"status is {told.get('status')!r}: {told.get('text')}")
    return f"{told['healthy_services']} of {told['registered_services']} services healthy"


def router_healthy(fleet: Fleet) -> str:
    told = fleet.get(f"{fleet.router}/health")
    if told.get("status") != "healthy":
        raise Wrong(f"status is {told.get('status')!r}: {told.get('message')}")
    return f"{told['healthy_services']} services healthy"


def soon(look: Callable[[Fleet], str], fleet: Fleet, until: float) -> str:
    """What `look` tells once it holds. Raises Wrong at once, NotYet when the time is over."""
    while True:
        is_over = time.monotonic() >= until
        try:
            return look(fleet)
        except NotYet:
            if is_over:
                raise
        time.sleep(0.1)


def all_registered(fleet: Fleet) -> str:
    return soon(_registered, fleet, fleet.settled_at)


def _registered(fleet: Fleet) -> str:
    records = {one["name"]: one for one in _services(fleet)}
    missing = [name for name in (*BABYSITTERS, *ENGINES) if name not in records]
    if missing:
        raise NotYet(f"not registered: {', '.join(missing)}; there are: {', '.join(records)}")
    for name in (*BABYSITTERS, *ENGINES):
        one = records[name]
        if not one["is_healthy"]:
            why = "; ".join(reason["text"] for reason in one.get("reasons") or ())
            raise NotYet(f"{name} is unfit: {why or one['health_status']}")
        kind = "babysitter" if name in BABYSITTERS else "openai-api"
        if one["metadata"].get("type") != kind:
            raise Wrong(f"{name} has type {one['metadata'].get('type')!r}, not {kind}")
    for name, model in ENGINES.items():
        listed = [item["id"] for item in records[name]["metadata"].get("models_list") or ()]
        if listed != [model]:
            raise Wrong(f"{name} offers {listed}, not [{model!r}]")
    return "4 babysitters, 4 engines, the right models"


def models_listed(fleet: Fleet) -> str:
    for path in ("/models", "/v1/models"):
        listed = [one["id"] for one in fleet.get(f"{fleet.router}{path}")["data"]]
        if listed != ["model-1", "model-2"]:
            raise Wrong(f"{path} lists {listed}")
    return "model-1 and model-2, once each"


def chat_answered(model: str) -> Callable[[Fleet], str]:
    def check(fleet: Fleet) -> str:
        service = fleet.chat(model)
        if ENGINES.get(service) != model:
            raise Wrong(f"answered by {service}, which is none of the engines of {model}")
        return f"answered by {service}"

    return check


def both_reached(fleet: Fleet) -> str:
    try:
        soon(_routed, fleet, fleet.settled_at)
    except Wrong:
        pass  # what it does reach is told below
    seen = []
    for model in ("model-1", "model-2"):
        wanted = {name for name, serves in ENGINES.items() if serves == model}
        counts = Counter(fleet.chat(model) for _ in range(REQUESTS_EACH))
        if set(counts) != wanted:
            raise Wrong(f"{REQUESTS_EACH} requests for {model} reached {dict(counts)}")
        seen += [f"{name.split('@')[0]} {counts[name]}" for name in sorted(counts)]
    return ", ".join(seen)


def _routed(fleet: Fleet) -> str:
    """Whether the router has heard of all engines."""
    told = str(fleet.get(f"{fleet.router}/health").get("healthy_services"))
    fit = told.partition("/")[0]
    if not fit.isdecimal() or int(fit) < len(ENGINES):
        raise NotYet(f"the router knows of {told} services")
    return told


def logs_match(fleet: Fleet) -> str:
    if not fleet.answered:
        raise Wrong("no request was answered, so there is nothing to compare")
    return soon(_compare, fleet, time.monotonic() + WITHIN_S)


def _compare(fleet: Fleet) -> str:
    urls = {one["name"]: one["metadata"].get("babysitter_url") for one in _services(fleet)}
    for service in ENGINES:
        engine = service.split("@")[0]
        log = fleet.text(f"{urls.get(service)}/engines/{engine}/log")
        written = Counter(re.findall(rf"\bid=({re.escape(fleet.run)}-\d+)\b", log))
        sent = Counter(name for name, by in fleet.answered.items() if by == service)
        if written != sent:
            missing, foreign = sorted(sent - written), sorted(written - sent)
            told = [f"lacks {', '.join(missing)}"] if missing else []
            told += [f"also has {', '.join(foreign)}"] if foreign else []
            raise NotYet(f"the log of {service} {' and '.join(told)}")
    return f"{len(fleet.answered)} requests, each in the log of its engine and nowhere else"


def _services(fleet: Fleet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.get(f"{fleet.registry}/services", token=True)["services"]
    return found


CHECKS: tuple[tuple[str, Callable[[Fleet], str]], ...] = (
    ("registry healthy", registry_healthy),
    ("router healthy", router_healthy),
    ("the four babysitters and their four engines registered, fit", all_registered),
    ("/models lists model-1 and model-2, once each", models_listed),
    ("chat on model-1 is answered and names its engine", chat_answered("model-1")),
    ("chat on model-2 is answered and names its engine", chat_answered("model-2")),
    ("four requests for each model reach both of its engines", both_reached),
    ("each engine's log shows exactly the requests it handled", logs_match),
)


def main(registry: str, router: str) -> int:
    fleet = Fleet(registry, router, _token())
    failed = 0
    for number, (name, check) in enumerate(CHECKS, 1):
        try:
            mark, saw = "✓", check(fleet)
        except Wrong as wrong:
            mark, saw = "✗", str(wrong)
        except (LookupError, TypeError, AttributeError) as error:
            mark, saw = "✗", f"an answer of another shape: {error!r}"
        failed += mark == "✗"
        _say(f"{mark} {number} {name}   {saw}")
    _say(f"\n{len(CHECKS) - failed} of {len(CHECKS)} checks hold")
    if failed == len(CHECKS):
        _say(
            "    Is the demo up?  deploy/start-server1.sh IP1, then deploy/start-server2.sh IP1 IP2"
        )
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _token() -> str:
    if given := os.environ.get("CRECHE_TOKEN", "").strip():
        return given
    path = os.environ.get("CRECHE_TOKEN_FILE", "")
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else ""
    except OSError as error:
        sys.stderr.write(f"! the token file {path} cannot be read: {error.strerror}\n")
        return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
