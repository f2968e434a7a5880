package grafana

func consumerGroups() board {
	return board{
		file: "streamhouse-groups", uid: "streamhouse-groups", title: "StreamHouse Consumer groups",
		description: "Where groups are, how fast they move, and whether their members stay.",
		refresh:     "10s", from: "1h", topics: true, groups: true,
		rows: []row{
			{panels: standing()},
			{title: "How far behind", panels: lag()},
			{title: "How fast", panels: speed()},
			{title: "Members", panels: members()},
		},
	}
}

// eachPartition is one sample for each partition of a group: after a move the old coordinator's may be there for a moment.
func eachPartition(metric string) string {
	return `max by (group_id, topic, partition) (` + metric + `{@job, @topic, @group})`
}

func standing() []panel {
	return []panel{
		{
			kind: number, title: "Groups", unit: "short", width: 6,
			about:   "Groups with committed offsets.",
			queries: []query{{"", `count(count by (group_id) (streamhouse_consumer_last_committed_offset{@job, @topic, @group})) or vector(0)`}},
		},
		{
			kind: number, title: "Groups behind", unit: "short", width: 6, thresholds: []float64{1},
			about:   "Groups with a partition more than 10,000 records behind, the threshold of HighConsumerLag.",
			alerts:  []string{"HighConsumerLag"},
			queries: []query{{"", `count(count by (group_id) (streamhouse_consumer_lag_records{@job, @topic, @group} > 10000)) or vector(0)`}},
		},
		{
			kind: number, title: "Records behind", unit: "short", width: 6,
			about:   "Sum over all groups chosen.",
			queries: []query{{"", `sum(` + eachPartition("streamhouse_consumer_lag_records") + `) or vector(0)`}},
		},
		{
			kind: number, title: "Oldest record not committed past", unit: "s", width: 6, thresholds: []float64{60, 600},
			about:   "The age of the oldest record that a group did not commit past: how late results are, at worst.",
			queries: []query{{"", `max(streamhouse_consumer_lag_seconds{@job, @topic, @group}) or vector(0)`}},
		},
	}
}

func lag() []panel {
	return []panel{
		{
			title: "Lag in records", unit: "short", counts: "records", width: 12, fromZero: true,
			about:   "High watermark less committed offset, summed over partitions. Rising steadily: more or faster consumers. Saw teeth: commits are far apart.",
			alerts:  []string{"HighConsumerLag", "CriticalConsumerLag", "ConsumerLagGrowing"},
			queries: []query{{"{{group_id}} · {{topic}}", `sum by (group_id, topic) (` + eachPartition("streamhouse_consumer_lag_records") + `)`}},
		},
		{
			title: "Lag in seconds", unit: "s", width: 12, fromZero: true,
			about:   "Age of the oldest record not yet committed past, of the worst partition. It rises by a second a second while a partition stands still.",
			alerts:  []string{"ConsumerStalled"},
			queries: []query{{"{{group_id}} · {{topic}}", `max by (group_id, topic) (streamhouse_consumer_lag_seconds{@job, @topic, @group})`}},
		},
		{
			kind: list, title: "Partitions furthest behind", unit: "short", width: 12, height: 9, thresholds: []float64{1000, 10000},
			about: "The twenty partitions with most lag. One partition far behind the others of its topic: its member is slow or hangs, or its keys get most records.",
			queries: []query{{"", `
				topk(20, ` + eachPartition("streamhouse_consumer_lag_records") + `)`}},
			columns: map[string]string{"group_id": "Group", "topic": "Topic", "partition": "Partition", "Value": "Records behind"},
		},
		{
			title: "Time to catch up", unit: "s", width: 12, height: 9, fromZero: true,
			about: "Lag divided by the speed at which it shrank over the last minutes, of groups more than 1,000 records behind. Nobody at 0: no such group catches up.",
			queries: []query{{"{{group_id}} · {{topic}}", `
				(sum by (group_id, topic) (` + eachPartition("streamhouse_consumer_lag_records") + `) > 1000)
				/ (-sum by (group_id, topic) (deriv(streamhouse_consumer_lag_records{@job, @topic, @group}[@rate])) > 0)
				or on () label_replace(label_replace(vector(0), "group_id", "nobody", "", ""), "topic", "nothing", "", "")`}},
		},
	}
}

