#!/usr/bin/env bash
# The eight checks of the two-server demo, each ✓ or ✗. Exit status 0 only if all eight hold.
#
#   deploy/validate.sh IP1
#
# Runs on any machine that reaches both servers. It sends ten small chats, once all are registered:
# what was started just now has ten seconds. The cluster token is wanted, as in start-server2.sh:
# CRECHE_TOKEN_FILE=…, CRECHE_TOKEN=… or $CRECHE_HOME/cluster.token.
# REGISTRY_PORT and ROUTER_PORT as in start-server1.sh. Check 8 reads request ids in the engines'
# logs: mock engines (the default) write them, real ones may not, and then it fails honestly.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] && [ "${1#-}" = "$1" ] || usage
is_address "$1" || die "$1 is no IPv4 address"
need_environment
if [ -n "${CRECHE_TOKEN_FILE:-}" ]; then
    unset CRECHE_TOKEN
else
    export CRECHE_TOKEN_FILE=$CRECHE_HOME/cluster.token
fi
exec "$PYTHON" "$ROOT/deploy/validate.py" "http://$1:$REGISTRY_PORT" "http://$1:$ROUTER_PORT"
