#!/usr/bin/env bash
# Measures a fresh node beside a bare axum handler on the same machine and prints the ratios.
#
#   ops/load/compare.sh [ROUNDS] [SECONDS]      default: 3 rounds of 5 seconds
#
# Each round loads the handler and the node in turn, so that other load on the machine affects both.
# The node and the load generator share the machine. Prints a table with one line a measurement, and
# medians at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3} seconds=${2:-5}
triggers=${TRIGGERS_BIN:-target/release/triggers}
[ -x "$triggers" ] || cargo build --release

data=$(mktemp -d)
"$triggers" dev --data-dir "$data" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >/dev/null 2>"$data/log" &
node=$!
trap 'kill $node 2>/dev/null; wait $node 2>/dev/null; rm -rf "$data"' EXIT
for _ in $(seq 200); do [ -s "$data/dev.json" ] && break; sleep 0.1; done
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$data/dev.json"; }
number() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p"; }
median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }

load() { "$triggers" bench --json --duration "$seconds" "$@" 2>/dev/null; }
node_load() { load --url "$(field url)" --key "$(field api_key)" "$@"; }

printf '%-10s %5s %5s %12s %12s %7s %8s %8s\n' mode conns round ceiling/s node/s ratio p95_ms p99_ms
for case in "single 64" "single 256" "batch 16"; do
  read -r mode connections <<<"$case"
  for round in $(seq "$rounds"); do
    ceiling=$(load --mode ceiling --ceiling-of "$mode" --connections "$connections")
    result=$(node_load --mode "$mode" --connections "$connections")
    c=$(number events_per_second <<<"$ceiling") n=$(number events_per_second <<<"$result")
    ratio=$(awk "BEGIN {printf \"%.3f\", $n / $c}")
    printf '%-10s %5s %5s %12.0f %12.0f %7s %8s %8s\n' "$mode" "$connections" "$round" "$c" "$n" "$ratio" \
      "$(number p95 <<<"$result")" "$(number p99 <<<"$result")"
    echo "$mode $connections $n $ratio" >>"$data/results"
  done
done

echo
for case in "single 64" "single 256" "batch 16"; do
  printf '%-12s median %s events/s, ratio %s\n' "$case" \
    "$(grep "^$case " "$data/results" | awk '{print $3}' | median)" \
    "$(grep "^$case " "$data/results" | awk '{print $4}' | median)"
done

# Pages of 50 while 5,000 events a second are written.
seconds=$((seconds * 2)) node_load --mode single --connections 32 --rate 5000 >"$data/writes" &
writes=$!
reads=$(node_load --mode read --connections 4 --rate 200)
wait $writes
printf 'pages of 50 beside %.0f events/s written: p95 %s ms, p99 %s ms\n' \
  "$(number events_per_second <"$data/writes")" "$(number p95 <<<"$reads")" "$(number p99 <<<"$reads")"
