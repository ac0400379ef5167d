# Every verb does its own set-up. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help up test test-quick check format bench-quick bench-times lock docs clean
PY := .venv/bin/python
PORT ?= 8000
UP_ARGS = --port '$(PORT)' --gguf '$(GGUF)' --registry-port '$(REGISTRY_PORT)'

help: ## list the verbs
	@printf 'Creche: the control plane for your own LLM servers\n\n'
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n  make up PORT=8010 GGUF=/path/model.gguf    another port, a model of yours\n'

up: ## run registry, router and a babysitter with a real llama.cpp server; Ctrl-C stops all
	@scripts/setup.sh demo
	@exec $(PY) scripts/up.py $(UP_ARGS)

test: ## all tests, on real processes (minutes)
	@scripts/setup.sh dev
	@scripts/setup.sh node
	@scripts/setup.sh valkey
	@scripts/setup.sh apt systemd-analyze=systemd nginx=nginx-light redis-server=redis-server slowhttptest=slowhttptest faketime=faketime
	@scripts/test.sh $(ARGS)

test-quick: ## the tests that start no process (seconds)
	@scripts/setup.sh dev
	@$(PY) -m pytest -q -m 'not real' $(ARGS)

check: ## what CI checks besides tests: format, lint, types, import arrows, generated docs
	@scripts/setup.sh dev
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@$(PY) scripts/docs.py --check

format: ## format the code and mend what the linter can
	@scripts/setup.sh dev
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

docs: ## write docs/config-reference.md from the config Structs
	@scripts/setup.sh dev
	@$(PY) scripts/docs.py

bench-quick: ## CPU per request and per event: our router, nginx and a direct call, in one run
	@scripts/setup.sh dev
	@scripts/setup.sh apt nginx=nginx-light taskset=util-linux
	@$(PY) -m bench.quick $(ARGS)

bench-times: ## how long after: a departure, a registration, an engine's death
	@scripts/setup.sh dev
	@$(PY) -m bench.times $(ARGS)

lock: ## pin every dependency anew (ARGS=--upgrade for newer versions)
	@scripts/lock.sh $(ARGS)

clean: ## remove the environment, demo data and caches
	@if [ -f .creche/up.pid ] && kill -0 "$$(cat .creche/up.pid)" 2>/dev/null; then \
	    echo "make up is running (pid $$(cat .creche/up.pid)): stop it with Ctrl-C first"; exit 1; fi
	rm -rf .venv .creche build dist bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/clients/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
