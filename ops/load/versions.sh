#!/usr/bin/env bash
# Loads several builds of the node in turn, in short rounds. Prints the rate of each build relative
# to the first one: the mean of the ratios of all rounds, and its standard error. Use it for changes
# that are smaller than the noise of a shared machine.
#
#   ops/load/versions.sh MODE CONNECTIONS ROUNDS SECONDS BINARY BINARY...
#   ops/load/versions.sh single 64 12 2 /tmp/before target/release/triggers
#
# All nodes run all the time; only one is loaded. Every second round goes through them backwards.
# The load generator of the first binary loads all of them.
set -euo pipefail
mode=$1 connections=$2 rounds=$3 seconds=$4
shift 4
binaries=("$@")

data=$(mktemp -d)
nodes=()
trap 'kill "${nodes[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$data"' EXIT
field() { sed -n "s/.*\"$2\": *\"\([^\"]*\)\".*/\1/p" "$data/$1/dev.json"; }
number() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p"; }
load() { # node mode connections seconds
  "${binaries[0]}" bench --json --url "$(field "$1" url)" --key "$(field "$1" api_key)" --mode "$2" --connections "$3" --warmup 0 \
    --duration "$4" 2>/dev/null
}
# Microseconds of processor time that a process has used.
used() { cat /proc/"$1"/task/*/schedstat | awk '{used += $1} END {printf "%.0f", used / 1000}'; }

for at in "${!binaries[@]}"; do
  mkdir "$data/$at"
  "${binaries[$at]}" dev --data-dir "$data/$at" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >/dev/null 2>"$data/$at.log" &
  nodes+=($!)
  until [ -s "$data/$at/dev.json" ]; do sleep 0.1; done
  # Creates the segments of the log, which happens once.
  load "$at" batch 16 3 >/dev/null
done
sleep 3

order=("${!binaries[@]}")
for round in $(seq "$rounds"); do
  for at in "${order[@]}"; do
    before=$(used "${nodes[$at]}")
    load "$at" "$mode" "$connections" "$seconds" >"$data/result"
    echo "$round $at $(number events_per_second <"$data/result") $(($(used "${nodes[$at]}") - before)) $(number p99 <"$data/result")"
    # The node flushes its log after a second without writes; keep that out of the next measurement.
    sleep 2.5
  done
  order=($(printf '%s\n' "${order[@]}" | tac))
done >"$data/results"

awk -v seconds="$seconds" '
  function median(values, n,    i, j, v) {
    for (i = 2; i <= n; i++) { v = values[i]; for (j = i - 1; j > 0 && values[j] > v; j--) values[j + 1] = values[j]; values[j + 1] = v }
    return values[int((n + 1) / 2)]
  }
  { rate[$1, $2] = $3; used[$1, $2] = $4 / ($3 * seconds); p99[$1, $2] = $5; if ($1 > rounds) rounds = $1; if ($2 > last) last = $2 }
  END {
    for (at = 0; at <= last; at++) {
      sum = squares = 0
      for (i = 1; i <= rounds; i++) {
        r[i] = rate[i, at]; u[i] = used[i, at]; p[i] = p99[i, at]
        ratio = rate[i, at] / rate[i, 0]; sum += ratio; squares += ratio * ratio
      }
      mean = sum / rounds
      error = rounds > 1 ? sqrt((squares - rounds * mean * mean) / (rounds - 1) / rounds + 1e-12) : 0
      printf "%d: median %7.0f events/s, %5.1f us of the node an event, p99 %5.1f ms; rate %.3f +- %.3f\n",
        at, median(r, rounds), median(u, rounds), median(p, rounds), mean, error
    }
  }' "$data/results"
