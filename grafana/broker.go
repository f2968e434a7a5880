package grafana

func brokerInternals() board {
	return board{
		file: "streamhouse-broker", uid: "streamhouse-broker", title: "StreamHouse Broker internals",
		description: "What a broker does between a client and the object store: requests, flushes, object store, catalog, caches, merges, leases, process.",
		refresh:     "30s", from: "1h", topics: true,
		rows: []row{
			{panels: state()},
			{title: "Requests", panels: requests()},
			{title: "Writing: from append to commit", panels: flushing()},
			{title: "How near to its bounds", panels: bounds()},
			{title: "Object store", panels: store()},
			{title: "Catalog", panels: catalog()},
			{title: "Reading: caches", panels: caches()},
			{title: "Log tail and merges", panels: merges()},
			{title: "Leases and other brokers", panels: leases()},
			{title: "Process", panels: process()},
		},
	}
}

func state() []panel {
	return []panel{
		{
			kind: number, title: "Brokers ready", unit: "short", width: 4, thresholds: []float64{1}, below: true,
			about:   "Brokers that serve, by their own word (/ready). Fewer than there should be: ask /ready of the missing one, it says why.",
			alerts:  []string{"AgentDown", "AgentNotReady"},
			queries: []query{{"", `sum(streamhouse_agent_ready{@broker})`}},
		},
		{
			kind: number, title: "Brokers in the cluster", unit: "short", width: 4,
			about:   "Living brokers as the brokers see each other in the catalog; 0 where a broker has a catalog of its own (embedded). More than are ready: one lives and does not serve.",
			queries: []query{{"", `max(streamhouse_cluster_brokers{@broker})`}},
		},
		{
			kind: number, title: "Partitions without leader", unit: "short", width: 4, thresholds: []float64{1, 10},
			about:   "Nobody serves these. Above 0 for seconds is a take-over; for longer, look at the log of any broker for \"acquire\".",
			alerts:  []string{"NoActivePartitions"},
			queries: []query{{"", `max(streamhouse_unled_partitions{@broker})`}},
		},
		{
			kind: number, title: "Client connections", unit: "short", width: 4,
			about:   "Open connections of Kafka clients, of all brokers chosen.",
			queries: []query{{"", `sum(streamhouse_agent_active_connections{@broker})`}},
		},
		{
			kind: number, title: "Controller", unit: "short", width: 4,
			about:   "The broker that shares partitions out. None: a cluster without controller balances nothing, though all else goes on; an embedded broker has none.",
			queries: []query{{"{{instance}}", `streamhouse_cluster_controller{@broker} == 1 or on () label_replace(vector(0), "instance", "none", "", "")`}},
		},
		{
			kind: number, title: "Version", unit: "short", width: 4,
			about:   "Versions that run. More than one is a rolling upgrade, or one that stopped half way.",
			queries: []query{{"{{version}}", `count by (version) (streamhouse_build_info{@broker})`}},
		},
	}
}

func requests() []panel {
	return []panel{
		{
			title: "Requests", unit: "reqps", width: 8, stack: true, fromZero: true,
			about:   "Requests served a second, by API. A client that asks for Metadata or InitProducerId all the time is in trouble: look at its log.",
			queries: []query{{"{{api}}", `sum by (api) (rate(streamhouse_agent_kafka_requests_total{@broker}[@rate]))`}},
		},
		{
			title: "Request duration p99", unit: "s", width: 8, fromZero: true,
			about:   "From request read to answer ready, by API. Fetch, JoinGroup and SyncGroup wait on purpose; all others should take milliseconds, Produce and OffsetCommit one flush.",
			queries: []query{{"{{api}}", `histogram_quantile(0.99, sum by (api, le) (rate(streamhouse_agent_kafka_request_duration_seconds_bucket{@broker}[@rate])))`}},
		},
		{
			title: "Error answers", unit: "cps", width: 8, fromZero: true, thresholds: []float64{10},
			about:  "Answers with an error, by API and Kafka's name of it; the sum leaves out those of normal life, as the alert does.",
			alerts: []string{"HighAgentKafkaErrors"},
			queries: []query{
				{"sum", `sum(rate(streamhouse_agent_kafka_requests_total{@broker, status!~"OK|` + routine + `"}[@rate])) or vector(0)`},
				{"{{api}} · {{status}}", `sum by (api, status) (rate(streamhouse_agent_kafka_requests_total{@broker, status!="OK"}[@rate]))`},
			},
		},
	}
}

