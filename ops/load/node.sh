# Functions for the load scripts, which source it: starts development nodes on free ports and reads
# results. Everything is stopped and removed when the script ends.
#
#   start_node NODE [BINARY]   starts a node with its data in $data/NODE; returns when it is ready
#   kill_node NODE             kills a node with SIGKILL and waits for its end
#   field NODE MEMBER          prints url, admin_url, api_key or admin_key of a node
#   number MEMBER              prints the number of that name from JSON on stdin
#   used NODE                  prints the microseconds of processor time that a node has used
#   memory NODE                prints the anonymous memory of a node in MiB
#   bench NODE ARGUMENTS...    loads a node with $key (that of the development tenant), after
#                              $warmup seconds (0), and prints the JSON line
#   bench_used NODE ARGUMENTS  the same, and a line with the microseconds of processor time that the
#                              node used for each event; without those of filling a backlog
#   tenant NODE ID             creates a tenant, and prints a key for it
#   subscribe NODE KEY PORT [ARGUMENTS...]   creates a subscription to http://127.0.0.1:PORT/
#   since NANOSECONDS          prints the milliseconds since `date +%s%N` printed that
#
# TRIGGERS_BIN   default target/release/triggers, which is built if it is missing

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
triggers=${TRIGGERS_BIN:-target/release/triggers}
[ -x "$triggers" ] || cargo build --release

data=$(mktemp -d)
declare -A nodes=()
helpers=()
trap 'kill -9 "${nodes[@]}" "${helpers[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$data"' EXIT

field() { sed -n "s/.*\"$2\": *\"\([^\"]*\)\".*/\1/p" "$data/$1/dev.json"; }
number() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p"; }
memory() { awk '/^RssAnon/ {printf "%d", $2 / 1024}' "/proc/${nodes[$1]}/status"; }
since() { echo $((($(date +%s%N) - $1) / 1000000)); }

used() {
  cat /proc/"${nodes[$1]}"/task/*/schedstat | awk '{used += $1} END {printf "%.0f", used / 1000}'
}

start_node() {
  mkdir -p "$data/$1"
  rm -f "$data/$1/dev.json"
  "${2:-$triggers}" dev --data-dir "$data/$1" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
    >/dev/null 2>>"$data/$1.log" &
  nodes[$1]=$!
  until [ -s "$data/$1/dev.json" ] && curl -fs "$(field "$1" url)/readyz" >/dev/null; do
    sleep 0.02
  done
}

kill_node() {
  local pid=${nodes[$1]}
  disown "$pid"
  kill -9 "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
}

bench() {
  local node=$1
  shift
  "$triggers" bench --json --url "$(field "$node" url)" --key "${key:-$(field "$node" api_key)}" \
    --warmup "${warmup:-0}" "$@" 2>/dev/null
}

bench_used() {
  local node=$1 before line result
  shift
  before=$(used "$node")
  echo "$before" >"$data/used"
  result=$("$triggers" bench --json --url "$(field "$node" url)" \
    --key "${key:-$(field "$node" api_key)}" --warmup "${warmup:-0}" "$@" 2> >(
      while read -r line; do
        [ "$line" != "backlog filled" ] || used "$node" >"$data/used"
      done))
  echo "$result"
  awk -v used=$(($(used "$node") - $(cat "$data/used"))) -v warmup="${warmup:-0}" \
    -v rate="$(number events_per_second <<<"$result")" \
    -v seconds="$(number duration_seconds <<<"$result")" \
    'BEGIN {events = rate * (seconds + warmup); printf "%.1f\n", events ? used / events : 0}'
}

tenant() {
  local of=(--url "$(field "$1" url)" --key "$(field "$1" admin_key)")
  "$triggers" tenants create "${of[@]}" --id "$2" --name "$2" >/dev/null 2>&1
  "$triggers" keys create "${of[@]}" --name load --tenant "$2" --rate-limit-per-minute 100000000 \
    2>/dev/null
}

subscribe() {
  "$triggers" subscriptions create --url "$(field "$1" url)" --key "$2" \
    --target-url "http://127.0.0.1:$3/" "${@:4}" >/dev/null 2>&1
}
