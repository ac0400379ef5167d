#!/usr/bin/env bash
# All tests, in three lanes at once: most of a test's time is one process that starts.
#   1  those that start processes, of the folders in FIRST      2  of all other folders
#   3  those that start none
# usage: scripts/test.sh            all, and what each lane says
#        scripts/test.sh ARGS...    pytest with these
set -uo pipefail
cd "$(dirname "$0")/.."
PY=.venv/bin/python
FIRST=(tests/integration tests/ctl tests/clients tests/deploy)
[ $# = 0 ] || exec "$PY" -m pytest "$@"

said=$(mktemp -d)
lanes=()
trap '[ ${#lanes[@]} = 0 ] || kill "${lanes[@]}" 2>/dev/null; rm -rf "$said"' EXIT
"$PY" -m pytest -m real "${FIRST[@]}" >"$said/1" 2>&1 &
lanes+=($!)
"$PY" -m pytest -q --hypothesis-profile=creche -m 'not real' >"$said/3" 2>&1 &
lanes+=($!)
"$PY" -m pytest -m real "${FIRST[@]/#/--ignore=}"
failed=$?
for lane in "${lanes[@]}"; do wait "$lane" || failed=1; done
lanes=() # their numbers may be others' from now on
for lane in 1 3; do
    printf '\nlane %s\n' "$lane"
    cat "$said/$lane"
done
exit "$failed"
