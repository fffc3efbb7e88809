#!/usr/bin/env bash
# Loads several builds of the node in turn, in short rounds. Prints the rate of each build relative
# to the first one: the mean of the ratios of all rounds, and its standard error. Use it for changes
# that are smaller than the noise of a shared machine.
#
#   ops/load/versions.sh MODE CONNECTIONS ROUNDS SECONDS BINARY BINARY...
#   ops/load/versions.sh single 64 12 2 /tmp/before target/release/triggers
#   BENCH_ARGUMENTS='--backlog 50000' ops/load/versions.sh push 16 8 20 A B
#
# All nodes run all the time; only one is loaded. Rounds begin with each build in turn.
# The load generator of the first binary loads all of them, or that of BENCH_BIN.
set -euo pipefail
mode=$1 connections=$2 rounds=$3 seconds=$4
shift 4
binaries=()
for binary in "$@"; do binaries+=("$(realpath "$binary")"); done
TRIGGERS_BIN=${BENCH_BIN:-${binaries[0]}}
source "$(dirname "$0")/node.sh"

for at in "${!binaries[@]}"; do
  start_node "$at" "${binaries[$at]}"
  # Creates the segments of the log, which happens once.
  bench "$at" --mode batch --connections 16 --duration 3 >/dev/null
done
sleep 3

order=("${!binaries[@]}")
for round in $(seq "$rounds"); do
  for at in "${order[@]}"; do
    result=$(bench_used "$at" --mode "$mode" --connections "$connections" --duration "$seconds" \
      ${BENCH_ARGUMENTS:-})
    rate=$(number events_per_second <<<"$result")
    echo "$round $at $rate $(tail -1 <<<"$result") $(number p99 <<<"$result")"
    # The node flushes its log after a second without writes; keep that out of the next measurement.
    sleep 2.5
  done
  order=("${order[@]:1}" "${order[0]}")
done >"$data/results"

awk '
  function median(values, n,    i, j, v) {
    for (i = 2; i <= n; i++) {
      v = values[i]
      for (j = i - 1; j > 0 && values[j] > v; j--) values[j + 1] = values[j]
      values[j + 1] = v
    }
    return values[int((n + 1) / 2)]
  }
  {
    rate[$1, $2] = $3; used[$1, $2] = $4; p99[$1, $2] = $5
    if ($1 > rounds) rounds = $1
    if ($2 > last) last = $2
  }
  END {
    for (at = 0; at <= last; at++) {
      sum = squares = 0
      for (i = 1; i <= rounds; i++) {
        r[i] = rate[i, at]; u[i] = used[i, at]; p[i] = p99[i, at]
        ratio = rate[i, at] / rate[i, 0]; sum += ratio; squares += ratio * ratio
      }
      mean = sum / rounds
      variance = rounds > 1 ? (squares - rounds * mean * mean) / (rounds - 1) / rounds : 0
      printf "%d: median %7.0f events/s, %5.1f us of the node an event, p99 %5.1f ms; ",
        at, median(r, rounds), median(u, rounds), median(p, rounds)
      printf "rate %.3f +- %.3f\n", mean, sqrt(variance + 1e-12)
    }
  }' "$data/results"
