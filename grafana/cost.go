package grafana

// month is how many seconds a month has, in bills.
const month = "2592000"

func cost() board {
	return board{
		file: "streamhouse-cost", uid: "streamhouse-cost", title: "StreamHouse Cost",
		description: "What the object store is asked to do, and what that comes to at the prices above. Prices are those of S3 Standard in us-east-1 until you write your own.",
		refresh:     "1m", from: "6h", topics: true,
		prices: []price{
			{"put_price", "$ per 1,000 PUT, LIST", "0.005", "What the provider asks for 1,000 requests that write or list."},
			{"get_price", "$ per 1,000 GET", "0.0004", "What the provider asks for 1,000 requests that read."},
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
			kind: number, title: "Writing requests, a month at this pace", unit: "currencyUSD", width: 8,
			about:   "PUT and LIST at the rate of the time shown. It depends on how many log objects are put, not on records: a longer --flush-interval makes fewer.",
			queries: []query{{"", `sum(rate(streamhouse_objstore_requests_total{@broker, op=~"put|list"}[$__range])) * ` + month + ` / 1000 * $put_price`}},
		},
		{
			kind: number, title: "Reading requests, a month at this pace", unit: "currencyUSD", width: 8,
			about:   "GET and HEAD at the rate of the time shown: readers that are behind, and merges. Readers at the end of the log are served from memory.",
			queries: []query{{"", `sum(rate(streamhouse_objstore_requests_total{@broker, op=~"get|head"}[$__range])) * ` + month + ` / 1000 * $get_price`}},
		},
		{
			kind: number, title: "Dollars for a million records", unit: "currencyUSD", width: 8,
			about: "Requests of all kinds over records written, at the rates of the time shown; storage not included.",
			queries: []query{{"", `
				1e6 * (
				  sum(rate(streamhouse_objstore_requests_total{@broker, op=~"put|list"}[$__range])) / 1000 * $put_price
				  + sum(rate(streamhouse_objstore_requests_total{@broker, op=~"get|head"}[$__range])) / 1000 * $get_price
				) / sum(rate(streamhouse_agent_records_written_total{@broker}[$__range]))`}},
		},
	}
}

func storeRequests() []panel {
	return []panel{
		{
			title: "Dollars an hour", unit: "currencyUSD", width: 12, stack: true, fromZero: true,
			about: "Requests at the prices above.",
			queries: []query{
				{"writing (PUT, LIST)", `sum(rate(streamhouse_objstore_requests_total{@broker, op=~"put|list"}[@rate])) * 3600 / 1000 * $put_price`},
				{"reading (GET, HEAD)", `sum(rate(streamhouse_objstore_requests_total{@broker, op=~"get|head"}[@rate])) * 3600 / 1000 * $get_price`},
			},
		},
		{
			title: "Requests", unit: "ops", width: 12, stack: true, fromZero: true,
			about:   "By operation. DELETE is free with most providers.",
			queries: []query{{"{{op}}", `sum by (op) (rate(streamhouse_objstore_requests_total{@broker}[@rate]))`}},
		},
	}
}

func byTopic() []panel {
	return []panel{
		{
			title: "Bytes written", unit: "Bps", width: 12, stack: true, fromZero: true,
			about:   "Bytes of batches committed, by topic: what storage grows by, until retention or deletion.",
			queries: []query{{"{{topic}}", `sum by (topic) (rate(streamhouse_producer_bytes_sent_total{@broker, @topic}[@rate]))`}},
		},
		{
			title: "Bytes read", unit: "Bps", width: 12, stack: true, fromZero: true,
			about:   "Bytes returned to readers, by topic. Brokers in one zone with their readers make no traffic between zones: set racks (--rack, client.rack).",
			queries: []query{{"{{topic}}", `sum by (topic) (rate(streamhouse_consumer_bytes_consumed_total{@broker, @topic}[@rate]))`}},
		},
	}
}
