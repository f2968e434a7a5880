// Package monitoring tests what watches a cluster, prometheus/ and its runbooks, with the programs that will read it:
// promtool and amtool check and unit-test it, and a real Prometheus, Alertmanager and node-exporter watch a real broker with
// it, sped up. They are fetched by scripts/prometheus.
package monitoring
