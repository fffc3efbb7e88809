#!/usr/bin/env bash
# Measures the embedded store of a node: bytes written to disk for each byte accepted, memory under
# load and idle, stalls, a hundred tenants, a load whose events are mostly acknowledged at once, and
# the time of a start after kill -9 with a full log.
#
#   ops/load/storage.sh [SECONDS]      default: 15 seconds of each load
#
# The node and the load generator share the machine. Bytes written are those of the whole disk, from
# /proc/diskstats, because the kernel counts the writes of a process in whole folios of the page
# cache. Payloads have 1 KiB.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-15}
triggers=${TRIGGERS_BIN:-target/release/triggers}
[ -x "$triggers" ] || cargo build --release

data=$(mktemp -d)
trap 'kill -9 "$node" 2>/dev/null; rm -rf "$data"' EXIT
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$data/node/dev.json"; }
number() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p"; }
start_node() {
  rm -f "$data/node/dev.json"
  "$triggers" dev --data-dir "$data/node" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >/dev/null 2>>"$data/log" &
  node=$!
  until [ -s "$data/node/dev.json" ] && curl -fs "$(field url)/readyz" >/dev/null; do sleep 0.02; done
}
resident() { awk '/^RssAnon/ {printf "%d", $2 / 1024}' "/proc/$node/status"; }
disk=$(basename "$(df --output=source "$data" | tail -1)")
# Waits until the log is flushed, so that its bytes count for the load that wrote them.
flushed() {
  sleep 2.5
  until curl -fs "$(field admin_url)/metrics" | grep -q '^triggers_store_log_segments_sealed 0'; do sleep 0.2; done
}
written() { flushed && sync && awk -v disk="$disk" '$3 == disk {printf "%.0f", $10 * 512}' /proc/diskstats; }
load() { # mode connections [file with one key a line]
  local before peak=0 result="$data/result"
  before=$(written)
  "$triggers" bench --json --url "$(field url)" --keys-file "${3:-$data/key}" --mode "$1" --connections "$2" --warmup 0 \
    --duration "$seconds" >"$result" 2>/dev/null &
  local bench=$!
  while kill -0 "$bench" 2>/dev/null; do
    local now
    now=$(resident)
    [ "$now" -gt "$peak" ] && peak=$now
    sleep 0.2
  done
  local rate
  rate=$(number events_per_second <"$result")
  awk -v mode="$1" -v n="$2" -v rate="$rate" -v s="$seconds" -v w=$(($(written) - before)) -v peak="$peak" \
    -v p99="$(number p99 <"$result")" -v max="$(number max <"$result")" \
    'BEGIN {printf "%-7s %4d connections: %7.0f events/s, p99 %s ms, longest %s ms, %.2f bytes written a byte, %d MiB at most\n",
      mode, n, rate, p99, max, w / (rate * s * 1024), peak}'
}

tenants() {
  local of=(--url "$(field url)" --key "$(field admin_key)")
  for number in $(seq 100); do
    "$triggers" tenants create "${of[@]}" --id "load-$number" --name "load $number" >/dev/null
    "$triggers" keys create "${of[@]}" --tenant "load-$number" --name load --rate-limit-per-minute 100000000 --json |
      sed -n 's/.*"key": *"\([^"]*\)".*/\1/p'
  done
}

mkdir "$data/node"
start_node
field api_key >"$data/key"
echo "idle: $(resident) MiB"
# Creates the segments of the log, which happens once.
"$triggers" bench --url "$(field url)" --keys-file "$data/key" --mode batch --connections 16 --duration 5 >/dev/null 2>&1
load single 64
load single 256
load batch 16
echo "a hundred tenants:"
tenants >"$data/keys"
load single 64 "$data/keys"
load single 256 "$data/keys"
load batch 16 "$data/keys"
echo "nine of ten acknowledged, three times in a row:"
load drain 64
load drain 64
load drain 64
disown "$node"
"$triggers" bench --url "$(field url)" --keys-file "$data/key" --mode batch --connections 16 --duration 60 >/dev/null 2>&1 &
bench=$!
sleep 5
kill -9 "$node"
kill "$bench"
while kill -0 "$node" 2>/dev/null; do sleep 0.01; done
begun=$(date +%s%N)
start_node
echo "start after kill -9 under load: $((($(date +%s%N) - begun) / 1000000)) ms; $(grep -o 'the log was read back.*' "$data/log" | tail -1)"
# The node flushes what it read back, and returns freed memory every ten seconds.
sleep 25
echo "idle after it: $(resident) MiB; data file $(($(stat -c %s "$data/node/data.mdb") >> 20)) MiB"
