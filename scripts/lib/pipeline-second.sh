# shellcheck shell=bash
# What test-complete-pipeline.sh breaks on purpose, a stack and a broker of their own, and what it measures.
# shellcheck disable=SC2034,SC2154 # sourced beside pipeline.sh, whose variables it uses and which cleans up after it

second_dev_setup() { DEV_STACK=packages DEV_DIR=$work/second DEV_ENV=$work/second.env scripts/dev-setup.sh "$1"; }

# port_of ADDRESS: what follows the last colon, up to a path.
port_of() { sed -E 's#.*:([0-9]+)(/.*)?$#\1#' <<<"$1"; }

# second_stack makes a copy of the environment with other ports, and starts it and a broker.
second_stack() {
  local catalog=${STREAMHOUSE_CATALOG%%\?*} store=${STREAMHOUSE_STORE#*endpoint=} old web edits=""
  store=${store%%&*}
  for old in "$catalog" "$store" "$STREAMHOUSE_ADDR" "$STREAMHOUSE_HTTP_ADDR" "$PROMETHEUS_URL" "$ALERTMANAGER_URL" "$NODE_EXPORTER_URL" "$GRAFANA_URL"; do
    free_port
    [ "$old" != "$STREAMHOUSE_HTTP_ADDR" ] || web=$port
    edits+="s#:$(port_of "$old")([^0-9]|\$)#:$port\\1#g;"
  done
  sed -E "$edits" "${DEV_ENV:-.env.dev}" >"$work/second.env"
  second_http=http://localhost:$web
  second_dev_setup start || return 1
  # shellcheck disable=SC1091 # made just now
  (source "$work/second.env" && exec "$bin" serve --data-dir "$work/second/broker") >"$work/second.log" 2>&1 &
  second_broker=$!
  eventually 60 http_is 200 "$second_http/ready" || { tail -n 20 "$work/second.log"; return 1; }
  second_postgres=$(head -1 "$work/second/postgres/data/postmaster.pid")
}

# second_not_ready stops the database's processes, once, and looks.
second_not_ready() {
  if [ -z "${second_frozen:-}" ]; then
    kill -STOP "$second_postgres" $(pgrep -P "$second_postgres")
    second_frozen=1
  fi
  http_is 503 "$second_http/ready" || return 1
  grep -q catalog "$work/body" || { echo "it does not say why:"; cat "$work/body"; return 1; }
  echo "= it says: $(head -n 1 "$work/body")"
}

second_recovers() {
  kill -CONT "$second_postgres" $(pgrep -P "$second_postgres")
  eventually 60 http_is 200 "$second_http/ready"
}

# --- figures

figure_produce() {
  "$bin" bench produce --bootstrap "$bootstrap" --topic "$topic-bench" -s 100 -d 15s --json >"$work/bench" || return 1
  jq -r '"= \(.produced.records_per_second | round) records/s as fast as may be, p99 \(.ack_latency.p99_ms) ms"' "$work/bench"
  jq -e '.produced.records_per_second >= 200000' "$work/bench" >/dev/null
}
figure_consume() {
  "$bin" bench consume --bootstrap "$bootstrap" --topic "$topic-bench" --json >"$work/bench" || return 1
  "$bin" topic delete "$topic-bench" --bootstrap "$bootstrap"
  jq -r '"= \(.consumed.records_per_second | round) records/s"' "$work/bench"
  jq -e '.consumed.records_per_second >= 150000' "$work/bench" >/dev/null
}
figure_latency() {
  "$bin" bench e2e --bootstrap "$bootstrap" --topic "$topic-bench" -s 100 --rate 20000 -d 20s --json >"$work/bench" || return 1
  "$bin" topic delete "$topic-bench" --bootstrap "$bootstrap"
  jq -r '"= producer p50 \(.ack_latency.p50_ms), p99 \(.ack_latency.p99_ms) ms; consumer, from the acknowledgement, p50 \(.delivery_latency.p50_ms), p99 \(.delivery_latency.p99_ms) ms"' "$work/bench"
  jq -e '.ack_latency.p99_ms < 50 and .delivery_latency.p99_ms < 30' "$work/bench" >/dev/null
}
