#!/usr/bin/env bash
# Server 2 of the demo: babysitter-c (model-1) and babysitter-d (model-2), registered at server 1.
#
#   deploy/start-server2.sh IP1 IP2
#
# IP1 is server 1's address, IP2 this machine's. The cluster token that server 1 made is wanted, in
# one of these ways (the first that is there wins, and is kept for later runs):
#   CRECHE_TOKEN_FILE=/path/cluster.token    a copy of server 1's file
#   CRECHE_TOKEN=…                           its text
#   $CRECHE_HOME/cluster.token               from an earlier run, or server 1 on this same machine
# Safe to run again. The rest of the environment is as in start-server1.sh.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 2 ] && [ "${1#-}" = "$1" ] || usage
IP1=$1 IP2=$2
need_environment
is_address "$IP1" || die "$IP1 is no IPv4 address"
need_own_address "$IP2"
[ "$IP1" != "$IP2" ] || die "both servers have the address $IP1" \
    "Their engines would want the same ports. On one machine:  127.0.0.1 and 127.0.0.2"
server server-2

kept=$CRECHE_HOME/cluster.token
token=
if [ -n "${CRECHE_TOKEN_FILE:-}" ]; then
    [ -r "$CRECHE_TOKEN_FILE" ] || die "the token file $CRECHE_TOKEN_FILE cannot be read"
    token=$(cat "$CRECHE_TOKEN_FILE")
elif [ -n "${CRECHE_TOKEN:-}" ]; then
    token=$CRECHE_TOKEN
elif [ -s "$kept" ]; then
    token=$(cat "$kept")
fi
[ -n "$token" ] || die "the cluster token is missing" \
    "Server 1 made it. Bring it here:  scp SERVER1:…/cluster.token /tmp/" \
    "then:  CRECHE_TOKEN_FILE=/tmp/cluster.token $0 $IP1 $IP2"

# Tried before it is kept: a wrong one must not take the place of a good one. It goes in by standard
# input, never on a command line.
registry=http://$IP1:$REGISTRY_PORT
status=$(curl -s -o /dev/null -m 5 --noproxy '*' -w '%{http_code}' -K - "$registry/services" <<CURL || true
header = "Authorization: Bearer $token"
CURL
)
case $status in
    200) ;;
    401 | 403) die "server 1 refuses this token" "Bring its cluster.token here anew (see --help)" ;;
    *) die "server 1's registry does not answer at $registry" \
        "There first:  deploy/start-server1.sh $IP1    (and is port $REGISTRY_PORT open?)" ;;
esac
put "$kept" <<<"$token"

babysitter_config babysitter-c engine-c "$IP2" "$ENGINE_PORT_1" model-1 "$MODEL_1" "$IP1"
babysitter_config babysitter-d engine-d "$IP2" "$ENGINE_PORT_2" model-2 "$MODEL_2" "$IP1"
start babysitter-c babysitter "http://$IP2:$((ENGINE_PORT_1 + 1))/health" "engine-c, model-1, port $ENGINE_PORT_1" ENGINE_PORT_1
start babysitter-d babysitter "http://$IP2:$((ENGINE_PORT_2 + 1))/health" "engine-d, model-2, port $ENGINE_PORT_2" ENGINE_PORT_2

cat <<TEXT

Server 2 is ready.   Logs: $HERE/log
Check the whole:   deploy/validate.sh $IP1
TEXT
