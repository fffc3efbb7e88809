# Functions for the load scripts, which source it: starts development nodes on free ports and reads
# results. Everything is stopped and removed when the script ends.
#
#   start_node NODE [BINARY]   starts a node with its data in $data/NODE; returns when it is ready
#   kill_node NODE             kills a node with SIGKILL and waits for its end
#   field NODE MEMBER          prints url, admin_url, api_key or admin_key of a node
#   number MEMBER              prints the number of that name from JSON on stdin
#   memory NODE                prints the anonymous memory of a node in MiB
#   bench NODE ARGUMENTS...    loads a node, after $warmup seconds (0), and prints the JSON line
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
  "$triggers" bench --json --url "$(field "$node" url)" --key "$(field "$node" api_key)" \
    --warmup "${warmup:-0}" "$@" 2>/dev/null
}
