# What the scripts beside this share. Sourced, never run.
#
# Everything lives in $CRECHE_HOME (default .creche/deploy in the checkout), one folder per server:
#   server-1/registry.toml, router.toml, babysitter-a.toml …    configs, written by the scripts
#   server-1/run/NAME.pid   server-1/log/NAME.log   server-1/state/NAME/
#   cluster.token                                                made by server 1
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
CRECHE_HOME=${CRECHE_HOME:-$ROOT/.creche/deploy}

REGISTRY_PORT=${REGISTRY_PORT:-18000}
ROUTER_PORT=${ROUTER_PORT:-8000}
ENGINE_PORT_1=${ENGINE_PORT_1:-8100}
ENGINE_PORT_2=${ENGINE_PORT_2:-8200}
# Real engines instead of mock ones: ENGINE_KIND=vllm MODEL_1=/models/… MODEL_2=/models/…
ENGINE_KIND=${ENGINE_KIND:-mock}
MODEL_1=${MODEL_1:-}
MODEL_2=${MODEL_2:-}
READY_TIMEOUT_S=${READY_TIMEOUT_S:-600}
STOP_TIMEOUT_S=${STOP_TIMEOUT_S:-60}

say() { printf '  %s %s\n' "$1" "$2"; }
die() { printf '✗ %s\n' "$1" >&2; shift; for line in "$@"; do printf '    %s\n' "$line" >&2; done; exit 1; }
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 64; }

need_environment() {
    [ -x "$PYTHON" ] || die "there is no Python environment at $PYTHON" \
        "Make it:  $ROOT/scripts/setup.sh demo    or name one:  PYTHON=/opt/creche/venv/bin/python"
    command -v curl >/dev/null || die "curl is missing" "Install it:  apt-get install -y curl"
    case $ENGINE_KIND in
        mock) ;;
        *) [ -n "$MODEL_1" ] && [ -n "$MODEL_2" ] || die "ENGINE_KIND=$ENGINE_KIND needs models" \
            "Name both:  MODEL_1=/models/… MODEL_2=/models/…" ;;
    esac
}

is_address() { [[ $1 =~ ^[0-9]{1,3}(\.[0-9]{1,3}){3}$ ]]; }

# need_own_address IP : refuses an address that this machine does not have
need_own_address() {
    is_address "$1" || die "$1 is no IPv4 address"
    "$PYTHON" -c 'import socket, sys; socket.socket().bind((sys.argv[1], 0))' "$1" 2>/dev/null \
        || die "$1 is not an address of this machine" "Its addresses:  $(hostname -I 2>/dev/null)127.0.0.1"
}

# server NAME : from here on, things are of this server
server() {
    SERVER=$1
    HERE=$CRECHE_HOME/$SERVER
    (umask 077 && mkdir -p "$HERE/run" "$HERE/log" "$HERE/state")
}

# ---- configs ------------------------------------------------------------------------------------

# put FILE : standard input becomes FILE; it is left alone where nothing changed, so that a daemon
# whose config is older than its start need not be started again
put() {
    local new=$1.new
    (umask 077 && cat >"$new")
    if [ -f "$1" ] && cmp -s "$new" "$1"; then rm -f "$new"; else mv "$new" "$1"; fi
}

# babysitter_config NAME ENGINE IP PORT MODEL MODEL_FILE REGISTRY_IP : one babysitter with one engine
babysitter_config() {
    local model=
    [ -z "$6" ] || model="model  = \"$6\""
    put "$HERE/$1.toml" <<TOML
name       = "$1"
listen     = "$3:$(($4 + 1))"
registries = ["http://$7:$REGISTRY_PORT"]
token_file = "$CRECHE_HOME/cluster.token"
advertise  = "$3"
state_dir  = "$HERE/state/$1"

[host]
name = "$SERVER"                 # the engine registers as $2@$SERVER

[[engine]]
name   = "$2"
kind   = "$ENGINE_KIND"
models = ["$5"]
$model
host   = "$3"
port   = $4
ready_timeout_s = $READY_TIMEOUT_S
TOML
}

# need_free_port NAME URL VARIABLE : refuses where something listens there already. Another fleet that
# answers at our URL would pass for ours while our own daemon ends.
need_free_port() {
    local owner
    owner=$(cd "$ROOT" && "$PYTHON" - "$2" <<'PY'
import socket, sys
from urllib.parse import urlsplit

from common import procnet

url = urlsplit(sys.argv[1])
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((url.hostname, url.port))
        probe.listen(1)
    except OSError as error:
        owner = procnet.owner_of(url.port)
        words = f"{url.netloc} is taken by {owner or 'a process that cannot be seen from here'}"
        if not isinstance(error, PermissionError):
            print(words)
PY
    ) || die "$1: whether its port is free could not be asked of $PYTHON" \
        "Is Creche installed there?  $ROOT/scripts/setup.sh demo"
    [ -z "$owner" ] || die "$1  $owner" "Stop that, or choose another:  $3=…"
}

