#!/usr/bin/env bash
# dev-setup.sh [start|stop|status|reset]: the development stack of docker-compose.dev.yml, Postgres and MinIO, with Prometheus,
# Alertmanager, node-exporter and Grafana to watch them, for a broker started on this machine:
#
#   scripts/dev-setup.sh && source .env.dev && go run ./cmd/streamhouse serve
#
# Where a container engine answers ("docker info", not "which docker") the stack runs in containers, otherwise the same
# services run from packages, with users, passwords, ports and bucket of .env.dev and all data below .dev/. Postgres comes
# from the distribution (installed by apt-get where missing), MinIO is built by scripts/minio on first use, which takes
# about five minutes, and what watches comes by scripts/prometheus. Of Grafana there is no such package: it runs where
# grafana-server is installed, and is left out elsewhere.
#
#   start    starts what does not run, and waits until it can be used (the default). Harmless to repeat
#   stop     stops what start started; data stays
#   status   says what runs; exit code 1 unless all does
#   reset    stop, then deletes all data of the stack
#
# DEV_STACK=containers or DEV_STACK=packages decides instead of looking for an engine. DEV_DIR names another
# folder than .dev, DEV_ENV another file than .env.dev: for a second stack beside the first, of packages only.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../.env.dev
source "${DEV_ENV:-.env.dev}"

