#!/usr/bin/env bash
# demo-e2e.sh: sends records through a broker and reads them back, and follows a consumer group's lag, with the programs of examples/
# that compare every record. It uses the broker that answers at STREAMHOUSE_ADVERTISED_ADDR (localhost:9092) and STREAMHOUSE_HTTP_ADDR
# (port 8080); where none does, it starts an embedded one on free ports, whose data is deleted at the end.
#
# The exit code is 0 if both programs found everything right, 1 if one did not, 2 if nothing could be tried.
# shellcheck disable=SC2317 # functions are called by step
set -euo pipefail
cd "$(dirname "$0")/.."
export STREAMHOUSE_ADVERTISED_ADDR=${STREAMHOUSE_ADVERTISED_ADDR:-localhost:9092}
export STREAMHOUSE_HTTP_ADDR=${STREAMHOUSE_HTTP_ADDR:-127.0.0.1:8080}
# shellcheck source=lib/pipeline.sh
source scripts/lib/pipeline.sh

# embedded_runs: a broker that is alone, whatever the environment says of a fleet.
embedded_runs() {
  if curl -fs -o /dev/null "$http/ready"; then
    echo "= uses the one that answers at $bootstrap"
    return
  fi
  if [ -n "${STREAMHOUSE_BINARY:-}" ]; then bin=$STREAMHOUSE_BINARY; else make -s build || return 1; fi
  free_port && bootstrap=127.0.0.1:$port
  free_port && http=http://127.0.0.1:$port
  "$bin" serve --data-dir "$work/data" --catalog "sqlite:$work/data/catalog.db" --store "file:$work/data/objects" \
    --addr "$bootstrap" --advertised-addr "$bootstrap" --http-addr "127.0.0.1:$port" >"$work/broker.log" 2>&1 &
  own_broker=$!
  eventually 30 http_is 200 "$http/ready" || { tail -n 20 "$work/broker.log"; return 1; }
  echo "= started one at $bootstrap, process $own_broker"
}

# example NAME ARGS...: what it prints is shown.
example() {
  go run "./examples/$1" --bootstrap "$bootstrap" "${@:2}" >"$work/example" 2>&1 || { cat "$work/example"; return 1; }
  sed 's/^/= /' "$work/example"
}

needs=(curl:curl)
begin "$@"

section "Broker"
need "a broker runs" embedded_runs

section "Records"
step "10,000 records are read back, each once and as it was sent (examples/e2e_producer_consumer)" example e2e_producer_consumer

section "Lag"
step "three places tell the same lag (examples/e2e_offset_tracking)" example e2e_offset_tracking --http "$http"
end