# ---- daemons ------------------------------------------------------------------------------------

# pid_of NAME : the pid of a running NAME; nothing where its pid file is stale or the pid is another's
pid_of() {
    local pid
    pid=$(cat "$HERE/run/$1.pid" 2>/dev/null) || return 0
    # in braces: the shell itself reports a file that is not there, and a stale pid is no news
    if { tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF "$HERE/$1.toml"; } 2>/dev/null; then echo "$pid"; fi
}

# start NAME MODULE URL WHAT VARIABLE : start it unless it runs, and wait until URL answers 200.
# VARIABLE is what sets its port.
start() {
    local name=$1 module=$2 url=$3 what=$4 pid began
    began=$(date +%s%N)
    pid=$(pid_of "$name")
    if [ -n "$pid" ] && [ "$HERE/$name.toml" -nt "$HERE/run/$name.pid" ]; then
        say "…" "$name has a new config: starting it again"
        stop "$name"
        pid=
    fi
    if [ -n "$pid" ]; then
        wait_ready "$name" "$pid" "$url"
        say "✓" "$(printf '%-14s %-34s already running (pid %s)' "$name" "$what" "$pid")"
        return
    fi
    need_free_port "$name" "$url" "$5"
    [ ! -f "$HERE/log/$name.log" ] || mv "$HERE/log/$name.log" "$HERE/log/$name.log.1"
    # A session of its own: it outlives this shell and its terminal.
    # The mark in its environment, inherited by engines and shims, is how stop-all.sh finds them.
    (cd "$ROOT" && CRECHE_DEPLOY=$CRECHE_HOME exec setsid "$PYTHON" -m "$module" --config "$HERE/$name.toml" \
        </dev/null >"$HERE/log/$name.log" 2>&1) &
    pid=$!
    echo "$pid" >"$HERE/run/$name.pid"
    wait_ready "$name" "$pid" "$url"
    say "✓" "$(printf '%-14s %-34s %4.1f s' "$name" "$what" "$(seconds_since "$began")")"
}

seconds_since() { awk -v a="$1" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e9 }'; }

# wait_ready NAME PID URL : until URL answers 200; told with its log when it ends or takes too long
wait_ready() {
    local deadline=$((SECONDS + READY_TIMEOUT_S + 30))
    until [ "$(curl -s -o /dev/null -m 5 --noproxy '*' -w '%{http_code}' "$3")" = 200 ]; do
        if ! kill -0 "$2" 2>/dev/null; then
            tail -n 12 "$HERE/log/$1.log" >&2
            die "$1 ended before it was ready" "Whole log:  $HERE/log/$1.log"
        fi
        if [ $SECONDS -ge $deadline ]; then
            tail -n 12 "$HERE/log/$1.log" >&2
            die "$1 is not ready: $3 does not answer 200" "Whole log:  $HERE/log/$1.log"
        fi
        sleep 0.05
    done
}

# stop NAME : TERM, wait for its end, KILL when that takes too long
stop() {
    local pid deadline=$((SECONDS + STOP_TIMEOUT_S))
    pid=$(pid_of "$1")
    if [ -z "$pid" ]; then rm -f "$HERE/run/$1.pid"; return 0; fi
    kill "$pid" 2>/dev/null || true
    while [ -n "$(pid_of "$1")" ]; do
        if [ $SECONDS -ge $deadline ]; then
            say "!" "$1 (pid $pid) did not end in $STOP_TIMEOUT_S s: killed"
            kill -9 "$pid" 2>/dev/null || true
            break
        fi
        sleep 0.05
    done
    rm -f "$HERE/run/$1.pid"
}

# marked : pids of living processes of these scripts, engines and their shims included
marked() {
    local dir pid state
    for dir in /proc/[0-9]*; do
        pid=${dir#/proc/}
        { tr '\0' '\n' <"$dir/environ" | grep -qxF "CRECHE_DEPLOY=$CRECHE_HOME"; } 2>/dev/null || continue
        state=$(sed 's/.*) //; s/ .*//' "$dir/stat" 2>/dev/null)
        case $state in '' | Z | X) ;; *) echo "$pid" ;; esac
    done
}
