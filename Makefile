# Everything a developer or CI runs. `make help` lists it. Tools are pinned here and installed into .tools/bin by
# "go install"; the Kafka clients of compat-tests are pinned in compat-tests/clients.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

GOLANGCI_LINT_VERSION := v2.15.0
GOTESTSUM_VERSION     := v1.13.0

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME  ?= 30s
BENCHTIME ?= 1s
BENCH     ?= .

TOOLS     := $(CURDIR)/.tools/bin
GOLANGCI  := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOTESTSUM := $(TOOLS)/gotestsum-$(GOTESTSUM_VERSION)

# A broker of your own (host:port) to run the compatibility tests against instead of bin/streamhouse. Tests that kill
# the broker's process are left out then.
COMPAT_BOOTSTRAP ?=
# Records per producing client and codec; `make compat-full` makes it a million per client.
COMPAT_RECORDS   ?= 2000
COMPAT_KILLS     ?= 50
COMPAT_REPORT    := $(CURDIR)/compat-tests/.clients/report.txt
COMPAT_TIMEOUT   ?= 15m
# Clusters of real processes being broken; `make chaos` breaks one CHAOS_ROUNDS times, CI four times.
CHAOS_PACKAGES   := ./chaos ./chaos/proxy ./chaos/history ./chaos/members
CHAOS_ROUNDS     ?= 200
CHAOS_SEED       ?= $(shell date +%s)
COMPAT_PACKAGES  := ./record ./wire ./admin ./matrix ./manifests $(if $(COMPAT_BOOTSTRAP),,./crash ./tour ./examples ./dashboards ./day ./devstack ./monitoring ./openapi ./pages ./groups ./groups/crowd $(CHAOS_PACKAGES))

export COMPAT_BOOTSTRAP COMPAT_RECORDS COMPAT_KILLS COMPAT_REPORT

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the static binary bin/streamhouse.
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/streamhouse ./cmd/streamhouse

.PHONY: test
test: unit compat ## Run all tests, with the race detector, then the compatibility tests; installs what they lack.

.PHONY: servers
servers: ## Install what tests run against: Postgres by apt-get, MinIO, versitygw, Alertmanager by "go install" (seven minutes, once), Prometheus.
	scripts/postgres
	scripts/minio
	scripts/prometheus

.PHONY: unit
unit: $(GOTESTSUM) servers ## Run the module's own tests, with the race detector.
	scripts/need cc gcc libc6-dev
	CGO_ENABLED=1 $(GOTESTSUM) --format pkgname-and-test-fails -- -race -timeout 15m ./...
	cd grafana && $(GOTESTSUM) --format pkgname-and-test-fails -- ./...

.PHONY: clients
clients: ## Install the Kafka clients of the compatibility tests into compat-tests/.clients.
	scripts/clients

.PHONY: compat
compat: $(GOTESTSUM) clients $(if $(COMPAT_BOOTSTRAP),,build servers) ## Test with other people's clients, a few thousand records each.
	rm -f $(COMPAT_REPORT)
	cd compat-tests && $(GOTESTSUM) --format pkgname-and-test-fails -- \
	  -count=1 -p 1 -parallel 2 -timeout $(COMPAT_TIMEOUT) $(COMPAT_PACKAGES) || \
	  { cat $(COMPAT_REPORT) 2>/dev/null; exit 1; }
	cat $(COMPAT_REPORT)

.PHONY: compat-full
compat-full: ## The same with a million records per producing client, each read by all others.
	COMPAT_READERS=all $(MAKE) compat COMPAT_RECORDS=200000 COMPAT_TIMEOUT=2h

# A day at 10,000 records a second, and so long of it at its own pace.
DAY_RECORDS ?= 864000000
DAY_PACED   ?= 5m

.PHONY: traces
traces: build servers ## Have Jaeger (built by "go build" in five minutes, once) show the traces of docs/tracing.md; a minute.
	scripts/jaeger
	scripts/need jq jq
	scripts/need curl curl
	cd compat-tests && go test -count=1 -v -timeout 15m ./traces

.PHONY: day
day: build ## Play a day of records (minutes, 32 GB of disk), then 5 minutes at its own pace; files, rows, restart, bytes.
	cd compat-tests && DAY_RECORDS=$(DAY_RECORDS) DAY_PACED=$(DAY_PACED) go test -count=1 -v -timeout 2h ./day