func flushing() []panel {
	return []panel{
		{
			title: "Write latency p99", unit: "s", width: 8, fromZero: true, thresholds: []float64{0.1, 0.5},
			about:   "Append to commit, by topic: what producers wait for, less the network. All topics share log objects, so all should be alike; 0.5 s is the alert.",
			alerts:  []string{"HighAgentWriteLatency"},
			queries: []query{{"{{topic}}", `histogram_quantile(0.99, sum by (topic, le) (rate(streamhouse_agent_write_latency_seconds_bucket{@broker, @topic}[@rate])))`}},
		},
		{
			title: "Flush duration", unit: "s", width: 8, fromZero: true,
			about: "From the seal of a log object to its commit: the upload and the commit, no waiting before. When it is much less than write latency, appends wait for a free upload.",
			queries: []query{
				{"p50", `histogram_quantile(0.50, sum by (le) (rate(streamhouse_flush_duration_seconds_bucket{@broker}[@rate])))`},
				{"p99", `histogram_quantile(0.99, sum by (le) (rate(streamhouse_flush_duration_seconds_bucket{@broker}[@rate])))`},
			},
		},
		{
			title: "Log objects sealed", unit: "ops", width: 8, stack: true, fromZero: true,
			about:   "Log objects closed to appends, by why: full (size), or somebody waits and an upload is free (waiter). Each is one PUT. Many small ones cost money: a longer --flush-interval makes fewer.",
			queries: []query{{"{{reason}}", `sum by (reason) (rate(streamhouse_flush_seals_total{@broker}[@rate]))`}},
		},
		{
			title: "Size of log objects", unit: "bytes", width: 8, fromZero: true,
			about: "Bytes of committed log objects.",
			queries: []query{
				{"mean", `sum(rate(streamhouse_flush_object_size_bytes_sum{@broker}[@rate])) / (sum(rate(streamhouse_flush_object_size_bytes_count{@broker}[@rate])) > 0)`},
				{"p99", `histogram_quantile(0.99, sum by (le) (rate(streamhouse_flush_object_size_bytes_bucket{@broker}[@rate])))`},
			},
		},
		{
			title: "Buffered bytes", unit: "bytes", width: 8, fromZero: true,
			about:   "Bytes appended and not yet committed, by broker. It rises when the object store is slower than producers; at the broker's bound producers are made to wait.",
			queries: []query{{"{{instance}}", `sum by (instance) (streamhouse_flush_buffered_bytes{@broker})`}},
		},
		{
			title: "Uploads and retries", unit: "short", counts: "uploads, retries a second", width: 8, fromZero: true,
			about: "Log objects being uploaded now, by broker, and uploads or commits tried again in a second. Retries point at the object store or the catalog: their rows below say which.",
			queries: []query{
				{"{{instance}} uploads", `sum by (instance) (streamhouse_flush_uploads{@broker})`},
				{"retries/s", `sum(rate(streamhouse_flush_retries_total{@broker}[@rate]))`},
			},
		},
	}
}

func bounds() []panel {
	return []panel{
		{
			title: "Memory and connections, of what is allowed", unit: "percentunit", width: 8, fromZero: true, thresholds: []float64{0.8},
			about: "The fullest broker. At 1: requests wait to be read (requests), answers become small (answers), producers wait (buffered), connections are refused (connections). More brokers, or a larger --memory-limit.",
			queries: []query{
				{"requests", `max(streamhouse_agent_request_memory_bytes{@broker} / streamhouse_agent_request_memory_limit_bytes{@broker})`},
				{"answers", `max(streamhouse_agent_answer_memory_bytes{@broker} / streamhouse_agent_answer_memory_limit_bytes{@broker})`},
				{"buffered", `max(streamhouse_flush_buffered_bytes{@broker} / streamhouse_flush_buffered_limit_bytes{@broker})`},
				{"connections", `max(streamhouse_agent_active_connections{@broker} / streamhouse_agent_active_connections_limit{@broker})`},
			},
		},
		{
			title: "Log objects waiting", unit: "short", counts: "log objects", width: 8, fromZero: true,
			about: "Log objects that are full and wait for an upload slot, and all that are not committed, by broker. A queue that stays: the object store does not keep up with what comes in.",
			queries: []query{
				{"{{instance}} queued", `max by (instance) (streamhouse_flush_queued_objects{@broker})`},
				{"{{instance}} not committed", `max by (instance) (streamhouse_flush_uncommitted_objects{@broker})`},
			},
		},
		{
			title: "Oldest append not committed", unit: "s", width: 8, fromZero: true,
			about:   "How long the producer that waits longest has been waiting, by broker. Latency tells of writes that ended; this one also of those that do not. It rises by a second a second while the object store or the catalog does not answer.",
			queries: []query{{"{{instance}}", `max by (instance) (streamhouse_flush_oldest_append_age_seconds{@broker})`}},
		},
	}
}

