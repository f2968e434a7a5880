// Package target is the broker under test: the built binary, started by the
// test in a process of its own, or any broker that answers at
// $COMPAT_BOOTSTRAP.
//
//	COMPAT_BOOTSTRAP   host:port of a broker to test instead of the binary;
//	                   tests that stop or kill it cannot run then, and are in
//	                   package crash, which is not run then
//	COMPAT_BINARY      the binary (default ../bin/streamhouse)
//
// A process started here is stopped by SIGTERM when its test ends, must exit
// with 0, and must not have written a panic or a data race: a broker that
// answers well and dies badly fails the test. Its output is shown when the test
// fails.
package target
