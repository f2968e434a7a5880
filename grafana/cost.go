package grafana

// month is how many seconds a month has, in bills.
const month = "2592000"

// writing and reading are rates of the requests that a provider charges for: HTTP exchanges with an S3 store, repeats included; for other
// stores calls, of which only requests of one kind may have been made yet.
func writing(window string) string { return billed("put|list", window) }

func reading(window string) string { return billed("get|head", window) }

func billed(ops, window string) string {
	return `(
		sum(rate(streamhouse_objstore_http_requests_total{@broker, op=~"` + ops + `"}[` + window + `]))
		or sum(rate(streamhouse_objstore_requests_total{@broker, op=~"` + ops + `"}[` + window + `]))
		or vector(0))`
}

// topicOrNobody gives a name to what is done for no topic in particular, or for those that are told together.
func topicOrNobody(expr string) string {
	return `label_replace(` + expr + `, "topic", "no topic", "topic", "")`
}

func cost() board {
	return board{
		file: "streamhouse-cost", uid: "streamhouse-cost", title: "StreamHouse Cost",
		description: "What the object store is asked to do, by topic, and what that comes to at the prices above. Prices are examples until you write your own. docs/cost.md says what is counted and what is left out.",
		refresh:     "1m", from: "6h", topics: true,
		prices: []price{
			{"put_price", "$ per 1,000 PUT, LIST", "0.005", "What the provider asks for 1,000 requests that write or list."},
			{"get_price", "$ per 1,000 GET, HEAD", "0.0004", "What the provider asks for 1,000 requests that read."},
			{"storage_price", "$ per GB and month", "0.023", "What the provider asks for a gigabyte kept for a month."},
		},
		rows: []row{
			{panels: bill()},
			{title: "Requests", panels: storeRequests()},
			{title: "By topic", panels: byTopic()},
		},
	}
}

func bill() []panel {
	return []panel{
		{
			kind: number, title: "Writing requests, a month", unit: "currencyUSD", width: 6,
			about:   "PUT and LIST, a month at the pace of the time shown. It depends on how many log objects are put, not on records: a longer --flush-interval makes fewer.",
			queries: []query{{"", writing("$__range") + ` * ` + month + ` / 1000 * $put_price`}},
		},
		{
			kind: number, title: "Reading requests, a month", unit: "currencyUSD", width: 6,
			about:   "GET and HEAD, a month at the pace of the time shown: readers that are behind, and merges. Readers at the end of the log are served from memory.",
			queries: []query{{"", reading("$__range") + ` * ` + month + ` / 1000 * $get_price`}},
		},
		{
			kind: number, title: "Storage, a month", unit: "currencyUSD", width: 6,
			about:   "What topics hold now, for a month: record bytes, without what was replaced and is not deleted yet. Retention is not enforced in this version: it grows until topics are deleted.",
			queries: []query{{"", `sum(streamhouse_topic_stored_bytes{@broker, @topic, topic!~"__.*"}) / 1e9 * $storage_price`}},
		},
		{
			kind: number, title: "Requests for a million records", unit: "currencyUSD", width: 6,
			about: "What requests of all kinds cost, over records written, at the rates of the time shown; storage not included. No data where none was written.",
			queries: []query{{"", `
				1e6 * (` + writing("$__range") + ` / 1000 * $put_price + ` + reading("$__range") + ` / 1000 * $get_price)
				/ (sum(rate(streamhouse_agent_records_written_total{@broker}[$__range])) > 0)`}},
		},
	}
}

func storeRequests() []panel {
	return []panel{
		{
			title: "Dollars an hour, requests", unit: "currencyUSD", width: 12, stack: true, fromZero: true,
			about: "Requests at the prices above.",
			queries: []query{
				{"writing (PUT, LIST)", writing("@rate") + ` * 3600 / 1000 * $put_price`},
				{"reading (GET, HEAD)", reading("@rate") + ` * 3600 / 1000 * $get_price`},
			},
		},
		{
			title: "Calls of the object store", unit: "ops", width: 12, stack: true, fromZero: true,
			about:   "By operation. DELETE is free with most providers.",
			queries: []query{{"{{op}}", `sum by (op) (rate(streamhouse_objstore_requests_total{@broker}[@rate]))`}},
		},
	}
}

func byTopic() []panel {
	return []panel{
		{
			title: "Dollars a month, by topic", unit: "currencyUSD", width: 12, stack: true, fromZero: true,
			about: "Requests at the pace of the moment, and storage of what is there now, for a month. An object has records of many topics: each is charged its share of the bytes. A topic that costs much for what it carries: its readers are behind and read from the store, or its records are kept for long.",
			queries: []query{{"{{topic}}", topicOrNobody(`
				sum by (topic) (rate(streamhouse_topic_store_requests_total{@broker, @topic, topic!~"__.*", op="put"}[@rate])) * ` + month + ` / 1000 * $put_price
				+ sum by (topic) (rate(streamhouse_topic_store_requests_total{@broker, @topic, topic!~"__.*", op="get"}[@rate])) * ` + month + ` / 1000 * $get_price
				+ (sum by (topic) (streamhouse_topic_stored_bytes{@broker, @topic, topic!~"__.*"}) / 1e9 * $storage_price
				   or 0 * sum by (topic) (streamhouse_topic_stored_byte_seconds_total{@broker, @topic, topic!~"__.*"}))`)}},
		},
		{
			title: "Bytes stored", unit: "decbytes", width: 12, stack: true, fromZero: true,
			about:   "Record bytes in the logs of topics now. Retention is not enforced in this version: they grow until the topic is deleted.",
			queries: []query{{"{{topic}}", topicOrNobody(`sum by (topic) (streamhouse_topic_stored_bytes{@broker, @topic, topic!~"__.*"})`)}},
		},
		{
			title: "PUT by topic", unit: "ops", width: 6, stack: true, fromZero: true,
			about:   "Shares of requests that wrote, by topic: log objects and merges.",
			queries: []query{{"{{topic}}", topicOrNobody(`sum by (topic) (rate(streamhouse_topic_store_requests_total{@broker, @topic, topic!~"__.*", op="put"}[@rate]))`)}},
		},
		{
			title: "GET by topic", unit: "ops", width: 6, stack: true, fromZero: true,
			about:   "Shares of requests that read, by topic: consumers that are behind, and merges.",
			queries: []query{{"{{topic}}", topicOrNobody(`sum by (topic) (rate(streamhouse_topic_store_requests_total{@broker, @topic, topic!~"__.*", op="get"}[@rate]))`)}},
		},
		{
			title: "Bytes written by topic", unit: "Bps", width: 6, stack: true, fromZero: true,
			about:   "To the object store, merges included.",
			queries: []query{{"{{topic}}", topicOrNobody(`sum by (topic) (rate(streamhouse_topic_store_bytes_total{@broker, @topic, topic!~"__.*", op="put"}[@rate]))`)}},
		},
		{
			title: "Bytes read by consumers", unit: "Bps", width: 6, stack: true, fromZero: true,
			about:   "Returned to readers, from memory or from the store. Readers in another zone than their broker pay for traffic between zones: set racks (--rack, client.rack).",
			queries: []query{{"{{topic}}", `sum by (topic) (rate(streamhouse_consumer_bytes_consumed_total{@broker, @topic}[@rate]))`}},
		},
	}
}