func store() []panel {
	return []panel{
		{
			title: "Object store calls", unit: "ops", width: 6, stack: true, fromZero: true,
			about:   "Calls of the object store, by operation. What they cost is in the dashboard Cost.",
			queries: []query{{"{{op}}", `sum by (op) (rate(streamhouse_objstore_requests_total{@broker}[@rate]))`}},
		},
		{
			title: "Object store latency", unit: "s", width: 6, fromZero: true,
			about: "Calls that succeeded, by operation. PUT decides write latency, GET the latency of reads that miss the caches. Slow for all brokers: the provider; for one: its network.",
			queries: []query{
				{"{{op}} p50", `histogram_quantile(0.50, sum by (op, le) (rate(streamhouse_objstore_request_duration_seconds_bucket{@broker, status="ok"}[@rate])))`},
				{"{{op}} p99", `histogram_quantile(0.99, sum by (op, le) (rate(streamhouse_objstore_request_duration_seconds_bucket{@broker, status="ok"}[@rate])))`},
			},
		},
		{
			title: "Object store errors", unit: "cps", width: 6, fromZero: true,
			about: "Calls that failed, by operation; refused are answers like \"exists\" or \"not found\", which are normal in small numbers. Errors: credentials, bucket, network, throttling, in this order of what is quick to check; the broker's log has the provider's words.",
			queries: []query{
				{"errors", `sum(rate(streamhouse_objstore_requests_total{@broker, status="error"}[@rate])) or vector(0)`},
				{"{{op}} {{status}}", `sum by (op, status) (rate(streamhouse_objstore_requests_total{@broker, status!="ok"}[@rate]))`},
			},
		},
		{
			title: "Object store bytes", unit: "Bps", width: 6, fromZero: true,
			about:   "Payload moved, by operation. GET above what consumers read: the caches are too small for readers that are far behind.",
			queries: []query{{"{{op}}", `sum by (op) (rate(streamhouse_objstore_bytes_total{@broker, op=~"put|get"}[@rate]))`}},
		},
		{
			title: "Second requests beside slow ones", unit: "ops", width: 6, fromZero: true,
			about:   "Hedges: sent when the first takes much longer than most, by whether the second was faster (won). Some are the point of it; many lost ones only cost money, many won ones mean a store that stalls.",
			queries: []query{{"{{op}} {{status}}", `sum by (op, status) (rate(streamhouse_objstore_hedges_total{@broker}[@rate]))`}},
		},
		{
			title: "Retries and throttling", unit: "cps", width: 6, fromZero: true,
			about: "Exchanges sent again, by operation and what had failed; times the store asked to slow down. Throttling that stays: ask the provider for more, or spread keys (see docs/object-stores.md).",
			queries: []query{
				{"throttled", `sum(rate(streamhouse_objstore_throttles_total{@broker}[@rate]))`},
				{"{{op}} {{reason}}", `sum by (op, reason) (rate(streamhouse_objstore_retries_total{@broker}[@rate]))`},
			},
		},
		{
			title: "HTTP exchanges", unit: "reqps", width: 6, fromZero: true,
			about:   "What goes over the wire to an S3 store, retries and hedges included, by operation and outcome: what the provider bills. A local folder has none.",
			queries: []query{{"{{op}} {{status}}", `sum by (op, status) (rate(streamhouse_objstore_http_requests_total{@broker}[@rate]))`}},
		},
		{
			title: "Deletions", unit: "ops", width: 6, fromZero: true,
			about: "Objects deleted, by why: replaced by a merge (retired), never committed (orphan), the loser of two PUTs (superseded); and those that could not be. Failures are tried again; if they stay, the broker may not delete: check the bucket's policy.",
			queries: []query{
				{"{{kind}}", `sum by (kind) (rate(streamhouse_sweep_objects_deleted_total{@broker}[@rate]))`},
				{"failed", `sum(rate(streamhouse_sweep_objects_failed_total{@broker}[@rate]))`},
				{"orphans found", `sum(rate(streamhouse_sweep_orphans_found_total{@broker}[@rate]))`},
			},
		},
	}
}

