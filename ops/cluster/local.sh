#!/usr/bin/env bash
# Runs three nodes and their own PostgreSQL server on loopback, to try a cluster.
#
#   ops/cluster/local.sh                 starts everything and waits; Ctrl-C stops it in order
#   ops/cluster/local.sh status [...]    runs `triggers cluster status` with these arguments
#   ops/cluster/local.sh node N          starts node N (1 to 3) again, after you have killed it
#
# Data, keys and logs stay in target/cluster/ for the next start. The script finds PostgreSQL in
# PATH and in /usr/lib/postgresql/*/bin. The server listens only on a socket in that folder.
# PostgreSQL does not run as root: for root the user postgres runs it.
#
# TRIGGERS_BINARY   default target/release/triggers, which is built if it is missing
# PORT_BASE         default 8080: the nodes use the next three ports for clients, the ports 1010
#                   above them for operators and the ports 680 below them for each other
set -euo pipefail
cd "$(dirname "$0")/../.."

base=${PORT_BASE:-8080}
directory=$PWD/target/cluster
[ "$base" = 8080 ] || directory+=-$base
data=$directory/postgres
nodes=(1 2 3)
url() { echo "http://127.0.0.1:$((base + $1))"; }
admin_url() { echo "http://127.0.0.1:$((base + 1010 + $1))"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

triggers=${TRIGGERS_BINARY:-$PWD/target/release/triggers}
if ! "$triggers" cluster --help >/dev/null 2>&1; then
  [ -z "${TRIGGERS_BINARY:-}" ] || fail "$triggers is not there, or knows no clusters"
  cargo build --release
fi

# Runs a program of PostgreSQL in a directory that its user can enter.
postgres() (
  program=$binaries/$1
  shift
  cd /
  if [ "$(id -u)" = 0 ]; then exec runuser -u postgres -- "$program" "$@"; fi
  exec "$program" "$@"
)

start_postgres() {
  local candidate
  for candidate in $(type -aP postgres | xargs -rn1 dirname) \
    $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
    [ -x "$candidate/initdb" ] && [ -x "$candidate/pg_ctl" ] && binaries=$candidate && break
  done
  [ -n "${binaries:-}" ] || fail "no PostgreSQL is installed (Debian: apt-get install postgresql)"
  mkdir -p "$data"
  chmod 700 "$data"
  if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 ||
      fail "PostgreSQL does not run as root, and there is no user postgres"
    chown postgres "$data"
    runuser -u postgres -- test -w "$data" || fail "the user postgres cannot reach $data"
  fi
  if [ ! -e "$data/data/PG_VERSION" ]; then
    rm -rf "$data/data"
    postgres initdb -D "$data/data" -U triggers -A trust -E UTF8 --locale C \
      >"$directory/postgres.log" 2>&1 ||
      fail "no database could be made; see $directory/postgres.log"
  fi
  if postgres pg_ctl -D "$data/data" status >/dev/null 2>&1; then
    echo "using PostgreSQL of an earlier start, which still runs"
    return
  fi
  # Three nodes use up to 99 connections, and the default of 100 leaves 97 for them.
  postgres pg_ctl -D "$data/data" -w -l "$data/log" \
    -o "-k '$data' -c listen_addresses= -c max_connections=150" start \
    >>"$directory/postgres.log" 2>&1 || fail "PostgreSQL did not start; see $data/log"
}

# Replaces this process with a node.
run_node() {
  export TRIGGERS__NODE__NAME=node-$1
  export TRIGGERS__LISTEN__ADDRESS=127.0.0.1:$((base + $1))
  export TRIGGERS__ADMIN__ADDRESS=127.0.0.1:$((base + 1010 + $1))
  export TRIGGERS__CLUSTER__ADDRESS=127.0.0.1:$((base - 680 + $1))
  export TRIGGERS__STORE__ENGINE=postgres
  export TRIGGERS__STORE__POSTGRES_URL="postgresql:///postgres?user=triggers&host=${data// /%20}"
  # Allows receivers of webhooks on the same machine, as `triggers dev` does.
  export TRIGGERS__DELIVERY__IS_HTTPS_REQUIRED=${TRIGGERS__DELIVERY__IS_HTTPS_REQUIRED:-false}
  local loopback="127.0.0.0/8, ::1/128"
  export TRIGGERS__DELIVERY__ALLOWED_TARGETS=${TRIGGERS__DELIVERY__ALLOWED_TARGETS:-$loopback}
  TRIGGERS_ADMIN_KEY=$(cat "$directory/admin.key")
  export TRIGGERS_ADMIN_KEY
  exec "$triggers" serve </dev/null >>"$directory/node-$1.log" 2>&1
}

is_ready() { curl -fs "$(url "$1")/readyz" >/dev/null; }

# Creates a key once and keeps it in a file that only this user can read.
keep_key() {
  local file=$directory/$1
  shift
  [ -s "$file" ] && return
  (umask 077 && "$triggers" "$@" >"$file.new" 2>"$directory/keys.log") ||
    fail "no key; see $directory/keys.log"
  mv "$file.new" "$file"
}

demo() { TRIGGERS_API_KEY=$(cat "$directory/admin.key") TRIGGERS_URL=$(url 1) "$@"; }

make_demo_key() {
  [ -s "$directory/demo.key" ] && return
  # The tenant exists already if an earlier start was interrupted.
  demo "$triggers" tenants create --name Demo --id demo >/dev/null 2>&1 || true
  demo keep_key demo.key keys create --name demo --tenant demo
}

declare -A pids=()
stop() {
  trap '' INT TERM HUP
  local node code
  # All at the same time: no node would be left to transfer partitions to.
  for node in "${!pids[@]}"; do kill -TERM "${pids[$node]}" 2>/dev/null || true; done
  for node in "${!pids[@]}"; do
    code=0
    wait "${pids[$node]}" 2>/dev/null || code=$?
    [ "$code" = 0 ] || echo "node-$node ended with exit code $code; see $directory/node-$node.log"
  done
  if [ -n "${binaries:-}" ]; then
    postgres pg_ctl -D "$data/data" -m fast -w stop >/dev/null 2>&1 || true
  fi
}

up() {
  command -v curl >/dev/null || fail "curl is not installed"
  mkdir -p "$directory"
  keep_key admin.key keys generate
  # Jobs get process groups of their own, so that Ctrl-C reaches this script and not the nodes.
  set -m
  trap stop EXIT
  trap 'exit 130' INT TERM HUP
  start_postgres
  local node
  for node in "${nodes[@]}"; do
    run_node "$node" &
    pids[$node]=$!
  done
  for node in "${nodes[@]}"; do
    until is_ready "$node"; do
      kill -0 "${pids[$node]}" 2>/dev/null ||
        fail "node-$node did not start: $(tail -n 1 "$directory/node-$node.log")"
      sleep 0.1
    done
  done
  make_demo_key
  local key
  key=$(cat "$directory/demo.key")
  printf '\n  Three nodes are running:\n\n'
  for node in "${nodes[@]}"; do
    printf '    node-%s  %s  admin %s  log %s\n' "$node" "$(url "$node")" "$(admin_url "$node")" \
      "target/${directory##*/}/node-$node.log"
  done
  cat <<TEXT

  Send an event to one, read it from another:

    curl -i $(url 1)/v1/events -H 'X-API-Key: $key' -H 'Content-Type: application/json' \\
      -d '{"event_type":"order.created","payload":{"order":42}}'
    curl $(url 2)/v1/inbox -H 'X-API-Key: $key'

  ops/cluster/local.sh status   shows which node serves what. Kill a node and look again:

    kill -9 ${pids[2]}   # node-2; ops/cluster/local.sh node 2 starts it again

  Ctrl-C stops everything; accepted events stay.

TEXT
  # Reports nodes that end; does not start them again.
  local ended
  while [ ${#pids[@]} -gt 0 ]; do
    wait -n -p ended "${pids[@]}" || true
    for node in "${!pids[@]}"; do
      [ "${pids[$node]}" = "${ended:-}" ] || continue
      unset "pids[$node]"
      echo "node-$node has ended; ops/cluster/local.sh node $node starts it again"
    done
  done
  # A node that was started in another terminal still needs the database.
  echo "no node of this start is left; Ctrl-C stops PostgreSQL"
  while sleep 1 & wait $!; do :; done
}

case ${1:-up} in
up) up ;;
status)
  shift
  for node in "${nodes[@]}"; do
    is_ready "$node" || continue
    exec "$triggers" cluster status --admin-url "$(admin_url "$node")" "$@"
  done
  fail "no node is ready"
  ;;
node)
  case ${2:-} in
  [1-3])
    echo "node-$2 runs at $(url "$2") until Ctrl-C; its log is target/${directory##*/}/node-$2.log"
    run_node "$2"
    ;;
  *) fail "which node? ops/cluster/local.sh node 1, 2 or 3" ;;
  esac
  ;;
*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2 && exit 2 ;;
esac
