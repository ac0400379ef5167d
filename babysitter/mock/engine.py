"""One mock engine: owns what it counts, its gate and its standing faults; decides each request."""

import os
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from babysitter.mock import faults as faulty
from babysitter.mock import script
from babysitter.mock.answers import (
    Answer,
    Answers,
    Plain,
    Refused,
    Request,
    is_control,
    parse_body,
    query_model,
    strip_v1,
)
from babysitter.mock.faults import NO_FAULTS, Faults, Standing
from babysitter.mock.gate import Gate
from babysitter.mock.settings import Settings
from babysitter.mock.stats import Stats
from common import clock

#: Without `max_concurrency`, so many requests fill the cache that it pretends to have.
REQUESTS_CACHED = 64


class Job(Struct, kw_only=True):
    """What to do about one request. A control job is not counted, queued or logged."""

    answer: Answer
    faults: Faults
    control: bool
    model: str = ""
    id: str = ""
    path: str = ""
    began: float = 0.0


class Engine:
    """`log` takes one line per request; None drops them."""

    def __init__(self, settings: Settings, log: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self.stats = Stats()
        self.gate: Gate[Any] = Gate(settings.max_concurrency, settings.max_waiting)
        self.standing = Standing(settings.faults)
        self.name = settings.name.encode()
        self.ready_at = clock.monotonic() + settings.load_ms / 1000
        self._answers = Answers(settings)
        self._log = log
        self._ids = 0
        self._bearer = f"Bearer {settings.api_key}" if settings.api_key else None

    # ---- deciding

    def decide(self, request: Request, asked: list[tuple[bytes, bytes]]) -> Job:
        """`asked` are the request's own x-mock- headers."""
        path = request.path
        if path.startswith("/mock/"):
            return Job(answer=self._operate(request), faults=NO_FAULTS, control=True)
        control = is_control(path)
        self._ids += 1
        job = Job(
            answer=Plain(500, b""),
            faults=NO_FAULTS,
            control=control,
            id=request.header(b"x-request-id") or f"{self.settings.name}-{self._ids}",
            path=path,
            began=clock.monotonic(),
        )
        try:
            self._decide(job, request, asked)
        except Refused as refused:
            job.answer = refused.answer
        if control:
            self.stats.control_requests[path] += 1
        else:
            self.stats.arrived(path, job.model, job.id)
        return job

    def _decide(self, job: Job, request: Request, asked: list[tuple[bytes, bytes]]) -> None:
        now = job.began
        body: dict[str, Any] = {}
        late: Refused | None = None
        if not job.control:
            try:
                body = parse_body(request)
                job.model = self._answers.model_of(body)
            except Refused as refused:  # faults go first: they are what was asked for
                late = refused
        if asked:
            try:
                job.faults = faulty.faults_from_headers(asked)
            except ValueError as error:
                raise Refused(400, str(error)) from None
        elif self.standing:
            job.faults = self.standing.find(job.path, job.model, job.control)
        if job.faults.status is not None:
            job.answer = script.refusal(job.faults)
            return
        if now < self.ready_at:
            raise Refused(503, "the model is loading")
        open_path = self._bearer is None or job.path == "/health"
        if not open_path and request.header(b"authorization") != self._bearer:
            raise Refused(401, "Incorrect API key provided.", "invalid_api_key")
        if late is not None:
            raise late
        if job.control:
            job.answer = self._control(request)
        else:
            job.answer = self._answers.answer(request, body, job.model, job.faults, clock.wall())

    def _control(self, request: Request) -> Plain:
        match request.path:
            case "/health":
                return Plain(200, b'{"status":"ok"}')
            case "/metrics":
                return Plain(200, self._metrics(), b"text/plain; version=0.0.4; charset=utf-8")
        found = self._answers.control(request, clock.wall())
        return found or Plain(404, b'{"detail":"Not Found"}')

    def decide_websocket(self, request: Request) -> Job:
        model = query_model(request)
        path = request.path
        self._ids += 1
        job = Job(
            answer=Plain(101, b""),
            faults=NO_FAULTS,
            control=False,
            model=model or self.settings.models[0],
            id=request.header(b"x-request-id") or f"{self.settings.name}-{self._ids}",
            path=path,
            began=clock.monotonic(),
        )
        if strip_v1(path) != "/realtime":
            job.answer = Plain(404, b'{"detail":"Not Found"}')
        elif model and model not in self.settings.models and not self.settings.any_model:
            refused = Refused(404, f"The model `{model}` does not exist.", "model_not_found")
            job.answer = refused.answer
        self.stats.arrived(path, job.model, job.id)
        return job

    def slow_read(self, path: str, asked: list[tuple[bytes, bytes]]) -> int | None:
        """Bytes a second at which a body is to be read, known once the head is there."""
        try:
            found = faulty.faults_from_headers(asked) if asked else self.standing.peek(path)
        except ValueError:
            return None  # told when the request is complete
        return found.slow_read

    # ---- what operators ask for

    def _operate(self, request: Request) -> Plain:
        match request.method, request.path:
            case "GET", "/mock/stats":
                return _json(self.table())
            case "POST", "/mock/reset":
                self.reset()
                return _json({"reset": True})
            case "POST", "/mock/faults":
                try:
                    rules = faulty.rules_from_json(request.body)
                except (ValueError, msgspec.DecodeError) as error:
                    return Refused(400, str(error)).answer
                self.standing = Standing(rules)
                return _json({"rules": len(rules)})
        return Refused(404, "GET /mock/stats, POST /mock/reset, POST /mock/faults").answer

    def reset(self) -> None:
        """Counts to zero, faults as they were at the start."""
        self.stats.reset()
        self.standing = Standing(self.settings.faults)

    def table(self) -> dict[str, Any]:
        """`GET /mock/stats`."""
        return {
            "name": self.settings.name,
            "models": list(self.settings.models),
            "pid": os.getpid(),
            "monotonic": clock.monotonic(),
            **self.stats.table(),
        }

    def _metrics(self) -> bytes:
        stats = self.stats
        lines = [
            "# TYPE mock_requests_total counter",
            *(f'mock_requests_total{{model="{m}"}} {n}' for m, n in stats.by_model.items()),
            "# TYPE mock_aborts_total counter",
            *(f'mock_aborts_total{{phase="{p}"}} {n}' for p, n in stats.aborts.items()),
            "# TYPE mock_events_total counter",
            f"mock_events_total {stats.events}",
            "# TYPE mock_completions_total counter",
            f"mock_completions_total {stats.completions}",
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running {stats.in_flight}",
            "# TYPE vllm:num_requests_waiting gauge",
            f"vllm:num_requests_waiting {stats.queued}",
            "# TYPE vllm:kv_cache_usage_perc gauge",
            f"vllm:kv_cache_usage_perc {self._cache_use():.4f}",
            "# TYPE vllm:generation_tokens_total counter",
            f"vllm:generation_tokens_total {stats.events}",
        ]
        return ("\n".join(lines) + "\n").encode()

    def _cache_use(self) -> float:
        """As if each request took the same share of a cache that holds all it works on at once."""
        return min(1.0, self.stats.in_flight / (self.settings.max_concurrency or REQUESTS_CACHED))

    # ---- counting

    def loaded(self) -> None:
        """The gate has changed."""
        self.stats.load(self.gate.running, self.gate.queued)

    def ended(self, job: Job, outcome: str) -> None:
        """A request is over, one way or another: one line in the log."""
        if self._log is None:
            return
        took_ms = (clock.monotonic() - job.began) * 1000
        self._log(
            f"{clock.wire_time(clock.wall())} {self.settings.name} request id={job.id} "
            f"model={job.model} path={job.path} status={job.answer.status} outcome={outcome} "
            f"ms={took_ms:.1f}"
        )


def log_to_stdout(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _json(table: dict[str, Any]) -> Plain:
    return Plain(200, msgspec.json.encode(table))