func catalog() []panel {
	return []panel{
		{
			title: "Catalog calls", unit: "ops", width: 6, stack: true, fromZero: true,
			about:   "Calls of the catalog (Postgres or SQLite), by operation; commit is one for each flush.",
			queries: []query{{"{{op}}", `sum by (op) (rate(streamhouse_catalog_requests_total{@broker}[@rate]))`}},
		},
		{
			title: "Catalog latency p99", unit: "s", width: 6, fromZero: true,
			about:   "By operation. Commits are part of each write: milliseconds. When all rise, look at Postgres: its disk, its connections, long transactions.",
			queries: []query{{"{{op}}", `histogram_quantile(0.99, sum by (op, le) (rate(streamhouse_catalog_request_duration_seconds_bucket{@broker}[@rate])))`}},
		},
		{
			title: "Catalog errors", unit: "cps", width: 6, fromZero: true,
			about: "Calls that failed, and calls refused (fenced, conflict, not found), by operation. Some refusals are normal around a take-over. Errors for longer: the catalog is not reachable, and brokers cut themselves off when their sessions run out.",
			queries: []query{
				{"errors", `sum(rate(streamhouse_catalog_requests_total{@broker, status="error"}[@rate])) or vector(0)`},
				{"{{op}} {{status}}", `sum by (op, status) (rate(streamhouse_catalog_requests_total{@broker, status!="ok"}[@rate]))`},
			},
		},
		{
			title: "Connections to Postgres", unit: "short", counts: "connections", width: 6, fromZero: true,
			about: "By pool: in use and how many there may be, and for how many seconds a second statements waited for one. All in use and waiting: --catalog's pool is too small, or Postgres is slow. SQLite has none.",
			queries: []query{
				{"{{pool}} in use", `sum by (pool) (streamhouse_catalog_pool_connections{@broker, state="acquired"})`},
				{"{{pool}} limit", `sum by (pool) (streamhouse_catalog_pool_connections_limit{@broker})`},
				{"{{pool}} waiting", `sum by (pool) (rate(streamhouse_catalog_pool_wait_seconds_total{@broker}[@rate]))`},
			},
		},
	}
}

func caches() []panel {
	return []panel{
		{
			title: "Cache hits", unit: "percentunit", width: 6, fromZero: true, upTo: 1,
			about: "Share of reads answered from memory: tail is what was just written, block what was read before, or ahead. Readers at the end of the log should find all in the tail. Low block hits with many GETs: give the block cache more memory.",
			queries: []query{{"{{cache}}", `
				sum by (cache) (rate(streamhouse_cache_hits_total{@broker}[@rate]))
				/ (sum by (cache) (rate(streamhouse_cache_hits_total{@broker}[@rate])) + sum by (cache) (rate(streamhouse_cache_misses_total{@broker}[@rate])) > 0)`}},
		},
		{
			title: "Cache memory", unit: "bytes", width: 6, fromZero: true,
			about:   "Bytes held, by broker and cache.",
			queries: []query{{"{{instance}} {{cache}}", `sum by (instance, cache) (streamhouse_cache_bytes{@broker})`}},
		},
		{
			title: "Cache evictions", unit: "ops", width: 6, fromZero: true,
			about:   "Entries dropped to make room. Steady evictions are normal for a full cache; they matter when hits are low.",
			queries: []query{{"{{cache}}", `sum by (cache) (rate(streamhouse_cache_evictions_total{@broker}[@rate]))`}},
		},
		{
			title: "Fetch duration p50/p99", unit: "s", width: 6, fromZero: true,
			about: "From request read to answer ready; a reader at the end of the log waits for records up to its fetch.max.wait.ms (half a second by default), so p99 there is that wait.",
			queries: []query{
				{"p50", `histogram_quantile(0.50, sum by (le) (rate(streamhouse_consumer_poll_duration_seconds_bucket{@broker, @topic}[@rate])))`},
				{"p99", `histogram_quantile(0.99, sum by (le) (rate(streamhouse_consumer_poll_duration_seconds_bucket{@broker, @topic}[@rate])))`},
			},
		},
	}
}

func merges() []panel {
	return []panel{
		{
			title: "Objects in the tail", unit: "short", counts: "log objects", width: 6, fromZero: true,
			about:   "Log objects not yet folded into partitions' own lists, by broker. It goes up and down; when it only goes up, folds do not keep up or fail: look at Folds and merges.",
			queries: []query{{"{{instance}}", `sum by (instance) (streamhouse_tail_objects{@broker})`}},
		},
		{
			title: "Memory of the tail's indexes", unit: "bytes", width: 6, fromZero: true,
			about:   "Held in memory of every broker, and bounded.",
			queries: []query{{"{{instance}}", `sum by (instance) (streamhouse_tail_index_bytes{@broker})`}},
		},
		{
			title: "Folds and merges", unit: "ops", width: 6, fromZero: true,
			about:   "Runs, by kind and outcome. Another outcome than ok is tried again; for minutes, look for the kind's name in the log.",
			queries: []query{{"{{kind}} {{status}}", `sum by (kind, status) (rate(streamhouse_merge_runs_total{@broker}[@rate]))`}},
		},
		{
			title: "Bytes rewritten", unit: "Bps", width: 6, fromZero: true,
			about: "By kind, beside what producers write. A byte is rewritten a bounded number of times (at most 4), so the sum may be some times what is written, for a while.",
			queries: []query{
				{"{{kind}}", `sum by (kind) (rate(streamhouse_merge_bytes_total{@broker}[@rate]))`},
				{"written", `sum(rate(streamhouse_flush_bytes_total{@broker}[@rate]))`},
			},
		},
	}
}

