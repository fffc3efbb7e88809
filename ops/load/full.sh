#!/usr/bin/env bash
# Loads a node that holds many events in turn with one that holds few. Then kills the full one while
# it takes batches, and measures how long it takes to serve again.
#
#   ops/load/full.sh [MILLIONS] [ROUNDS] [SECONDS]      default: 10 million, 5 rounds of 4 seconds
#
# The nodes and the load generator share the machine. Each million events needs about 1.7 GB of disk
# and of page cache.
set -euo pipefail
cd "$(dirname "$0")/../.."
millions=${1:-10} rounds=${2:-5} seconds=${3:-4}
triggers=${TRIGGERS_BIN:-target/release/triggers}
[ -x "$triggers" ] || cargo build --release

data=$(mktemp -d)
declare -A nodes
trap 'kill -9 "${nodes[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$data"' EXIT
field() { sed -n "s/.*\"$2\": *\"\([^\"]*\)\".*/\1/p" "$data/$1/dev.json"; }
number() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p"; }
start_node() {
  mkdir -p "$data/$1"
  rm -f "$data/$1/dev.json"
  "$triggers" dev --data-dir "$data/$1" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >/dev/null 2>>"$data/$1.log" &
  nodes[$1]=$!
  until [ -s "$data/$1/dev.json" ] && curl -fs "$(field "$1" url)/readyz" >/dev/null; do sleep 0.02; done
}
load() { # node mode connections seconds
  "$triggers" bench --json --url "$(field "$1" url)" --key "$(field "$1" api_key)" --mode "$2" --connections "$3" --warmup 0 \
    --duration "$4" 2>/dev/null
}

start_node few
start_node many
load few batch 16 3 >/dev/null
held=0
while [ "$held" -lt $((millions * 1000000)) ]; do
  result=$(load many batch 16 10)
  rate=$(number events_per_second <<<"$result")
  held=$(awk "BEGIN {printf \"%d\", $held + $rate * 10}")
  anonymous=$(awk '/^RssAnon/ {printf "%d", $2 / 1024}' "/proc/${nodes[many]}/status")
  printf '%9d events held: %.0f events/s in batches of 100, p99 %s ms, RssAnon %d MiB after it\n' \
    "$held" "$rate" "$(number p99 <<<"$result")" "$anonymous"
done
sleep 3
for round in $(seq "$rounds"); do
  order="few many"
  [ $((round % 2)) = 0 ] && order="many few"
  for node in $order; do
    result=$(load "$node" single 64 "$seconds")
    printf '%s %.0f %s\n' "$node" "$(number events_per_second <<<"$result")" "$(number p99 <<<"$result")" >>"$data/results"
    # The node flushes its log after a second without writes; keep that out of the next measurement.
    sleep 2.5
  done
done
for node in few many; do
  echo "single POST, 64 connections, $node events held: $(awk -v node=$node '$1 == node {printf "%s/s (p99 %s ms) ", $2, $3}' "$data/results")"
done

"$triggers" bench --url "$(field many url)" --key "$(field many api_key)" --mode batch --connections 16 --duration 60 >/dev/null 2>&1 &
bench=$!
sleep 5
disown "${nodes[many]}"
kill -9 "${nodes[many]}"
kill "$bench"
while kill -0 "${nodes[many]}" 2>/dev/null; do sleep 0.01; done
begun=$(date +%s%N)
start_node many
echo "start after kill -9: $((($(date +%s%N) - begun) / 1000000)) ms; $(grep -o 'the log was read back.*' "$data/many.log" | tail -1)"
