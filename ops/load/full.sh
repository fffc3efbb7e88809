#!/usr/bin/env bash
# Loads a node that holds many events in turn with one that holds few. Then kills the full one while
# it takes batches, and measures how long it takes to serve again.
#
#   ops/load/full.sh [MILLIONS] [ROUNDS] [SECONDS]      default: 10 million, 5 rounds of 4 seconds
#
# The nodes and the load generator share the machine. Each million events needs about 1.7 GB of disk
# and of page cache.
set -euo pipefail
millions=${1:-10} rounds=${2:-5} seconds=${3:-4}
source "$(dirname "$0")/node.sh"

start_node few
start_node many
bench few --mode batch --connections 16 --duration 3 >/dev/null
held=0
while [ "$held" -lt $((millions * 1000000)) ]; do
  result=$(bench many --mode batch --connections 16 --duration 10)
  rate=$(number events_per_second <<<"$result")
  held=$(awk "BEGIN {printf \"%d\", $held + $rate * 10}")
  printf '%9d events held: %.0f events/s in batches of 100, p99 %s ms, RssAnon %d MiB after it\n' \
    "$held" "$rate" "$(number p99 <<<"$result")" "$(memory many)"
done
sleep 3
for round in $(seq "$rounds"); do
  order="few many"
  [ $((round % 2)) = 0 ] && order="many few"
  for node in $order; do
    result=$(bench "$node" --connections 64 --duration "$seconds")
    printf '%s %.0f %s\n' "$node" "$(number events_per_second <<<"$result")" \
      "$(number p99 <<<"$result")" >>"$data/results"
    # The node flushes its log after a second without writes; keep that out of the next measurement.
    sleep 2.5
  done
done
for node in few many; do
  rates=$(awk -v node=$node '$1 == node {printf "%s/s (p99 %s ms) ", $2, $3}' "$data/results")
  echo "single POST, 64 connections, $node events held: $rates"
done

bench many --mode batch --connections 16 --duration 60 >/dev/null &
load=$!
sleep 5
kill_node many
kill "$load"
begun=$(date +%s%N)
start_node many
echo "start after kill -9: $(since "$begun") ms;" \
  "$(grep -o 'the log was read back.*' "$data/many.log" | tail -1)"