func speed() []panel {
	return []panel{
		{
			title: "Committed", unit: "recps", width: 8,
			about:   "Speed of committed offsets, in records a second; negative when a group was set back. 0 with lag: stalled.",
			alerts:  []string{"ConsumerStalled"},
			queries: []query{{"{{group_id}} · {{topic}}", `sum by (group_id, topic) (deriv(streamhouse_consumer_last_committed_offset{@job, @topic, @group}[@rate]))`}},
		},
		{
			title: "Read", unit: "recps", width: 8, fromZero: true,
			about: `Records returned by Fetch. "no group" is what reads without a group, or what the broker could not attribute to one. Reading without committing: the consumer's processing fails or is slow.`,
			queries: []query{{"{{group_id}} · {{topic}}", `
				label_replace(
				  sum by (group_id, topic) (rate(streamhouse_consumer_records_consumed_total{@broker, @topic, @group}[@rate])),
				  "group_id", "no group", "group_id", "")`}},
		},
		{
			title: "Produced", unit: "recps", width: 8, fromZero: true,
			about:   "What comes into the topics: a group that commits less than this falls behind.",
			queries: []query{{"{{topic}}", `sum by (topic) (rate(streamhouse_producer_records_sent_total{@broker, @topic}[@rate]))`}},
		},
		{
			title: "Read and not committed", unit: "short", counts: "records", width: 8, fromZero: true,
			about: "Records between the position a group has read to and its committed offset: what members hold, and what is read again if they die. No line where no position is known.",
			queries: []query{{"{{group_id}} · {{topic}}", `
				sum by (group_id, topic) (
				  ` + eachPartition("streamhouse_consumer_current_offset") + `
				  - ` + eachPartition("streamhouse_consumer_last_committed_offset") + `)`}},
		},
		{
			title: "Bytes read", unit: "Bps", width: 8, fromZero: true,
			about: "Bytes returned by Fetch, compressed as they are stored.",
			queries: []query{{"{{group_id}} · {{topic}}", `
				label_replace(
				  sum by (group_id, topic) (rate(streamhouse_consumer_bytes_consumed_total{@broker, @topic, @group}[@rate])),
				  "group_id", "no group", "group_id", "")`}},
		},
		{
			title: "Commits", unit: "ops", width: 8, fromZero: true,
			about:   "Offsets committed a second (one for each partition), by outcome, of all groups that the chosen brokers coordinate. Errors: REBALANCE_IN_PROGRESS and ILLEGAL_GENERATION come with rebalances; many of them mean that members take longer than max.poll.interval.ms.",
			queries: []query{{"{{status}}", `sum by (status) (rate(streamhouse_group_coordinator_offset_commits_total{@broker}[@rate]))`}},
		},
	}
}

func members() []panel {
	return []panel{
		{
			title: "Rebalances", unit: "ops", width: 6, fromZero: true,
			about:   "By type of group and reason, of all groups that the chosen brokers coordinate. Some when members come and go; a steady rate is a group that never settles: members that die, or take longer than max.poll.interval.ms between polls.",
			queries: []query{{"{{type}} {{reason}}", `sum by (type, reason) (rate(streamhouse_group_coordinator_rebalances_total{@broker}[@rate]))`}},
		},
		{
			title: "Duration of rebalances p99", unit: "s", width: 6, fromZero: true,
			about:   "Classic groups read nothing meanwhile. It is as long as the slowest member takes to join again.",
			queries: []query{{"{{type}}", `histogram_quantile(0.99, sum by (type, le) (increase(streamhouse_group_coordinator_rebalance_duration_seconds_bucket{@broker}[@rate])))`}},
		},
		{
			title: "Groups and members", unit: "short", counts: "groups, members", width: 6, fromZero: true,
			about: "Groups by type and state, and members by type. A group that stays in another state than Stable (or Empty, without members) does not work.",
			queries: []query{
				{"{{type}} {{state}}", `sum by (type, state) (streamhouse_group_coordinator_groups{@broker})`},
				{"members {{type}}", `sum by (type) (streamhouse_group_coordinator_members{@broker})`},
			},
		},
		{
			title: "Heartbeats and joins", unit: "reqps", width: 6, fromZero: true,
			about:   "Requests of members, by outcome. REBALANCE_IN_PROGRESS tells members to join again; UNKNOWN_MEMBER_ID is a member that was thrown out because it was silent for too long.",
			queries: []query{{"{{api}} {{status}}", `sum by (api, status) (rate(streamhouse_agent_kafka_requests_total{@broker, api=~"Heartbeat|ConsumerGroupHeartbeat|JoinGroup|SyncGroup|LeaveGroup"}[@rate]))`}},
		},
	}
}
