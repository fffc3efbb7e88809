#!/usr/bin/env bash
# Measures webhooks on a fresh node: their latency, alone and beside another tenant's endpoint that
# hangs, and the memory that a great number of waiting webhooks takes.
#
#   ops/load/webhooks.sh [SECONDS] [WAITING]    default: 15 seconds each, 1,000,000 waiting
#
# Node, receivers and load generator share the machine. The latency of a delivery is the time from
# the acceptance of the event (in its id, whole milliseconds) to its arrival at the receiver. Needs
# python3.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-15} waiting=${2:-1000000}
triggers=${TRIGGERS_BIN:-target/release/triggers}
[ -x "$triggers" ] || cargo build --release

data=$(mktemp -d)
jobs_of_ours=()
trap 'kill "${jobs_of_ours[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$data"' EXIT
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$data/node/dev.json"; }
start_node() {
  rm -f "$data/node/dev.json"
  "$triggers" dev --data-dir "$data/node" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >/dev/null 2>>"$data/log" &
  node=$!
  jobs_of_ours+=("$node")
  until [ -s "$data/node/dev.json" ] && curl -fs "$(field url)/readyz" >/dev/null; do sleep 0.02; done
}
# Creates a tenant and prints a key for it.
tenant() {
  "$triggers" tenants create --url "$(field url)" --key "$(field admin_key)" --id "$1" --name "$1" >/dev/null 2>&1
  "$triggers" keys create --url "$(field url)" --key "$(field admin_key)" --name load --tenant "$1" \
    --rate-limit-per-minute 100000000 2>/dev/null
}
total() { # key status
  curl -fs "$(field url)/v1/inbox?limit=1&status=$2" -H "X-API-Key: $1" |
    python3 -c 'import json,sys; print(json.load(sys.stdin)["pagination"]["total_count"])'
}
fill() { # key events
  while [ "$(total "$1" queued)" -lt "$2" ]; do
    "$triggers" bench --url "$(field url)" --key "$1" --mode batch --batch-size 500 --connections 4 --warmup 0 \
      --payload-bytes 256 --duration 2 >/dev/null 2>&1
  done
}
# Sends 1,000 events a second of a tenant to a receiver; prints mean, p50, p95, p99 of the delivery
# in milliseconds.
latency() { # key name
  "$triggers" listen --json --url "$(field url)" --key "$1" >"$data/$2" 2>/dev/null &
  local listener=$!
  until curl -fs "$(field url)/v1/subscriptions" -H "X-API-Key: $1" | grep -q target_url; do sleep 0.05; done
  "$triggers" bench --url "$(field url)" --key "$1" --connections 16 --rate 1000 --warmup 0 --payload-bytes 256 \
    --duration "$seconds" >/dev/null 2>&1
  until [ "$(total "$1" queued)" = 0 ]; do sleep 0.05; done
  kill -INT $listener && wait $listener 2>/dev/null
  python3 - "$data/$2" <<'PYTHON'
import json, sys
from datetime import datetime
millis = lambda text: datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000
waits = sorted(millis(l["received_at"]) - int(l["webhook_id"].replace("-", "")[:12], 16) for l in map(json.loads, open(sys.argv[1])))
quantile = lambda q: waits[min(len(waits) - 1, int(len(waits) * q))]
print(f"{sum(waits) / len(waits):.1f}", *(f"{quantile(q):.0f}" for q in (0.5, 0.95, 0.99)), len(waits))
PYTHON
}

start_node
quiet=$(tenant quiet) hanging=$(tenant hanging)
printf '%-34s %8s %6s %6s %6s %8s\n' 'delivery at 1,000 events/s' mean_ms p50_ms p95_ms p99_ms events
# An endpoint that hangs: the system accepts connections, and no program ever reads or answers.
python3 -c 'import socket,time; s=socket.socket(); s.bind(("127.0.0.1",0)); s.listen(4096); print(s.getsockname()[1],flush=True); time.sleep(86400)' >"$data/port" &
jobs_of_ours+=($!)
until [ -s "$data/port" ]; do sleep 0.05; done
for round in 1 2 3; do
  printf '%-34s %8s %6s %6s %6s %8s\n' "alone" $(latency "$quiet" "alone$round")
done
"$triggers" subscriptions create --url "$(field url)" --key "$hanging" --target-url "http://127.0.0.1:$(cat "$data/port")/" \
  >/dev/null 2>&1
fill "$hanging" 100000
for round in 1 2 3; do
  printf '%-34s %8s %6s %6s %6s %8s\n' "beside $(total "$hanging" queued) that hang" $(latency "$quiet" "beside$round")
done

# A closed port: every attempt fails at once, and the breaker pauses the subscription.
dead=$(tenant dead)
"$triggers" subscriptions create --url "$(field url)" --key "$dead" --target-url http://127.0.0.1:9/ \
  --retry-delays 3600,3600,3600 >/dev/null 2>&1
fill "$dead" "$waiting"
memory() { awk '/RssAnon/ {printf "%.0f", $2 / 1024}' "/proc/$node/status"; }
printf '\n%s webhooks wait: node has %s MiB of its own' "$(total "$dead" queued)" "$(memory)"
kill -9 "$node" && wait "$node" 2>/dev/null || true
began=$(date +%s%N)
start_node
printf '; after kill -9 it is ready in %s ms' $((($(date +%s%N) - began) / 1000000))
sleep 30
printf ', and has %s MiB half a minute later\n' "$(memory)"
