# shellcheck shell=bash
# The steps of test-complete-pipeline.sh, of which demo-observability.sh and demo-e2e.sh use some. Sourced after .env.dev. A step's function succeeds or fails; what it prints is
# shown when it fails, and a line that begins with "= " is shown in any case. They run where their outcome is looked at, so that
# "set -e" does not hold in them: each command that must succeed says so.

# Sizes: more records than HighConsumerLag's threshold in each of three partitions.
export records=3000 lagging=36000 load_seconds=8
export topic group http second_http
topic=pipeline-$$-$(date +%s)
group=$topic
bootstrap=$STREAMHOUSE_ADVERTISED_ADDR
http=http://localhost:${STREAMHOUSE_HTTP_ADDR##*:}

# What must be there, and in which of Debian's packages it is.
needs=(kcat:kcat curl:curl jq:jq psql:postgresql-client)
work="" own_broker="" passed=0 failed=0 began=$SECONDS
bin=$PWD/bin/streamhouse

# explain prints the script's first comment.
explain() { sed -n '2,/^[^#]/{/^# shellcheck/d; s/^# \{0,1\}//p}' "scripts/${0##*/}"; }

# begin ARGS...: explains, refuses other arguments, makes a place to work in and sees to it that nothing stays.
begin() {
  case ${1:-} in
  "") ;;
  -h | --help)
    explain
    exit 0
    ;;
  *)
    echo "usage: $0 (no arguments; --help says which variables it heeds)" >&2
    exit 2
    ;;
  esac
  work=$(mktemp -d)
  chmod 755 "$work" # Postgres does not run as root
  trap cleanup EXIT
  trap 'exit 130' INT TERM
  local need
  for need in "${needs[@]}"; do scripts/need "${need%%:*}" "${need#*:}" || exit 2; done
}

end_process() {
  [ -n "$1" ] || return 0 # not "return": at the end it would be the script's exit code, and end cleaning up
  kill "$1" 2>/dev/null || true # it may have ended
  wait "$1" 2>/dev/null || true # a process that was killed "fails"
}

cleanup() {
  local pid name
  end_process "${demo_pid:-}" # whose members leave their groups, so that these can be deleted
  # Each may not have been made yet, where a step before it failed: hence the "|| true".
  if [ -x "$bin" ] && curl -fs -o /dev/null "$http/ready"; then
    for name in "$group" "$topic"-{billing,analytics,audit}; do "$bin" group delete "$name" --bootstrap "$bootstrap" >/dev/null 2>&1 || true; done
    for name in "$topic" "$topic-bench" "$topic"-{orders,clicks,payments}; do "$bin" topic delete "$name" --bootstrap "$bootstrap" >/dev/null 2>&1 || true; done
  fi
  for pid in "${own_broker:-}" "${prometheus_pid:-}" "${second_broker:-}"; do end_process "$pid"; done
  if [ -f "$work/second.env" ]; then
    second_dev_setup reset >/dev/null 2>&1 || echo "could not remove the second stack below $work" >&2
  fi
  rm -rf "$work"
}

section() { printf '\n%s\n' "$1"; }

# milliseconds sets $now. Bash tells the time since version 5; before, as on a Mac, there is date, which knows whole seconds there.
milliseconds() {
  now=${EPOCHREALTIME:-$(date +%s).000000}
  now=$((${now/[.,]/} / 1000))
}

# step WHAT COMMAND...: runs COMMAND and says whether WHAT is so.
step() {
  local what=$1 out=$work/step rc=0 started
  shift
  milliseconds
  started=$now
  # In this shell, not in a subshell: steps leave processes and variables behind.
  "$@" >"$out" 2>&1 || rc=$?
  milliseconds
  local took=$((now - started))
  if [ $rc -eq 0 ]; then
    passed=$((passed + 1))
    printf '  ok    %s (%d.%03d s)\n' "$what" $((took / 1000)) $((took % 1000))
    sed -n 's/^= /        /p' "$out"
  else
    failed=$((failed + 1))
    printf '  FAIL  %s (%d.%03d s)\n' "$what" $((took / 1000)) $((took % 1000))
    sed 's/^/        /' "$out" | tail -n 30
  fi
}

