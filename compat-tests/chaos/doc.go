// Package chaos breaks a cluster of real processes, again and again, under
// idempotent load, and judges what clients saw: package history says by what.
//
// A round is one fault: it waits until all is well, does something terrible to
// one or all of Postgres, MinIO, the brokers and the connections between them
// (package stack), puts it right, and waits until every partition acknowledges
// writes again. The faults are in the files faults_*_test.go, one function each;
// which comes when, and its times, are chosen by a seed.
//
// TestGroups and TestGroupClients lose the coordinators of consumer groups: of members driven by hand, in every state a group
// can be in (package members), and of real clients.
//
// What needs another stack, or leaves a cluster that cannot go on, is a test of its
// own: Apache Kafka's producer through every fault (TestJava); a database that
// fails over to a standby, a synchronous one and one that was behind; the catalog
// restored to an earlier time; networks cut for real (TestCables); leases that the
// controller moves (TestBalance).
//
//	CHAOS_ROUNDS    rounds of TestRounds (default 4; `make chaos`: 200)
//	CHAOS_SEED      which rounds (default 1)
//	CHAOS_BROKERS   brokers (default 3)
//	CHAOS_FAULTS    only faults (of TestRounds and TestGroups) whose names match this regular expression
//	CHAOS_FULL      1: faults last as long as they can in production, say half a
//	                minute of 503s, and all are tried; otherwise a few seconds, and
//	                some of them
//	CHAOS_LOGS      folder to keep the logs of failed tests in
//
// What is not done, and why: brokers have no connections to each other, so none
// is cut; a proxy's silent cut is not quite a network's (package proxy), so a test
// of its own cuts a network where the machine lets it; power loss is another
// matter than SIGKILL, and is not tested.
package chaos
