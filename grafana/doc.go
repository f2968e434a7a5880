// Package grafana is StreamHouse's dashboards as code. A test writes them to dashboards/*.json with -update ("make
// dashboards") and otherwise fails where a file is not what the code writes; Grafana is provisioned from these files, and
// people import them by hand.
//
// A dashboard is a list of rows, a row a list of panels, a panel what it shows, what to do about it, and its queries: see
// overview.go, broker.go, groups.go and cost.go. build.go turns them into Grafana's model by Grafana's own SDK.
//
// # Queries
//
// All queries go to the data source of the variable "datasource", and keep to what the other variables choose. For that they are written with
// short names, which [expand] replaces:
//
//	@broker   job=~"$job", instance=~"$instance"
//	@job      job=~"$job": of what one broker tells for all of them (lag is told by a group's coordinator)
//	@topic    topic=~"$topic"
//	@group    group_id=~"$group_id"
//	@rate     $__rate_interval
//
// A query of something that happens in trouble only must still answer, with 0, or a broken query and a quiet broker look
// the same; a list by cause may be empty beside such a sum. Every query is run against a real Prometheus that scrapes real brokers under load by
// compat-tests/dashboards.
//
// This is a module of its own so that the broker does not depend on Grafana's SDK.
package grafana
