"""A stand-in for engines that cannot be had here: takes exactly the command line of one kind,
refuses any other, and serves what that kind serves (health, model list, metrics).

    serve.py KIND ARGUMENTS…         KIND comes from the wrapper script that the test puts on PATH
"""

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answers = dict[str, tuple[int, str]]


def listing(*names: str) -> tuple[int, str]:
    return 200, json.dumps(
        {"object": "list", "data": [{"id": n, "object": "model"} for n in names]}
    )


def vllm(argv: list[str]) -> tuple[str, int, Answers]:
    parser = argparse.ArgumentParser("vllm", allow_abbrev=False)
    serve = parser.add_subparsers(required=True).add_parser("serve", allow_abbrev=False)
    serve.add_argument("model")
    serve.add_argument("--host", required=True)
    serve.add_argument("--port", type=int, required=True)
    serve.add_argument("--served-model-name", nargs="+")
    serve.add_argument("--max-model-len", type=int)
    args = parser.parse_args(argv)
    metrics = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
    return args.host, args.port, {
        "/health": (200, ""),
        "/v1/models": listing(*(args.served_model_name or [args.model])),
        "/metrics": (200, metrics),
    }  # fmt: skip


def sglang(argv: list[str]) -> tuple[str, int, Answers]:
    parser = argparse.ArgumentParser("sglang", allow_abbrev=False)
    parser.add_argument("-m", required=True, choices=["sglang.launch_server"])
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name")
    parser.add_argument("--enable-metrics", action="store_true")
    args = parser.parse_args(argv)
    answers: Answers = {
        "/health": (200, ""),
        "/v1/models": listing(args.served_model_name or args.model_path),
    }
    if args.enable_metrics:
        answers["/metrics"] = (200, "sglang:num_running_reqs 0\nsglang:num_queue_reqs 0\n")
    return args.host, args.port, answers


def llama_cpp(argv: list[str]) -> tuple[str, int, Answers]:
    parser = argparse.ArgumentParser("llama-server", allow_abbrev=False)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("-a", "--alias")
    parser.add_argument("--metrics", action="store_true")
    args = parser.parse_args(argv)
    return args.host, args.port, {
        "/health": (200, '{"status":"ok"}'),
        "/v1/models": listing(*(args.alias or args.model).split(",")),
        "/metrics": (200, "llamacpp:requests_processing 0\nllamacpp:n_decode_total 4\n"),
    }  # fmt: skip


def infinilm(argv: list[str]) -> tuple[str, int, Answers]:
    """The older server: no health path, no model list. It must find itself in its folder."""
    if not os.path.exists("launch_server.py"):
        sys.exit("started outside InfiniLM's scripts folder")
    parser = argparse.ArgumentParser("launch_server.py", allow_abbrev=False)
    parser.add_argument("script", choices=["launch_server.py"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--dev", default="cpu")
    args = parser.parse_args(argv)
    return args.host, args.port, {"/docs": (200, "")}


def infinilm_rust(argv: list[str]) -> tuple[str, int, Answers]:
    parser = argparse.ArgumentParser("xtask", allow_abbrev=False)
    service = parser.add_subparsers(required=True).add_parser("service", allow_abbrev=False)
    service.add_argument("file", type=argparse.FileType())
    service.add_argument("-p", type=int, required=True)
    args = parser.parse_args(argv)
    print(f"start service at 0.0.0.0:{args.p}", flush=True)
    return "0.0.0.0", args.p, {"/models": listing("from-the-service-file")}


def ollama(argv: list[str]) -> tuple[str, int, Answers]:
    if argv != ["serve"]:
        sys.exit(f"unknown command: {argv}")
    host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
    return host, int(port), {
        "/api/version": (200, '{"version":"0"}'),
        "/v1/models": (200, '{"object":"list","data":null}'),
    }  # fmt: skip


def main() -> None:
    kind, *argv = sys.argv[1:]
    host, port, answers = globals()[kind](argv)
    loading = float(os.environ.get("STANDIN_LOADING", "0"))
    seen = {"health": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, "not found"))
            if self.path in ("/health", "/api/version"):
                seen["health"] += 1
                if seen["health"] <= loading:
                    status, body = 503, "loading"
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    print(f"{kind} serves on {host}:{port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