func leases() []panel {
	return []panel{
		{
			title: "Lease moves", unit: "ops", width: 6, fromZero: true,
			about: "Partitions acquired, taken over and handed over a second, by outcome. Bursts are brokers that come and go; a steady rate means that brokers come and go all the time, or do not agree: look at fences.",
			queries: []query{
				{"{{kind}} {{status}}", `sum by (kind, status) (rate(streamhouse_cluster_lease_moves_total{@broker}[@rate]))`},
				{"asked by the controller", `sum(rate(streamhouse_cluster_moves_asked_total{@broker}[@rate]))`},
			},
		},
		{
			title: "Duration of lease moves p99", unit: "s", width: 6, fromZero: true,
			about: "From decision to outcome, by kind, where there were any: clients of these partitions wait so long.",
			queries: []query{
				{"{{kind}}", `histogram_quantile(0.99, sum by (kind, le) (increase(streamhouse_cluster_lease_move_duration_seconds_bucket{@broker}[@rate])))`},
			},
		},
		{
			title: "Sessions and fences", unit: "ops", width: 6, fromZero: true,
			about: "Renewals of sessions and leases by outcome, and brokers fenced by others. lost: this broker was fenced, and had to start its session anew; error: the catalog did not answer.",
			queries: []query{
				{"renewals {{status}}", `sum by (status) (rate(streamhouse_agent_lease_renewals_total{@broker}[@rate]))`},
				{"fenced {{reason}}", `sum by (reason) (rate(streamhouse_cluster_fences_total{@broker}[@rate]))`},
			},
		},
		{
			title: "Delay of other brokers' log objects", unit: "s", width: 6, fromZero: true,
			about: "How long after its commit a log object of another broker came in here: an embedded broker has no others. More than some tenths of a second: the catalog's notifications do not come, and polling finds them.",
			queries: []query{
				{"p50", `histogram_quantile(0.50, sum by (le) (rate(streamhouse_cluster_follow_delay_seconds_bucket{@broker}[@rate])))`},
				{"p99", `histogram_quantile(0.99, sum by (le) (rate(streamhouse_cluster_follow_delay_seconds_bucket{@broker}[@rate])))`},
			},
		},
	}
}

func process() []panel {
	return []panel{
		{
			title: "Processor", unit: "short", counts: "processors", width: 6, fromZero: true,
			about:   "Processors in use, by broker. Near what the machine has: more brokers, or larger batches of the producers.",
			alerts:  []string{"HighCPUUsage"},
			queries: []query{{"{{instance}}", `sum by (instance) (rate(process_cpu_seconds_total{@broker}[@rate]))`}},
		},
		{
			title: "Memory", unit: "bytes", width: 6, fromZero: true,
			about:  "Resident memory and what is in use of the heap, by broker.",
			alerts: []string{"HighMemoryUsage"},
			queries: []query{
				{"{{instance}} resident", `sum by (instance) (process_resident_memory_bytes{@broker})`},
				{"{{instance}} heap", `sum by (instance) (go_memstats_heap_inuse_bytes{@broker})`},
			},
		},
		{
			title: "Goroutines", unit: "short", counts: "goroutines", width: 6, fromZero: true,
			about:   "By broker: some for each connection. When they rise and connections do not, please report it with a profile (--pprof).",
			queries: []query{{"{{instance}}", `sum by (instance) (go_goroutines{@broker})`}},
		},
		{
			title: "Open files", unit: "percentunit", width: 6, fromZero: true, upTo: 1, thresholds: []float64{0.8},
			about:   "Share of the file descriptors the process may have: connections and files. Near 1 connections are refused: raise the limit (ulimit -n).",
			queries: []query{{"{{instance}}", `sum by (instance) (process_open_fds{@broker}) / sum by (instance) (process_max_fds{@broker})`}},
		},
	}
}
