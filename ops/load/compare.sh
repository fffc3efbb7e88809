#!/usr/bin/env bash
# Measures a fresh node beside a bare axum handler on the same machine and prints the ratios.
#
#   ops/load/compare.sh [ROUNDS] [SECONDS]      default: 3 rounds of 5 seconds
#
# Each round loads the handler and the node in turn, so that other load on the machine affects both.
# The node and the load generator share the machine. Prints a table with one line a measurement, and
# medians at the end.
set -euo pipefail
rounds=${1:-3} seconds=${2:-5} warmup=1
source "$(dirname "$0")/node.sh"

median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
baseline() {
  "$triggers" bench --json --mode baseline --baseline-of "$1" --connections "$2" \
    --duration "$seconds" 2>/dev/null
}
load() { bench node --duration "$seconds" "$@"; }

start_node node
row='%-10s %5s %5s %12s %12s %7s %8s %8s\n'
printf "$row" mode conns round baseline/s node/s ratio p95_ms p99_ms
cases=("single 64" "single 256" "batch 16")
for case in "${cases[@]}"; do
  read -r mode connections <<<"$case"
  for round in $(seq "$rounds"); do
    b=$(baseline "$mode" "$connections" | number events_per_second)
    result=$(load --mode "$mode" --connections "$connections")
    n=$(number events_per_second <<<"$result")
    ratio=$(awk "BEGIN {printf \"%.3f\", $n / $b}")
    printf "$row" "$mode" "$connections" "$round" "${b%.*}" "${n%.*}" "$ratio" \
      "$(number p95 <<<"$result")" "$(number p99 <<<"$result")"
    echo "$mode $connections $n $ratio" >>"$data/results"
  done
done

echo
for case in "${cases[@]}"; do
  printf '%-12s median %s events/s, ratio %s\n' "$case" \
    "$(grep "^$case " "$data/results" | awk '{print $3}' | median)" \
    "$(grep "^$case " "$data/results" | awk '{print $4}' | median)"
done

# Pages of 50 while 5,000 events a second are written.
seconds=$((seconds * 2)) load --mode single --connections 32 --rate 5000 >"$data/writes" &
writes=$!
reads=$(load --mode read --connections 4 --rate 200)
wait $writes
printf 'pages of 50 beside %.0f events/s written: p95 %s ms, p99 %s ms\n' \
  "$(number events_per_second <"$data/writes")" \
  "$(number p95 <<<"$reads")" "$(number p99 <<<"$reads")"
