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
seconds=${1:-15}
source "$(dirname "$0")/node.sh"

disk=$(basename "$(df --output=source "$data" | tail -1)")
# Waits until the log is flushed, so that its bytes count for the load that wrote them.
flushed() {
  sleep 2.5
  until curl -fs "$(field node admin_url)/metrics" |
    grep -q '^triggers_store_log_segments_sealed 0'; do sleep 0.2; done
}
written() {
  flushed
  sync
  awk -v disk="$disk" '$3 == disk {printf "%.0f", $10 * 512}' /proc/diskstats
}
load() { # mode connections [file with one key a line]
  local before peak=0 now rate result="$data/result"
  before=$(written)
  "$triggers" bench --json --url "$(field node url)" --keys-file "${3:-$data/key}" --mode "$1" \
    --connections "$2" --warmup 0 --duration "$seconds" >"$result" 2>/dev/null &
  local bench=$!
  while kill -0 "$bench" 2>/dev/null; do
    now=$(memory node)
    [ "$now" -gt "$peak" ] && peak=$now
    sleep 0.2
  done
  rate=$(number events_per_second <"$result")
  printf '%-7s %4d connections: %7.0f events/s, p99 %s ms, longest %s ms, ' "$1" "$2" "$rate" \
    "$(number p99 <"$result")" "$(number max <"$result")"
  awk -v rate="$rate" -v s="$seconds" -v w=$(($(written) - before)) -v peak="$peak" \
    'BEGIN {printf "%.2f bytes written a byte, %d MiB at most\n", w / (rate * s * 1024), peak}'
}

tenants() {
  local of=(--url "$(field node url)" --key "$(field node admin_key)")
  for number in $(seq 100); do
    "$triggers" tenants create "${of[@]}" --id "load-$number" --name "load $number" >/dev/null
    "$triggers" keys create "${of[@]}" --tenant "load-$number" --name load \
      --rate-limit-per-minute 100000000 --json | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p'
  done
}

start_node node
field node api_key >"$data/key"
echo "idle: $(memory node) MiB"
# Creates the segments of the log, which happens once.
bench node --mode batch --connections 16 --duration 5 >/dev/null
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
bench node --mode batch --connections 16 --duration 60 >/dev/null &
bench=$!
sleep 5
kill_node node
kill "$bench"
begun=$(date +%s%N)
start_node node
echo "start after kill -9 under load: $(since "$begun") ms;" \
  "$(grep -o 'the log was read back.*' "$data/node.log" | tail -1)"
# The node flushes what it read back, and returns freed memory every ten seconds.
sleep 25
echo "idle after it: $(memory node) MiB;" \
  "data file $(($(stat -c %s "$data/node/data.mdb") >> 20)) MiB"