# need WHAT COMMAND...: a step without which no other makes sense.
need() {
  step "$@"
  [ "$failed" -eq 0 ] || exit 2
}

# eventually SECONDS COMMAND...: until COMMAND succeeds, as long as that.
eventually() {
  local until=$((SECONDS + $1)) out=$work/eventually
  shift
  until "$@" >"$out" 2>&1; do
    if [ $SECONDS -ge $until ]; then
      cat "$out"
      return 1
    fi
    sleep 0.5
  done
  cat "$out"
}

end() {
  printf '\n%d passed, %d failed (%d s)\n' "$passed" "$failed" $((SECONDS - began))
  [ "$failed" -eq 0 ] || exit 1
  [ "$passed" -gt 0 ] || exit 2
  exit 0
}

# --- stack

stack_runs() { scripts/dev-setup.sh start; }

broker_runs() {
  if [ -n "${STREAMHOUSE_BINARY:-}" ]; then bin=$STREAMHOUSE_BINARY; else make -s build || return 1; fi
  if curl -fs -o /dev/null "$http/ready"; then
    echo "= uses the broker that answers at $bootstrap"
    return
  fi
  # Its id is kept there, and must go with the catalog ("dev-setup.sh reset"): another catalog's is refused.
  "$bin" serve --data-dir "$DEV_DIR/pipeline-broker" >"$DEV_DIR/pipeline-broker.log" 2>&1 &
  own_broker=$!
  echo "= started one, process $own_broker; its log is $DEV_DIR/pipeline-broker.log"
  eventually 60 http_is 200 "$http/ready" || { tail -n 20 "$DEV_DIR/pipeline-broker.log"; return 1; }
}

