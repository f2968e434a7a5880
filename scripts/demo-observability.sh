#!/usr/bin/env bash
# demo-observability.sh: some minutes of load to look at. It starts the development stack if that does not run (scripts/dev-setup.sh),
# uses the broker that runs or starts one, and runs examples/complete_demo: waves of records, refused ones among them, a consumer
# group that stands still for a third of the time, and one whose members come and go. Meanwhile it prints what Prometheus answers and
# which alerts are pending or firing.
#
# The stack's Prometheus scrapes every 15 s, and its alerts wait for minutes. So a second one runs beside it, with the same
# configuration and rules and short times; it sends its alerts to the stack's Alertmanager.
#
#   DEMO_SECONDS=180 DEMO_RATE=6000    how long records are produced, and how many a second on average; with fewer, HighConsumerLag does not fire
#   DEMO_KEEP=1                        leaves the stack running; otherwise it is stopped if this script started it
#
# The exit code is 0 if all went as it should, 1 if a record was lost or an alert did not come, 2 if nothing could be tried.
# shellcheck disable=SC2317 # functions are called by step
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../.env.dev
source "${DEV_ENV:-.env.dev}"
export DEV_DIR=${DEV_DIR:-$PWD/.dev}
# shellcheck source=lib/pipeline.sh
source scripts/lib/pipeline.sh
seconds=${DEMO_SECONDS:-180} rate=${DEMO_RATE:-6000}

# stop_stack runs at the very end, after the broker, which needs it.
stop_stack() {
  cleanup
  if [ "${stack_ours:-}" = 1 ] && [ "${DEMO_KEEP:-0}" != 1 ]; then scripts/dev-setup.sh stop; fi
}

start_stack() {
  scripts/dev-setup.sh status >/dev/null 2>&1 || stack_ours=1
  stack_runs
}

fast_prometheus() {
  own_prometheus || return 1
  printf -- '- targets: [%s]\n' "${ALERTMANAGER_URL#http://}" >"$work/prometheus/targets/alertmanager.yml"
}

where_to_look() {
  cat <<END
  $prometheus  this demo's Prometheus (scrapes each second): /graph, /alerts; it ends with the demo
  $PROMETHEUS_URL  the stack's Prometheus (scrapes every 15 s)
  $ALERTMANAGER_URL  Alertmanager
END
  if curl -fs -m 2 -o /dev/null "$GRAFANA_URL/api/health"; then
    echo "  $GRAFANA_URL  Grafana, folder StreamHouse, user $GF_SECURITY_ADMIN_USER"
  else
    echo "  no Grafana runs; its dashboards are in grafana/dashboards, pictures of them in docs/images"
  fi
  echo "  $http/metrics  what the broker tells"
}

demo_starts() {
  go build -o "$work/demo" ./examples/complete_demo || return 1
  "$work/demo" --bootstrap "$bootstrap" --name "$topic" --duration "${seconds}s" --rate "$rate" >"$work/demo.log" 2>&1 &
  demo_pid=$!
  eventually 20 grep -q acknowledged "$work/demo.log" || { cat "$work/demo.log"; return 1; }
  head -n 1 "$work/demo.log" | sed "s/$topic/demo/; s/^/= /"
}

# value EXPRESSION: the first series' value.
value() {
  curl -fs -m 10 "$prometheus/api/v1/query" --data-urlencode "query=$1" | jq -r '.data.result[0].value[1] // "none"'
}

# show WHAT EXPRESSION UNIT
show() {
  local v
  v=$(value "$2") || v="no answer"
  case $v in
  *[0-9]*) printf '    %-34s %12.1f %s\n' "$1" "$v" "$3" ;;
  *) printf '    %-34s %12s %s\n' "$1" "$v" "$3" ;;
  esac
}

# alerts prints those that are not inactive, and remembers which fired.
alerts() {
  local list
  list=$(curl -fs -m 10 "$prometheus/api/v1/alerts" |
    jq -r '[.data.alerts[] | {name: .labels.alertname, state, about: (.labels.group_id // .labels.topic // .labels.instance // "")}]
      | group_by(.name, .state, .about)[] | "\(.[0].name) \(.[0].state) for \(.[0].about) (\(length))"') || list="no answer"
  printf '%s\n' "${list:-none}" | sed "s/$topic/demo/; s/^/    alert: /"
  echo "$list" >>"$work/alerts"
  if [[ $list == *"HighConsumerLag firing for $topic-analytics"* ]] && alertmanager_knows; then
    echo "    Alertmanager has HighConsumerLag, for the receiver $(jq -r '.[0].receivers[0].name' "$work/heard")"
    heard=1
  fi
}
alertmanager_knows() {
  curl -fs -m 10 -G "$ALERTMANAGER_URL/api/v2/alerts" --data-urlencode 'filter=alertname="HighConsumerLag"' \
    --data-urlencode "filter=group_id=\"$topic-analytics\"" >"$work/heard" || return 1
  jq -e 'length > 0' "$work/heard" >/dev/null
}

watch_load() {
  local t="topic=~\"$topic-.+\""
  while kill -0 "$demo_pid" 2>/dev/null; do
    tail -n 1 "$work/demo.log" | sed "s/$topic/demo/g; s/^/  /"
    show "produced" "sum(rate(streamhouse_producer_records_sent_total{$t}[15s]))" records/s
    show "consumed" "sum(rate(streamhouse_consumer_records_consumed_total{$t}[15s]))" records/s
    show "Produce, p99" "1000 * histogram_quantile(0.99, sum by (le) (rate(streamhouse_producer_send_duration_seconds_bucket{$t}[15s])))" ms
    show "refused" "sum(rate(streamhouse_producer_send_errors_total{$t}[15s]))" partitions/s
    show "lag of the partition furthest behind" "max(streamhouse_consumer_lag_records{$t})" records
    alerts
    sleep 15
  done
}

demo_succeeded() {
  local rc=0
  wait "$demo_pid" || rc=$?
  demo_pid=""
  [ "$rc" -eq 0 ] || { tail -n 20 "$work/demo.log"; return 1; }
  tail -n 2 "$work/demo.log" | sed "s/$topic/demo/g; s/^/= /"
}
lag_alert_fired() { grep -q "^HighConsumerLag firing for $topic-analytics" "$work/alerts" || { cat "$work/alerts"; return 1; }; }
alertmanager_heard() { [ "${heard:-}" = 1 ]; }

begin "$@"
trap stop_stack EXIT

section "Stack"
need "Postgres, MinIO and what watches them run" start_stack
need "a broker runs" broker_runs
need "a second Prometheus, with short times, scrapes it" fast_prometheus

section "Where to look"
where_to_look

section "Load, for $seconds s"
need "the demo begins (examples/complete_demo)" demo_starts
watch_load

section "Outcome"
step "each acknowledged record was read, no lag is left" demo_succeeded
group=$topic-analytics
if [ $((rate * seconds)) -ge 900000 ]; then
  step "HighConsumerLag fired for the group that stood still" lag_alert_fired
  step "the stack's Alertmanager was told of it" alertmanager_heard
  step "HighConsumerLag is over" eventually 30 alert_is inactive
fi
end
