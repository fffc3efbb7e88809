#!/usr/bin/env bash
# Measures the cluster that `ops/cluster/local.sh` runs: the cost of forwarding through a node that
# does not serve the tenant, and how long a tenant is not served when its node drains and when it is
# killed.
#
#   TRIGGERS__LIMITS__RATE_LIMIT_PER_MINUTE=100000000 ops/cluster/local.sh      in another terminal
#   ops/load/cluster.sh [ROUNDS] [SECONDS]                default: 3 rounds of 5 seconds
#
# Nodes, database and load share the machine. The serving node and another one are loaded in turn,
# so that other load on the machine affects both. The serving node is drained, started, killed and
# started again.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3} seconds=${2:-5}
triggers=${TRIGGERS_BINARY:-target/release/triggers}
key=$(cat target/cluster/demo.key)
number() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p"; }

# The number of the node that serves the tenant of the key, as node N sees it.
owner() {
  curl -fs "http://127.0.0.1:$((9090 + $1))/v1/cluster" | python3 -c '
import hashlib, json, sys
partitions = json.load(sys.stdin)["partitions"]
demo = int.from_bytes(hashlib.sha256(b"demo").digest()[:8], "big") % partitions["count"]
owner = next(it["owner"] for it in partitions["owners"] if it["partition"] == demo)
print(owner.removeprefix("node-"))'
}
load() {
  "$triggers" bench --json --url "http://127.0.0.1:$((8080 + $1))" --key "$key" \
    --duration "$seconds" 2>/dev/null
}
pid() { pgrep -f "^$PWD/target/release/triggers serve|^$triggers serve" | while read -r it; do
  tr '\0' '\n' <"/proc/$it/environ" | grep -qx "TRIGGERS__NODE__NAME=node-$1" && echo "$it"; done; }
ready() { until curl -fs "http://127.0.0.1:$((8080 + $1))/readyz" >/dev/null; do sleep 0.2; done; }
balanced() { until [ "$(owner "$other")" = "$owner" ]; do sleep 0.2; done; }

owner=$(owner 1)
other=$((owner % 3 + 1)) third=$(((owner + 1) % 3 + 1))
printf '%5s %12s %12s %6s\n' round owner/s other/s ratio
for round in $(seq "$rounds"); do
  here=$(load "$owner" | number events_per_second) there=$(load "$other" | number events_per_second)
  printf '%5s %12.0f %12.0f %6.2f\n' "$round" "$here" "$there" \
    "$(awk "BEGIN {print $there / $here}")"
done
for signal in TERM KILL; do
  echo "SIG$signal to node-$owner, which serves the tenant; events through the two others:"
  python3 ops/load/stall.py 25 "$key" \
    "http://127.0.0.1:$((8080 + other))" "http://127.0.0.1:$((8080 + third))" &
  probe=$!
  sleep 3
  kill -s "$signal" "$(pid "$owner")"
  wait "$probe"
  ops/cluster/local.sh node "$owner" >/dev/null &
  ready "$owner"
  balanced
done
echo "node-$owner still runs as a job of this script; stop it together with the cluster"
