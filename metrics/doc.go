// Package metrics holds every number StreamHouse tells the outside: the registry, the names, the recorders that
// other packages hand their values to, and the small HTTP server of /metrics, /health and /ready. It is a leaf: it
// imports nothing of ours, and no other package imports the server side of the Prometheus client.
//
// # Names
//
// The prefix is streamhouse_. The names of the producer_*, consumer_* and agent_* families, with their types and
// labels, are a contract with dashboards and alert rules that people already have; testdata/families.golden holds
// them, and a test compares. A family with labels has no sample until something is recorded: nothing is made up.
// Those of consumer groups (consumer_lag_*, consumer_last_committed_offset, consumer_current_offset) are made at each scrape from
// what the group coordinator tells, see [Lag]: a group is exported by its coordinator alone, and its series go with it. But positions
// (consumer_current_offset) are told by the broker that members fetch from. Whose records a client fetches is found out as
// docs/attribution.md says; a scrape that cannot tell the lag of all groups is counted in consumer_lag_errors_total.
//
// # Recorders
//
// [New] returns a [Metrics], whose fields are recorders by subject. A recorder hands out handles per topic and per
// partition; callers resolve a handle once, keep it, and then record without allocation or locks: each call is one or
// two atomic operations.
//
//	t := m.Producer.Topic("orders")   // once
//	p := t.Partition(3)               // once
//	t.Sent(p, records, bytes)         // hot path
//
// All recorders and handles may be nil, and then do nothing: the zero [Metrics] is a valid sink for tests and tools.
// All of them are safe for concurrent use.
//
// # Bounded cardinality
//
// A partition (for consumers: a partition and group) takes one of [Options.MaxPartitions] places when its first
// handle is asked for. Above that, handles share one series per topic with partition="". Topics are bounded likewise
// by [Options.MaxTopics]: above it, handles share series with topic="". The gauges streamhouse_metrics_folded_partitions and
// streamhouse_metrics_folded_topics say how many are folded now, and the first fold is logged. Sums over a topic stay
// right in both cases, since everything that folds is a counter, a histogram, or a gauge moved by differences.
//
// The lag of groups is made anew at each scrape, so it folds anew: above [Options.MaxPartitions] samples there is one per group and topic, with
// partition="". If these are more than the bound, too, the (bound - 1) that lag most keep theirs, and all others are one sample with
// topic="" and group_id="". Records and offsets are summed, of seconds the largest is told. streamhouse_metrics_folded_group_partitions
// counts the partitions of groups that have no sample of their own for either reason.
//
// [Cost] counts by topic what the object store is asked for, and [Limits] and [Pools] are set before each scrape.
//
// [Metrics.DropTopic] deletes the series of a deleted topic, and [TopicConsumer.DropGroup] those of a dead group. A handle kept after that
// is harmless and invisible: it records into series that nobody exports. Counters of a partition that moved to another broker stay:
// they are what this one did.
//
// # What it costs
//
// TestSizes measures memory and holds it below bounds (run it with -v); figures of 2026-11-27, amd64:
//
//   - the fixed part, families without series of topics: 98 KB of heap, 32 KB of an answer to /metrics;
//   - a topic that is written to and read, with its six histograms: 12.5 KB of heap, 10.5 KB of an answer;
//   - a partition of it: 2.7 KB of heap, 0.4 KB of an answer;
//   - a group on a partition: 0.7 KB of heap, 0.1 KB of an answer, besides what is made at a scrape for its lag.
//
// An update takes 4 to 25 ns (a request of S3: 93 ns) and allocates nothing (BenchmarkUpdates, TestUpdatesDoNotAllocate). With --metrics=off
// a broker has no registry and no observers: the zero [Metrics].
//
// # HTTP
//
// [Server] answers /health while the process lives; /ready with 200, or 503 and the reason, from a function it is
// given; /metrics in the exposition format. Before a scrape the same function sets streamhouse_agent_ready, so the gauge and
// /ready cannot disagree for longer than a scrape. Connections, header sizes, times and concurrent scrapes are
// bounded. /v1/groups and /v1/groups/{group}/lag answer in JSON what docs/openapi.yaml says, from [Groups]. net/http/pprof is served only when asked for.
package metrics