.PHONY: chaos
chaos: build clients servers ## Break a cluster of three brokers 200 times (CHAOS_ROUNDS) under load, then in other ways, and judge what clients saw; an hour and a half.
	cd compat-tests && CHAOS_FULL=1 CHAOS_ROUNDS=$(CHAOS_ROUNDS) CHAOS_SEED=$(CHAOS_SEED) \
	  go test -count=1 -v -p 1 -timeout 3h $(CHAOS_PACKAGES)

.PHONY: chaos-figures
chaos-figures: build servers ## Measure how long writes stand still around the loss of a broker, take-overs and balancing.
	cd compat-tests && go test -count=1 -v -timeout 1h ./chaos/figures

.PHONY: corpora
corpora: build clients ## Record the requests of real clients anew, as seeds of the fuzz targets; ten minutes.
	cd compat-tests && go test -count=1 -v -timeout 30m ./corpora

.PHONY: java-one-partition
java-one-partition: build clients ## Measure one Java producer on one partition, at three latencies of the store.
	scripts/java-one-partition

.PHONY: lint
lint: $(GOLANGCI) ## Check style, correctness and the direction of imports.
	$(GOLANGCI) run ./...
	cd compat-tests && $(GOLANGCI) run --config ../.golangci.yml ./...
	cd grafana && $(GOLANGCI) run --config ../.golangci.yml ./...
	scripts/need shellcheck shellcheck
	shellcheck -x -P SCRIPTDIR .ci/run $$(grep -ls '^#!.*bash' scripts/*)

.PHONY: fmt
fmt: $(GOLANGCI) ## Format all Go files as lint wants them.
	$(GOLANGCI) fmt ./...
	cd compat-tests && $(GOLANGCI) fmt --config ../.golangci.yml ./...
	cd grafana && $(GOLANGCI) fmt --config ../.golangci.yml ./...

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (30s).
	scripts/fuzz $(FUZZTIME)

.PHONY: groups
groups: build clients servers ## Have members of consumer groups by ten clients join, crash, leave and resume; minutes.
	cd compat-tests && GROUPS_FULL=1 go test -count=1 -parallel 2 -timeout 30m ./groups

.PHONY: group-figures
group-figures: build servers ## Measure commits, rebalances, lag and crowds of consumer groups; FIGURES_PEER=HOST:PORT measures another broker.
	cd compat-tests && go test -count=1 -v -timeout 30m ./groups/figures
	if [ -z "$${FIGURES_PEER:-}" ]; then cd compat-tests && go test -count=1 -v -timeout 10m ./groups/crowd; fi

.PHONY: postgres-versions
postgres-versions: ## Test catalog/postgres against Postgres 14, 15, 16 and 17, fetched from Maven Central (10 minutes).
	for v in 14 15 16 17; do \
	  bin=$$(scripts/postgres-version $$v); \
	  "$$bin/postgres" --version; \
	  PATH="$$bin:$$PATH" go test -count=1 -timeout 20m ./catalog/postgres/... || exit 1; \
	done

.PHONY: fleet-sim
fleet-sim: ## Simulate fleets for long: how brokers share partitions under random faults.
	FLEET_SIM=long go test -count=1 -timeout 1h ./catalog/lease

.PHONY: bench
bench: ## Run the benchmarks named BENCH (all) for BENCHTIME (1s) each.
	go test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) ./...

.PHONY: generate
generate: ## Write docs/protocol.md from the table of APIs.
	go test ./broker -run TestProtocolDoc -count=1 -update

.PHONY: dashboards
dashboards: ## Write grafana/dashboards/*.json from the code in grafana.
	cd grafana && go test -count=1 -run TestFilesAreWritten -update .

.PHONY: dashboard-pictures
dashboard-pictures: build servers ## Draw docs/images/*.png from the dashboards' queries under load; seven minutes.
	scripts/need chromium chromium
	scripts/need pngquant pngquant
	scripts/need npm npm
	cd compat-tests/dashboards/page && npm ci --no-audit --no-fund --silent
	cd compat-tests && DASHBOARDS_PICTURES=$(CURDIR)/docs/images go test -count=1 -v -timeout 30m -run TestPictures ./dashboards

.PHONY: clean
clean: ## Remove what was built; tools and clients stay.
	rm -rf bin

$(GOLANGCI):
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@

$(GOTESTSUM):
	GOBIN=$(TOOLS) go install gotest.tools/gotestsum@$(GOTESTSUM_VERSION)
	mv $(TOOLS)/gotestsum $@
