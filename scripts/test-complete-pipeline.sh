#!/usr/bin/env bash
# test-complete-pipeline.sh: from a producer to an alert, each step looked at. It starts the development stack if that does not
# run (scripts/dev-setup.sh), uses the broker that runs or starts one, and checks that
#
#   the server answers /health, /ready and /metrics · records go in and come out · Postgres holds topics, partitions and groups
#   · MinIO holds log objects and segments · Prometheus scrapes the broker · every query of every dashboard returns data · lag
#   is told by the API, the command line, JSON, SQL and metrics, grows while the consumer stands still, has HighConsumerLag
#   raised, and goes back to 0 · a broker that has lost its database says why it is not ready
#
# Rules and scrapes that must be waited for are seen by a Prometheus of its own, whose times are shortened; what is broken is a
# stack of its own, beside the first.
#
#   PIPELINE_FIGURES=1 scripts/test-complete-pipeline.sh    also measures throughput and latency: a minute more
#
# The exit code is 0 if all steps succeeded, 1 if one failed, 2 if nothing could be tried.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../.env.dev
source "${DEV_ENV:-.env.dev}"
export DEV_DIR=${DEV_DIR:-$PWD/.dev}
# shellcheck source=lib/pipeline.sh
source scripts/lib/pipeline.sh
# shellcheck source=lib/pipeline-second.sh
source scripts/lib/pipeline-second.sh

begin "$@"

section "Stack"
need "Postgres, MinIO and what watches them run" stack_runs
need "a broker runs" broker_runs
need "an own Prometheus scrapes it every second" own_prometheus

section "Server"
step "/health answers 200" http_is 200 "$http/health"
step "/ready answers 200" http_is 200 "$http/ready"
step "/metrics is Prometheus' format, and clean" metrics_clean
step "HTTP answers where nothing is are 404" http_is 404 "$http/nowhere"

section "Records"
step "a topic is created" make_topic
step "its leases are held" eventually 60 sql_is 3 "SELECT count(*) FROM partition_leases WHERE topic = '$topic' AND broker_id IS NOT NULL"
step "waves of load begin (examples/complete_demo)" demo_runs
step "a producer sends $records records (kcat)" produce_records
step "a consumer of a group receives each of them (kcat)" consume_records
step "load of 20,000 records a second, for $load_seconds s (streamhouse bench)" bench_load

section "Postgres"
step "topics holds the topic" sql_is 1 "SELECT count(*) FROM topics WHERE name = '$topic'"
step "partitions holds its partitions, each with a leader" sql_is 3 "SELECT count(*) FROM partitions WHERE topic = '$topic' AND leader IS NOT NULL"
step "partitions holds their high watermarks" eventually 60 sql_is "$records" "SELECT sum(high_watermark) FROM partitions WHERE topic = '$topic'"
step "consumer_groups holds the group" sql_is 1 "SELECT count(*) FROM consumer_groups WHERE group_id = '$group'"
step "consumer_offsets holds what it committed" sql_is "$records" "SELECT sum(committed_offset) FROM consumer_offsets WHERE group_id = '$group'"

section "MinIO"
step "the bucket holds log objects" bucket_has log/
step "the bucket holds segments" eventually 60 bucket_has segment/

section "Lag"
step "the lag is 0 where it is told: CLI, JSON, SQL, metrics" eventually 60 lag_is 0
step "$lagging more records are sent, and nobody reads" produce_lagging
step "the lag is $lagging everywhere" eventually 60 lag_is "$lagging"
step "HighConsumerLag gets pending" eventually 60 alert_is pending
step "HighConsumerLag fires" eventually 60 alert_is firing
step "the consumer reads on" consume_rest
step "the lag is 0 everywhere" eventually 60 lag_is 0
step "HighConsumerLag is over" eventually 60 alert_is inactive

section "Prometheus"
step "the stack's own Prometheus has the broker up" eventually 60 prometheus_has "$PROMETHEUS_URL" 'up{job="streamhouse-agents"} == 1'
step "it shows streamhouse_* series" eventually 60 prometheus_has "$PROMETHEUS_URL" 'count({__name__=~"streamhouse_.+"}) > 50'
step "all rules are evaluated without an error" rules_healthy
step "every query of every dashboard returns data" eventually 90 dashboards_have_data

section "Broken on purpose, on a stack of its own"
step "a second stack and its broker run" second_stack
step "with its database gone, /ready answers 503 and says why" eventually 60 second_not_ready
step "/health still answers 200" http_is 200 "$second_http/health"
step "with its database back, /ready answers 200" second_recovers

if [ "${PIPELINE_FIGURES:-0}" = 1 ]; then
  section "Figures"
  step "200,000 records/s of 100 bytes are produced" figure_produce
  step "150,000 records/s are consumed" figure_consume
  step "at 20,000 records/s the producer's p99 is under 50 ms, the consumer's under 30 ms" figure_latency
fi
end