# free_port sets $port to one on which nobody listens, nor on the next one, which MinIO's console takes. It gives none twice.
given_ports=" "
free_port() {
  local p taken
  while :; do
    port=$((20000 + RANDOM % 10000)) taken=""
    for p in "$port" $((port + 1)); do
      if [[ $given_ports == *" $p "* ]] || (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then taken=1; fi
    done
    [ -n "$taken" ] || break
  done
  given_ports+="$port $((port + 1)) "
}

# own_prometheus starts one with the stack's configuration and rules, but short times.
own_prometheus() {
  scripts/prometheus || return 1
  cp -r prometheus "$work/prometheus"
  rm -rf "$work/prometheus/tests"
  sed -i.orig -E 's/^( *scrape_interval): .*/\1: 1s/; s/^( *scrape_timeout): .*/\1: 1s/; s/^( *evaluation_interval): .*/\1: 1s/' "$work/prometheus/prometheus.yml"
  sed -i.orig -E 's/^( *interval): .*/\1: 1s/; s/^( *for): .*/\1: 5s/' "$work/prometheus/alerts.yml"
  printf -- '- targets: [localhost:%s]\n' "${STREAMHOUSE_HTTP_ADDR##*:}" >"$work/prometheus/targets/agents.yml"
  printf -- '- targets: [localhost:%s]\n' "${NODE_EXPORTER_URL##*:}" >"$work/prometheus/targets/node.yml"
  echo '[]' | tee "$work/prometheus/targets/"{alertmanager,minio,prometheus}.yml >/dev/null
  free_port
  prometheus=http://localhost:$port
  .tools/bin/prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/prometheus/data" \
    --web.listen-address="127.0.0.1:$port" --log.level=warn >"$work/prometheus.log" 2>&1 &
  prometheus_pid=$!
  eventually 60 prometheus_has "$prometheus" 'up{job="streamhouse-agents"} == 1' || { cat "$work/prometheus.log"; return 1; }
}

# --- HTTP

http_is() {
  local code
  code=$(curl -s -m 5 -o "$work/body" -w '%{http_code}' "$2") || true # no answer is code 000, told below
  [ "$code" = "$1" ] || { echo "$2 answers $code, not $1:"; cat "$work/body" 2>/dev/null; return 1; }
}

metrics_clean() {
  curl -fs "$http/metrics" >"$work/metrics" || return 1
  .tools/bin/promtool check metrics <"$work/metrics" || return 1
  echo "= $(grep -c '^streamhouse_' "$work/metrics") series of StreamHouse"
}

# --- records

make_topic() { "$bin" topic create "$topic" --partitions 3 --bootstrap "$bootstrap"; }

# send FROM TO: records that say which they are.
send() { seq -f 'record %.0f' "$1" "$2" | kcat -b "$bootstrap" -P -t "$topic" -X partitioner=random -X sticky.partitioning.linger.ms=0; }
# receive N FILE: as the group, which commits.
receive() { timeout 60 kcat -b "$bootstrap" -G "$group" -X auto.offset.reset=earliest -c "$1" -q "$topic" >"$2" 2>"$work/kcat" || { cat "$work/kcat"; return 1; }; }

produce_records() { send 1 "$records"; }
consume_records() {
  receive "$records" "$work/received" || return 1
  diff <(seq -f 'record %.0f' 1 "$records" | sort) <(sort "$work/received") | head -n 5
  [ "$(sort -u "$work/received" | wc -l)" = "$records" ]
}
produce_lagging() { send $((records + 1)) $((records + lagging)); }
consume_rest() {
  receive "$lagging" "$work/received" || return 1
  [ "$(sort -u "$work/received" | wc -l)" = "$lagging" ]
}

# demo_runs starts the demo's waves of load, for as long as this lasts: so that all there is to see can be seen.
demo_runs() {
  go build -o "$work/demo" ./examples/complete_demo || return 1
  "$work/demo" --bootstrap "$bootstrap" --name "$topic" --duration 30m --rate 1000 >"$work/demo.log" 2>&1 &
  demo_pid=$!
  eventually 60 grep -q acknowledged "$work/demo.log" || { cat "$work/demo.log"; return 1; }
}

bench_load() {
  "$bin" bench e2e --bootstrap "$bootstrap" --topic "$topic-bench" -s 100 --rate 20000 -d "${load_seconds}s" --json >"$work/bench" || return 1
  jq -r '"= produced \(.produced.records_per_second | round)/s, consumed \(.consumed.records_per_second | round)/s, p99 end to end \(.end_to_end_latency.p99_ms) ms"' "$work/bench"
  "$bin" topic delete "$topic-bench" --bootstrap "$bootstrap"
}

# --- Postgres and MinIO

sql() { psql -qAtX "${STREAMHOUSE_CATALOG}" -c "$1"; }
sql_is() {
  local got
  got=$(sql "$2") || return 1
  [ "$got" = "$1" ] || { echo "$2"; echo "gives $got, not $1"; return 1; }
}

bucket_has() {
  local endpoint bucket
  endpoint=$(sed -E 's#.*[?&]endpoint=([^&]*).*#\1#' <<<"$STREAMHOUSE_STORE")
  bucket=${STREAMHOUSE_STORE#s3://}
  bucket=${bucket%%[/?]*}
  curl -fsS --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" --aws-sigv4 'aws:amz:us-east-1:s3' \
    "$endpoint/$bucket?list-type=2&max-keys=1000&prefix=${1//\//%2F}" >"$work/list" || return 1
  local n
  n=$(grep -o '<Key>' "$work/list" | wc -l)
  [ "$n" -gt 0 ] || { echo "no key begins with $1"; return 1; }
  echo "= $n$([ "$n" = 1000 ] && echo ' and more') keys begin with $1, as $(grep -o '<Key>[^<]*' "$work/list" | sed 's/<Key>//;q')"
}

# --- lag

lag_is() {
  local cli json sql metrics # of which none is a number where it cannot be asked
  cli=$("$bin" group lag "$group" --bootstrap "$bootstrap" --json | jq .total_lag)
  json=$(curl -fs "$http/v1/groups/$group/lag" | jq .total_lag)
  sql=$(sql "SELECT sum(lag) FROM consumer_lag WHERE group_id = '$group'")
  metrics=$(curl -fs "$http/metrics" | grep '^streamhouse_consumer_lag_records{' | grep "group_id=\"$group\"" | awk '{ n += $NF } END { print n+0 }')
  echo "CLI $cli, JSON $json, SQL $sql, metrics $metrics"
  [ "$cli $json $sql $metrics" = "$1 $1 $1 $1" ]
}

# --- Prometheus

# query URL EXPRESSION: the number of series.
query() { curl -fs -m 10 "$1/api/v1/query" --data-urlencode "query=$2" | jq '.data.result | length'; }
prometheus_has() {
  local n
  n=$(query "$1" "$2")
  [ "${n:-0}" -gt 0 ] || { echo "$1 has nothing for $2"; return 1; }
}

# alert_is STATE: of HighConsumerLag for the group; inactive: there is none.
alert_is() {
  local state
  state=$(curl -fs "$prometheus/api/v1/alerts" |
    jq -r --arg group "$group" '[.data.alerts[] | select(.labels.alertname == "HighConsumerLag" and .labels.group_id == $group) | .state] | if length == 0 then "inactive" elif any(. == "firing") then "firing" else "pending" end')
  # Three partitions get there one by one; one that fires was pending.
  [ "$state" = "$1" ] || [ "$1 $state" = "pending firing" ] || { echo "HighConsumerLag is $state"; return 1; }
}

rules_healthy() {
  local url bad
  for url in "$PROMETHEUS_URL" "$prometheus"; do
    bad=$(curl -fs "$url/api/v1/rules" | jq -r '.data.groups[].rules[] | select(.health == "err") | "\(.name): \(.lastError)"')
    [ -z "$bad" ] || { echo "$url: $bad"; return 1; }
  done
  echo "= $(curl -fs "$prometheus/api/v1/rules" | jq '[.data.groups[].rules[] | select(.type == "alerting")] | length') alerting rules in $(curl -fs "$prometheus/api/v1/rules" | jq '[.data.groups[] | select(any(.rules[]; .type == "alerting"))] | length') groups"
}

# dashboards_have_data asks the own Prometheus every query, with Grafana's variables put in. A panel of errors has a query for their
# sum, 0 while there are none, and one for each kind of them, of which there may be none.
dashboards_have_data() {
  local file panel expr n=0 none=0 missing=0 found quiet
  for file in grafana/dashboards/*.json; do
    while IFS= read -r panel; do
      found=0 quiet=()
      while IFS= read -r expr; do
        n=$((n + 1))
        if [ "$(query "$prometheus" "$expr")" = 0 ]; then quiet+=("$expr"); else found=1; fi
      done < <(jq -r --slurpfile d "$file" "$grafana_variables"' .targets[] | .expr | gsub("\\n"; " ") | filled' <<<"$panel")
      if [ ${#quiet[@]} -gt 0 ] && [ $found = 0 ]; then
        missing=$((missing + 1))
        printf '%s: panel %s has no data for %s\n' "${file##*/}" "$(jq .title <<<"$panel")" "${quiet[@]}"
      fi
      none=$((none + ${#quiet[@]}))
    done < <(jq -c '.. | objects | select(has("targets") and has("title"))' "$file")
  done
  echo "= $n queries of $(find grafana/dashboards -name '*.json' | wc -l) dashboards; $none tell kinds of trouble and found none"
  [ $missing -eq 0 ] && [ $n -gt 0 ]
}

# What jq puts in for Grafana's variables: a value that was typed in (a price) as it is, for all that choose among labels' values
# any value.
# shellcheck disable=SC2016 # $ is jq's
grafana_variables='
  def chosen: if .type == "textbox" or .type == "constant" or .type == "custom"
    then (.current.value // .query) | if type == "object" then .query // .value else . end | tostring else ".*" end;
  def filled: gsub("\\$\\{?__rate_interval\\}?|\\$\\{?__interval\\}?"; "1m") | gsub("\\$\\{?__range\\}?"; "5m")
    | reduce ([$d[0].templating.list[] | select(.type != "datasource")] | sort_by(-(.name | length)))[] as $v (.;
        gsub("\\$\\{" + $v.name + "(:[a-z]+)?\\}|\\$" + $v.name + "\\b"; $v | chosen));
'
