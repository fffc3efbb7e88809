#!/usr/bin/env bash
# Measures webhooks on a fresh node: their latency, alone and beside endpoints that hang (one of
# another tenant, one of the same tenant, four of other tenants, which may have 1,000 webhooks in
# flight each), and the memory that a great number of waiting webhooks takes.
#
#   ops/load/webhooks.sh [SECONDS] [WAITING]    default: 15 seconds each, 1,000,000 waiting
#
# Node, receivers and load generator share the machine. The latency of a delivery is the time from
# the acceptance of the event (in its id, whole milliseconds) to its arrival at the receiver. Needs
# python3.
set -euo pipefail
seconds=${1:-15} waiting=${2:-1000000}
source "$(dirname "$0")/node.sh"

get() { # key path
  curl -fs "$(field node url)$2" -H "X-API-Key: $1"
}
load() { # key arguments
  "$triggers" bench --url "$(field node url)" --key "$1" --warmup 0 --payload-bytes 256 "${@:2}" \
    >/dev/null 2>&1
}
queued() { # key
  get "$1" '/v1/inbox?limit=1&status=queued' |
    python3 -c 'import json,sys; print(json.load(sys.stdin)["pagination"]["total_count"])'
}
fill() { # key events
  while [ "$(queued "$1")" -lt "$2" ]; do
    load "$1" --mode batch --batch-size 500 --connections 4 --duration 2
  done
}
# Subscribes a tenant's endpoint that hangs and may have 1,000 webhooks in flight; 20,000 are due.
hog() { # key
  subscribe node "$1" "$(cat "$data/port")" --type hang.event --max-in-flight 1000
  for _ in {1..40}; do
    curl -fs "$(field node url)/v1/events/batch" -H "X-API-Key: $1" \
      -H 'Content-Type: application/json' --data-binary "@$data/batch" >/dev/null
  done
}
# Sends 1,000 events a second of a tenant to a receiver; prints a line with mean, p50, p95, p99 of
# the delivery in milliseconds, and the number of events.
latency() { # key label
  local listener figures before
  before=$(queued "$1")
  "$triggers" listen --json --url "$(field node url)" --key "$1" >"$data/received" 2>/dev/null &
  listener=$!
  until get "$1" /v1/subscriptions | grep -q '"event_types":\[\]'; do sleep 0.05; done
  load "$1" --connections 16 --rate 1000 --duration "$seconds"
  until [ "$(queued "$1")" -le "$before" ]; do sleep 0.05; done
  kill -INT $listener && wait $listener 2>/dev/null
  figures=$(python3 - "$data/received" <<'PYTHON'
import json, sys
from datetime import datetime

def wait_ms(line):
    received = datetime.fromisoformat(line["received_at"].replace("Z", "+00:00"))
    accepted_ms = int(line["webhook_id"].replace("-", "")[:12], 16)
    return received.timestamp() * 1000 - accepted_ms

waits = sorted(wait_ms(json.loads(line)) for line in open(sys.argv[1]))
quantiles = [waits[min(len(waits) - 1, int(len(waits) * q))] for q in (0.5, 0.95, 0.99)]
print(f"{sum(waits) / len(waits):.1f}", *(f"{wait:.0f}" for wait in quantiles), len(waits))
PYTHON
  )
  printf "$row" "$2" $figures
}

start_node node
quiet=$(tenant node quiet) hanging=$(tenant node hanging) dead=$(tenant node dead)
row='%-34s %8s %6s %6s %6s %8s\n'
printf "$row" 'delivery at 1,000 events/s' mean_ms p50_ms p95_ms p99_ms events
# An endpoint that hangs: the system accepts connections, and no program ever reads or answers.
python3 - >"$data/port" <<'PYTHON' &
import socket, time
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(listener.getsockname()[1], flush=True)
time.sleep(86400)
PYTHON
helpers+=($!)
until [ -s "$data/port" ]; do sleep 0.05; done
for round in 1 2 3; do latency "$quiet" alone; done
subscribe node "$hanging" "$(cat "$data/port")"
fill "$hanging" 100000
for round in 1 2 3; do latency "$quiet" "beside $(queued "$hanging") that hang"; done

python3 -c 'import json; print(json.dumps({"events": [
  {"event_type": "hang.event", "payload": {}}] * 500}))' >"$data/batch"
hog "$quiet"
for round in 1 2 3; do latency "$quiet" "beside 1,000 of its own tenant"; done
for number in 1 2 3 4; do hog "$(tenant node "hog-$number")"; done
for round in 1 2 3; do latency "$quiet" "beside four such tenants as well"; done

# A closed port: every attempt fails at once, and the breaker pauses the subscription.
subscribe node "$dead" 9 --retry-delays 3600,3600,3600
fill "$dead" "$waiting"
printf '\n%s webhooks wait: the node has %s MiB' "$(queued "$dead")" "$(memory node)"
kill_node node
begun=$(date +%s%N)
start_node node
printf '; after kill -9 it is ready in %s ms' "$(since "$begun")"
sleep 30
printf ', and has %s MiB half a minute later\n' "$(memory node)"
