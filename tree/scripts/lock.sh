#!/usr/bin/env bash
# Writes requirements/*.lock: every dependency pinned, every file hashed, for all platforms and
# Pythons from 3.11 on. Names no index host: the locks install from whichever index pip is set to.
# usage: scripts/lock.sh [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" -q install 'uv>=0.9'
lock() { # NAME [extra args]
    name=$1; shift
    (cd requirements && "$tools/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
        --output-file "$name.lock" "$@" "$name.in")
}
lock dev "$@"
# The smaller locks take the same versions as the large one.
lock demo --constraints dev.lock
lock runtime --constraints dev.lock
# A server for tests, of which only the program is wanted.
lock valkey --no-deps
