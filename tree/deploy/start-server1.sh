#!/usr/bin/env bash
# Server 1 of the demo: registry, router, babysitter-a (model-1) and babysitter-b (model-2).
#
#   deploy/start-server1.sh IP1
#
# IP1 is this machine's address that server 2 and clients reach. Then, on server 2:
# deploy/start-server2.sh IP1 IP2, and from anywhere: deploy/validate.sh IP1. On one machine:
# 127.0.0.1 and 127.0.0.2. Safe to run again: what runs with the same config is left alone.
#
# The first run makes the cluster token, $CRECHE_HOME/cluster.token; server 2 needs the same one.
# Environment, with defaults: CRECHE_HOME=.creche/deploy  REGISTRY_PORT=18000  ROUTER_PORT=8000
#   ENGINE_PORT_1=8100  ENGINE_PORT_2=8200 (babysitters listen one above)  READY_TIMEOUT_S=600
#   ENGINE_KIND=mock; a real one: ENGINE_KIND=vllm MODEL_1=/models/a MODEL_2=/models/b
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] && [ "${1#-}" = "$1" ] || usage
IP1=$1
need_environment
need_own_address "$IP1"
server server-1

if [ ! -s "$CRECHE_HOME/cluster.token" ]; then
    (umask 077 && "$PYTHON" -c 'import secrets; print(secrets.token_hex(32))' >"$CRECHE_HOME/cluster.token")
    say "✓" "cluster token  made: $CRECHE_HOME/cluster.token"
fi

put "$HERE/registry.toml" <<TOML
listen     = "$IP1:$REGISTRY_PORT"
token_file = "$CRECHE_HOME/cluster.token"
state_dir  = "$HERE/state/registry"
TOML
put "$HERE/router.toml" <<TOML
listen      = "$IP1:$ROUTER_PORT"
registries  = ["http://$IP1:$REGISTRY_PORT"]
token_file  = "$CRECHE_HOME/cluster.token"
client_keys = "none"                # a demo: anyone who reaches the port may use the models
state_dir   = "$HERE/state/router"
TOML
babysitter_config babysitter-a engine-a "$IP1" "$ENGINE_PORT_1" model-1 "$MODEL_1" "$IP1"
babysitter_config babysitter-b engine-b "$IP1" "$ENGINE_PORT_2" model-2 "$MODEL_2" "$IP1"

start registry registry "http://$IP1:$REGISTRY_PORT/health" "http://$IP1:$REGISTRY_PORT" REGISTRY_PORT
start router router "http://$IP1:$ROUTER_PORT/ready" "http://$IP1:$ROUTER_PORT" ROUTER_PORT
start babysitter-a babysitter "http://$IP1:$((ENGINE_PORT_1 + 1))/health" "engine-a, model-1, port $ENGINE_PORT_1" ENGINE_PORT_1
start babysitter-b babysitter "http://$IP1:$((ENGINE_PORT_2 + 1))/health" "engine-b, model-2, port $ENGINE_PORT_2" ENGINE_PORT_2

cat <<TEXT

Server 1 is ready.   Logs: $HERE/log
Server 2, on another machine:
  scp $CRECHE_HOME/cluster.token SERVER2:/tmp/cluster.token
  CRECHE_TOKEN_FILE=/tmp/cluster.token deploy/start-server2.sh $IP1 IP2
Server 2, on this machine:   deploy/start-server2.sh $IP1 127.0.0.2
TEXT
