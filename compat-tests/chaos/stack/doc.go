// Package stack runs a StreamHouse cluster for fault tests: real processes, on
// free ports of 127.0.0.1, with a proxy in every connection between them.
//
//	client ── TCP proxy ── broker ──┬── Postgres proxy ── Postgres
//	(one per broker)                └── TCP proxy ── HTTP proxy ── MinIO
//	                                    (per broker)  (shared)
//
// Or, where a real network is to be cut, each broker lives in a network namespace
// with a cable to each of them instead ([Cables]).
//
// Brokers tell their clients the address of the proxy, so that no client goes
// around it. Brokers open no connections to each other: there is none to cut.
//
// Postgres runs with fsync, MinIO on a small file system in memory, which can
// be filled up without harm to the machine; mounting it takes root. Everything
// dies with the test process, by the kernel's doing.
//
//	COMPAT_BINARY   the broker (default ../bin/streamhouse)
package stack
