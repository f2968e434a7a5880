// Package dashboards runs every query of grafana/dashboards/*.json against a real Prometheus that scrapes real brokers
// under load: a cluster of two on Postgres and MinIO, and an embedded one. Each query must be accepted, have data, and
// have all labels that its legend names. Causes of errors are listed by cause, so the load makes some.
//
// Prometheus scrapes each second, and queries are asked over a window of some seconds in place of Grafana's
// $__rate_interval, so that a run takes half a minute.
//
// With DASHBOARDS_PICTURES=FOLDER the load lasts DASHBOARDS_FOR (5m), in waves, with a consumer that stops for a while, an
// object store that refuses, and a broker that is killed; then all panels are drawn into FOLDER by page/, from the same
// queries, with a browser without a screen ("make dashboard-pictures"). It is not Grafana that draws them: see
// docs/dashboards.md.
//
//	COMPAT_BINARY   the broker (default ../bin/streamhouse)
package dashboards
