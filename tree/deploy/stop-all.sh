#!/usr/bin/env bash
# Stops what start-server1.sh and start-server2.sh started on this machine, and checks that nothing
# is left of it.
#
#   deploy/stop-all.sh
#
# The router first, so that nobody is sent to an engine that ends; then babysitters, which stop
# their engines; the registry last. Configs, logs and the token stay. Safe to run again.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 0 ] || usage

stopped=0
for name in router babysitter-a babysitter-b babysitter-c babysitter-d registry; do
    for HERE in "$CRECHE_HOME"/server-1 "$CRECHE_HOME"/server-2; do
        pid=$(pid_of "$name")
        stop "$name"
        if [ -n "$pid" ]; then say "✓" "$name stopped"; stopped=$((stopped + 1)); fi
    done
done

# A babysitter that was killed with -9 leaves its engines alive, to be adopted by its successor.
left=$(marked)
if [ -n "$left" ]; then
    say "!" "$(wc -w <<<"$left") left behind by babysitters that ended otherwise: ending them"
    # shellcheck disable=SC2086
    kill $left 2>/dev/null || true
    deadline=$((SECONDS + 10))
    while left=$(marked); [ -n "$left" ]; do
        # shellcheck disable=SC2086
        [ $SECONDS -lt $deadline ] || kill -9 $left 2>/dev/null || true
        sleep 0.1
    done
fi
[ "$stopped" -gt 0 ] || say "·" "nothing was running"
say "✓" "nothing left running"
