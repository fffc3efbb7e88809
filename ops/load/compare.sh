#!/usr/bin/env bash
# Measures a fresh node beside a bare axum handler on the same machine and prints the ratios.
#
#   ops/load/compare.sh [ROUNDS] [SECONDS] [BACKLOG]
#                                   default: 3 rounds of 5 seconds, a backlog of 100,000 events
#
# Each round loads the handler and the node in turn, so that other load on the machine affects both.
# The node and the load generator share the machine. Prints a table with one line a measurement, and
# medians at the end. A second table says how fast events are handed out again, and what
# subscriptions cost: as a part of the medians of batches and of single POSTs, and in microseconds
# of processor time of the node for each event.
set -euo pipefail
rounds=${1:-3} seconds=${2:-5} backlog=${3:-100000} warmup=1
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

single=$(grep '^single 64 ' "$data/results" | awk '{print $3}' | median)
batch=$(grep '^batch 16 ' "$data/results" | awk '{print $3}' | median)
row='%-38s %10s %8s %9s %8s %9s %9s %8s\n'
# Loads the node for at most a minute, and prints a line.
line() { # label key arguments
  local output rate
  output=$(key=$2 warmup=0 bench_used node "${@:3}")
  rate=$(number events_per_second <<<"$output")
  printf "$row" "$1" "${rate%.*}" "$(awk "BEGIN {printf \"%.3f\", $rate / $batch}")" \
    "$(awk "BEGIN {printf \"%.3f\", $rate / $single}")" "$(tail -1 <<<"$output")" \
    "$(number first_tenth_per_second <<<"$output")" \
    "$(number last_tenth_per_second <<<"$output")" "$(number p99 <<<"$output")"
}

echo
printf "$row" load events/s of_batch of_single us_event tenth/s last/s p99_ms
consume=(--mode consume --backlog "$backlog" --duration 60)
line 'lease 200, acknowledge the lease' "$(tenant node by-lease)" \
  "${consume[@]}" --connections 16 --ack lease
line 'lease 200, acknowledge by ids' "$(tenant node by-ids)" \
  "${consume[@]}" --connections 16 --ack batch
line 'lease 1, acknowledge 1' "$(tenant node by-one)" \
  "${consume[@]}" --connections 64 --lease-limit 1 --ack single
line 'webhooks of a backlog' "$(tenant node backlog)" \
  --mode push --backlog "$backlog" --duration 60
line 'webhooks at 2,000 events/s' "$(tenant node rate)" \
  --mode push --rate 2000 --duration "$seconds"
line 'batches, no subscription' "$(tenant node none)" \
  --mode batch --connections 16 --duration "$seconds"
# Port 9 is closed, so no webhook arrives.
matching=$(tenant node matching)
subscribe node "$matching" 9 --retry-delays 3600
line 'batches, a subscription selects them' "$matching" \
  --mode batch --connections 16 --duration "$seconds"
others=$(tenant node others)
for number in {1..100}; do subscribe node "$others" 9 --type "other.type-$number"; done
line 'batches, 100 subscriptions do not' "$others" \
  --mode batch --connections 16 --duration "$seconds"
