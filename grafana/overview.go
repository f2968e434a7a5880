package grafana

// routine are answers that are part of normal life, as in prometheus/alerts.yml: half of every join, a partition that
// moved, a topic that is being created.
const routine = `MEMBER_ID_REQUIRED|NOT_LEADER_OR_FOLLOWER|UNKNOWN_TOPIC_OR_PARTITION`

// overview has exactly the seven panels people know by name.
func overview() board {
	return board{
		file: "streamhouse-overview", uid: "streamhouse-overview", title: "StreamHouse Overview",
		description: "Seven pictures of a cluster: what comes in, what goes out, who is behind, how long writes take, who leads, what fails, how large batches are.",
		refresh:     "10s", from: "30m",
		topics: true, groups: true,
		rows: []row{
			{panels: []panel{
				{
					title: "Producer Throughput", unit: "recps", width: 12, stack: true, fromZero: true,
					about:   "Records a second in committed batches, by topic. When it drops to less than half and producers did not mean to, look at Producer Latency and Producer Error Rate, then at the producers.",
					alerts:  []string{"ProducerThroughputDrop"},
					queries: []query{{"{{topic}}", `sum by (topic) (rate(streamhouse_producer_records_sent_total{@broker, @topic}[@rate]))`}},
				},
				{
					title: "Consumer Throughput", unit: "recps", width: 12, stack: true, fromZero: true,
					about:  `Records a second returned by Fetch, by group and topic; "no group" is what reads without one. When it is below Producer Throughput for long, lag grows: add consumers, up to one for each partition, or make them faster.`,
					alerts: []string{"ConsumerStalled"},
					queries: []query{{"{{group_id}} · {{topic}}", `
						label_replace(
						  sum by (group_id, topic) (rate(streamhouse_consumer_records_consumed_total{@broker, @topic, @group}[@rate])),
						  "group_id", "no group", "group_id", "")`}},
				},
			}},
			{panels: []panel{
				{
					title: "Consumer Lag", unit: "short", counts: "records", width: 12, fromZero: true, thresholds: []float64{1000, 10000},
					about:  "Records between the committed offset and the high watermark: of each group and topic, the partition that is furthest behind, which is what alerts look at (10,000 is HighConsumerLag). Sums and every partition are in the dashboard Consumer groups. A line that rises steadily needs more or faster consumers; one that rises from a moment on, with no commits, a look at the consumers' logs.",
					alerts: []string{"HighConsumerLag", "CriticalConsumerLag", "ConsumerLagGrowing", "ConsumerStalled"},
					// A group is told of by its coordinator alone, which has nothing to do with who leads: no choice by broker.
					queries: []query{{"{{group_id}} · {{topic}}", `max by (group_id, topic) (streamhouse_consumer_lag_records{@job, @topic, @group})`}},
				},
				{
					title: "Producer Latency p50/p95/p99", unit: "s", width: 12, fromZero: true, thresholds: []float64{0.05, 0.1},
					about:  "Produce requests, from request read to answer ready: mostly the wait for the object store and the commit. When all three rise, look at the object store and the catalog in Broker internals; when only p99 does, at hedged PUTs, retries and batches that wait for buffer memory.",
					alerts: []string{"HighProducerLatency", "VeryHighProducerLatency"},
					queries: []query{
						{"p50", `histogram_quantile(0.50, sum by (le) (rate(streamhouse_producer_send_duration_seconds_bucket{@broker, @topic}[@rate])))`},
						{"p95", `histogram_quantile(0.95, sum by (le) (rate(streamhouse_producer_send_duration_seconds_bucket{@broker, @topic}[@rate])))`},
						{"p99", `histogram_quantile(0.99, sum by (le) (rate(streamhouse_producer_send_duration_seconds_bucket{@broker, @topic}[@rate])))`},
					},
				},
			}},
			{panels: []panel{
				{
					title: "Agent Active Partitions", unit: "short", counts: "partitions", width: 8, fromZero: true,
					about:  "Partitions each broker leads, and those that nobody leads. Brokers should lead about as many each; a broker at 0 for minutes, or any partition without leader for longer than a take-over (seconds), needs a look at that broker's log and /ready.",
					alerts: []string{"AgentDown", "AgentNotReady", "NoActivePartitions"},
					queries: []query{
						{"{{instance}}", `
							sum by (instance) (streamhouse_agent_active_partitions{@broker, @topic})
							or 0 * sum by (instance) (streamhouse_agent_ready{@broker})`},
						{"without leader", `max(streamhouse_unled_partitions{@broker})`},
					},
				},
				{
					title: "Producer Error Rate", unit: "cps", width: 8, fromZero: true, thresholds: []float64{10, 100},
					about:  "Produce errors a second, by topic and Kafka's name of the error. Errors that are part of normal life (a partition moved, a topic is being created) are listed, but not in the sum, as in alerts. The error's name says where to look: the runbook has a line for each.",
					alerts: []string{"HighProducerErrorRate", "CriticalProducerErrorRate"},
					queries: []query{
						{"sum", `sum(rate(streamhouse_producer_send_errors_total{@broker, @topic, error_type!~"` + routine + `"}[@rate])) or vector(0)`},
						{"{{topic}} · {{error_type}}", `sum by (topic, error_type) (rate(streamhouse_producer_send_errors_total{@broker, @topic}[@rate]))`},
					},
				},
				{
					title: "Average Batch Size", unit: "short", counts: "records", width: 8, fromZero: true,
					about: "Records in a batch, by topic. Small batches (below ten or so) cost processor time on both sides, and compress badly: raise linger.ms and batch.size of the producers.",
					queries: []query{{"{{topic}}", `
						sum by (topic) (rate(streamhouse_producer_batch_size_records_sum{@broker, @topic}[@rate]))
						/ (sum by (topic) (rate(streamhouse_producer_batch_size_records_count{@broker, @topic}[@rate])) > 0)`}},
				},
			}},
		},
	}
}