compose_file=docker-compose.dev.yml
dev=${DEV_DIR:-$PWD/.dev}
pgdata=$dev/postgres/data
bucket=${STREAMHOUSE_STORE#s3://}
bucket=${bucket%%[/?]*}
pg_port=$(sed -E 's#.*@[^/:]*:([0-9]+)/.*#\1#' <<<"$STREAMHOUSE_CATALOG")
minio_url=$(sed -E 's#.*[?&]endpoint=([^&]*).*#\1#' <<<"$STREAMHOUSE_STORE")
minio_port=${minio_url##*:}
console_port=$((minio_port + 1))
broker_port=${STREAMHOUSE_HTTP_ADDR##*:}
prometheus_port=${PROMETHEUS_URL##*:}
alertmanager_port=${ALERTMANAGER_URL##*:}
node_exporter_port=${NODE_EXPORTER_URL##*:}
grafana_port=${GRAFANA_URL##*:}

say() { echo "dev-setup: $*"; }
die() { echo "dev-setup: $*" >&2; exit 1; }

# --- containers

engine() { docker info >/dev/null 2>&1; }
compose() {
  if docker compose version >/dev/null 2>&1; then
    docker compose -f "$compose_file" "$@"
  elif command -v docker-compose >/dev/null; then
    docker-compose -f "$compose_file" "$@"
  else
    die "an engine answers, but neither 'docker compose' nor docker-compose is installed"
  fi
}
containers_start() {
  say "an engine answers: starting containers"
  compose up -d --wait
  say "ready: source .env.dev && go run ./cmd/streamhouse serve"
}
containers_stop() { compose --profile brokers --profile tracing stop; say "containers are stopped; their data stays in volumes"; }
containers_status() {
  compose --profile brokers --profile tracing ps
  # All that the file has outside of profiles, and nothing less.
  [ "$(compose ps --status running --services | sort)" = "$(compose config --services | sort)" ]
}
containers_reset() {
  compose --profile brokers --profile tracing down --volumes
  say "containers and volumes are gone"
  forget_broker
}
# forget_broker: brokers on this machine keep their ids, which belong to the catalog that is gone. Of those that scripts start, the
# file goes with the stack's data; the other may be somebody's folder.
forget_broker() {
  rm -rf "$dev/pipeline-broker"
  [ ! -f streamhouse-data/meta.properties ] ||
    say "a broker that was started here keeps its id in streamhouse-data/meta.properties: delete that before you start it on a new stack"
}

# --- packages

# running FILE NAME: whether the process whose id FILE holds is one of NAME. A number alone may be somebody else's by now.
running() {
  local pid
  pid=$(head -1 "$1" 2>/dev/null) && [ -n "$pid" ] && [[ "$(ps -o comm= -p "$pid" 2>/dev/null)" == "$2"* ]]
}
# listening PORT: whether somebody accepts connections there.
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# until_ready WHAT LOG COMMAND...: tries COMMAND for a minute.
until_ready() {
  local what=$1 log=$2
  shift 2
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  [ ! -r "$log" ] || tail -n 20 "$log" >&2
  die "$what did not become ready; its log is $log"
}
free_port() {
  ! listening "$1" || die "port $1, which $2 needs, is used by something this script did not start: stop that first"
}

# newest_initdb: of the versions that distributions put beside each other.
newest_initdb() {
  local f
  for f in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /opt/homebrew/opt/postgresql@*/bin/initdb; do
    [ ! -x "$f" ] || echo "$f" # a pattern that matches nothing stands for itself
  done | sort -V | tail -n 1
}
find_postgres() {
  local initdb
  initdb=$(command -v initdb || newest_initdb)
  [ -n "$initdb" ] && pgbin=$(dirname "$(readlink -f "$initdb")")
}
need_postgres() {
  find_postgres && return
  scripts/need postgres postgresql
  find_postgres || die "cannot find Postgres' initdb, also after installing it"
}
# as_postgres COMMAND...: as somebody who is not root, which Postgres refuses to run as.
as_postgres() {
  if [ "$(id -u)" != 0 ]; then
    "$@"
  else
    setpriv --reuid="$pguser" --regid="$(id -g "$pguser")" --clear-groups "$@"
  fi
}
pguser=$(id -un)
if [ "$(id -u)" = 0 ]; then
  pguser=nobody
  id postgres >/dev/null 2>&1 && pguser=postgres
fi
sql() { PGPASSWORD=$POSTGRES_PASSWORD "$pgbin/psql" -qAtX -h localhost -p "$pg_port" -U "$POSTGRES_USER" "$@"; }

postgres_start() {
  need_postgres
  if running "$pgdata/postmaster.pid" postgres; then
    say "Postgres runs already (process $(head -1 "$pgdata/postmaster.pid"))"
  else
    free_port "$pg_port" Postgres
    mkdir -p "$dev/postgres"
    as_postgres test -x "$dev/postgres" ||
      die "the user $pguser, as whom Postgres must run, cannot reach $dev/postgres: name a folder it can reach, as DEV_DIR=/var/tmp/streamhouse-dev"
    if [ ! -f "$pgdata/PG_VERSION" ]; then
      say "making a database cluster in $pgdata"
      rm -rf "$pgdata"
      mkdir "$pgdata"
      chmod 700 "$pgdata"
      local secret
      secret=$(mktemp)
      printf '%s\n' "$POSTGRES_PASSWORD" >"$secret"
      if [ "$(id -u)" = 0 ]; then chown -R "$pguser" "$dev/postgres" "$secret"; fi
      as_postgres "$pgbin/initdb" -D "$pgdata" -U "$POSTGRES_USER" --pwfile="$secret" -A scram-sha-256 \
        -E UTF8 --locale=C.UTF-8 >"$dev/initdb.log" 2>&1 || { cat "$dev/initdb.log" >&2; rm -rf "$pgdata" "$secret"; die "initdb failed"; }
      rm -f "$secret"
    fi
    : >>"$dev/postgres/log"
    if [ "$(id -u)" = 0 ]; then chown "$pguser" "$dev/postgres/log"; fi
    as_postgres "$pgbin/pg_ctl" -D "$pgdata" -l "$dev/postgres/log" -w -t 60 \
      -o "-p $pg_port -c listen_addresses=localhost -c max_connections=200 -c unix_socket_directories=$dev/postgres" \
      start >/dev/null || { tail -n 20 "$dev/postgres/log" >&2; die "Postgres did not start"; }
    say "started Postgres $("$pgbin/postgres" --version | awk '{print $3}') as $pguser on localhost:$pg_port (process $(head -1 "$pgdata/postmaster.pid"))"
  fi
  until_ready Postgres "$dev/postgres/log" sql -d postgres -c 'SELECT 1'
  if [ "$(sql -d postgres -c "SELECT count(*) FROM pg_database WHERE datname = '$POSTGRES_DB'")" = 0 ]; then
    sql -d postgres -c "CREATE DATABASE $POSTGRES_DB"
    say "made database $POSTGRES_DB of user $POSTGRES_USER"
  fi
}

minio_pid=$dev/minio.pid
# s3 METHOD PATH [OPTION...]: a signed request to MinIO. curl knows how.
s3() {
  curl -sS -o /dev/null -w '%{http_code}' "${@:3}" -X "$1" --user "$MINIO_ROOT_USER:$MINIO_ROOT_PASSWORD" \
    --aws-sigv4 'aws:amz:us-east-1:s3' "$minio_url/$2"
}
minio_start() {
  scripts/need curl curl
  scripts/minio minio
  if running "$minio_pid" minio; then
    say "MinIO runs already (process $(cat "$minio_pid"))"
  else
    free_port "$minio_port" MinIO
    free_port "$console_port" "MinIO's console"
    mkdir -p "$dev/minio"
    MINIO_UPDATE=off setsid .tools/bin/minio server "$dev/minio" --address ":$minio_port" --console-address ":$console_port" \
      >>"$dev/minio.log" 2>&1 </dev/null &
    echo $! >"$minio_pid"
    say "started MinIO on localhost:$minio_port (process $!)"
  fi
  until_ready MinIO "$dev/minio.log" curl -fsS "$minio_url/minio/health/live"
  # curl fails where the bucket is missing: what it printed, the status, decides.
  case $(s3 HEAD "$bucket" --head || true) in
  200) ;;
  *)
    local code
    code=$(s3 PUT "$bucket")
    [ "$code" = 200 ] || die "cannot make the bucket $bucket: HTTP $code; MinIO's log is $dev/minio.log"
    say "made the private bucket $bucket"
    ;;
  esac
}

# service NAME PROGRAM PORT COMMAND...: starts a program of .tools/bin or PATH that logs to a file and ends with SIGTERM. One that
# runs already is left alone.
service() {
  local name=$1 program=$2 port=$3 pidfile=$dev/$2.pid
  shift 3
  if running "$pidfile" "$program"; then
    say "$name runs already (process $(cat "$pidfile"))"
    return
  fi
  free_port "$port" "$name"
  setsid "$@" >>"$dev/$program.log" 2>&1 </dev/null &
  echo $! >"$pidfile"
  say "started $name on localhost:$port (process $!)"
}
# targets NAME PORT: where Prometheus finds the service, in a file of its own.
targets() { echo "- {targets: ['localhost:$2']}" >"$dev/prometheus/targets/$1.yml"; }

# The configuration is that of the containers, as are the rules; addresses are this stack's.
watch_start() {
  scripts/prometheus
  mkdir -p "$dev/prometheus/targets"
  cp prometheus/prometheus.yml prometheus/alerts.yml "$dev/prometheus/"
  targets agents "$broker_port"
  targets node "$node_exporter_port"
  targets prometheus "$prometheus_port"
  targets minio "$minio_port"
  targets alertmanager "$alertmanager_port"

  service node-exporter node_exporter "$node_exporter_port" \
    .tools/bin/node_exporter --no-collector.systemd --no-collector.textfile --web.listen-address=":$node_exporter_port"
  service Alertmanager alertmanager "$alertmanager_port" \
    .tools/bin/alertmanager --config.file=prometheus/alertmanager.yml --storage.path="$dev/alertmanager" \
    --web.listen-address=":$alertmanager_port" --web.external-url="$ALERTMANAGER_URL" --cluster.listen-address=
  local pages=()
  [ ! -d .tools/monitoring/usr/share/prometheus/web ] || pages=(--web.local-assets="$PWD/.tools/monitoring/usr/share/prometheus/web")
  service Prometheus prometheus "$prometheus_port" \
    .tools/bin/prometheus --config.file="$dev/prometheus/prometheus.yml" --storage.tsdb.path="$dev/prometheus/data" \
    --web.listen-address=":$prometheus_port" --web.external-url="$PROMETHEUS_URL" --web.enable-lifecycle "${pages[@]}"
  until_ready node-exporter "$dev/node_exporter.log" listening "$node_exporter_port"
  until_ready Alertmanager "$dev/alertmanager.log" curl -fsS "$ALERTMANAGER_URL/-/ready"
  until_ready Prometheus "$dev/prometheus.log" curl -fsS "$PROMETHEUS_URL/-/ready"
}
# grafana_home: where an installed Grafana has its pages.
grafana_home() {
  local d
  for d in /usr/share/grafana /opt/homebrew/opt/grafana/share/grafana /usr/local/share/grafana; do
    [ ! -d "$d" ] || { echo "$d"; return; }
  done
  die "grafana-server is in PATH, but its pages are in none of the usual places"
}
grafana_start() {
  if ! command -v grafana-server >/dev/null; then
    say "no Grafana: grafana-server is not in PATH. Everything else runs; dashboards are in grafana/dashboards"
    return
  fi
  local home
  home=$(grafana_home)
  mkdir -p "$dev/grafana"
  rm -rf "$dev/grafana/provisioning"
  cp -r grafana/provisioning "$dev/grafana/"
  sed -i.orig "s#/var/lib/grafana/dashboards#$PWD/grafana/dashboards#" "$dev/grafana/provisioning/dashboards/streamhouse.yml"
  rm "$dev/grafana/provisioning/dashboards/streamhouse.yml.orig"
  GF_PATHS_DATA=$dev/grafana/data GF_PATHS_LOGS=$dev/grafana/log GF_PATHS_PROVISIONING=$dev/grafana/provisioning \
    GF_SERVER_HTTP_PORT=$grafana_port GF_ANALYTICS_REPORTING_ENABLED=false GF_ANALYTICS_CHECK_FOR_UPDATES=false \
    service Grafana grafana "$grafana_port" grafana-server --homepath "$home"
  until_ready Grafana "$dev/grafana.log" curl -fsS "$GRAFANA_URL/api/health"
}

packages_start() {
  say "starting the services from packages${why:+: $why}"
  mkdir -p "$dev"
  postgres_start
  minio_start
  watch_start
  grafana_start
  say "ready: source .env.dev && go run ./cmd/streamhouse serve"
}
# end PID: asks a process of ours to end, and waits for it.
end() {
  kill "$1" 2>/dev/null || return 0 # it has ended
  for _ in $(seq 150); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.2
  done
  kill -9 "$1" 2>/dev/null || return 0 # it ended at last
}
# stop_service NAME PROGRAM: stops what service or minio_start started.
stop_service() {
  local pidfile=$dev/$2.pid
  if running "$pidfile" "$2"; then
    end "$(cat "$pidfile")"
    say "stopped $1"
  fi
  rm -f "$pidfile"
}
packages_stop() {
  stop_service Grafana grafana
  stop_service Prometheus prometheus
  stop_service Alertmanager alertmanager
  stop_service node-exporter node_exporter
  stop_service MinIO minio
  if find_postgres && running "$pgdata/postmaster.pid" postgres; then
    as_postgres "$pgbin/pg_ctl" -D "$pgdata" -m fast -w stop >/dev/null
    say "stopped Postgres"
  fi
  say "nothing of the stack runs; its data stays in $dev"
}
# status_service NAME PROGRAM WHERE
status_service() {
  if running "$dev/$2.pid" "$2"; then
    say "$1: process $(cat "$dev/$2.pid"), $3, log $dev/$2.log"
  else
    say "$1: not running"
    return 1
  fi
}
packages_status() {
  local ok=0
  if find_postgres && running "$pgdata/postmaster.pid" postgres; then
    say "Postgres: process $(head -1 "$pgdata/postmaster.pid"), localhost:$pg_port, database $POSTGRES_DB, log $dev/postgres/log"
  else
    say "Postgres: not running"
    ok=1
  fi
  status_service MinIO minio "$minio_url, bucket $bucket" || ok=1
  status_service Prometheus prometheus "$PROMETHEUS_URL" || ok=1
  status_service Alertmanager alertmanager "$ALERTMANAGER_URL" || ok=1
  status_service node-exporter node_exporter "$NODE_EXPORTER_URL" || ok=1
  if command -v grafana-server >/dev/null; then
    status_service Grafana grafana "$GRAFANA_URL, user $GF_SECURITY_ADMIN_USER" || ok=1
  else
    say "Grafana: not installed"
  fi
  return $ok
}
packages_reset() {
  packages_stop
  rm -rf "$dev"
  say "deleted $dev"
  forget_broker
}

kind=${DEV_STACK:-}
if [ -z "$kind" ]; then
  if engine; then kind=containers; else kind=packages why="no container engine answers"; fi
fi
case $kind in
containers | packages) ;;
*) die "DEV_STACK=$kind: want containers or packages" ;;
esac
case ${1:-start} in
start | stop | status | reset) "${kind}_${1:-start}" ;;
-h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' scripts/dev-setup.sh ;;
*)
  echo "usage: scripts/dev-setup.sh [start|stop|status|reset]" >&2
  exit 2
  ;;
esac
