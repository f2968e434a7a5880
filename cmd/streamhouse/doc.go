// Command streamhouse is a Kafka broker in one binary, and the tools that belong to it.
//
// This package is the command line: what can be said, what is checked before anything starts, and how results are
// shown. Work is done elsewhere: settings in internal/config, records as text in internal/recordio, load tests in
// internal/bench. Only main exits the process; everything else returns.
//
// Exit codes: 0 done; 1 it was tried and failed; 2 the command line, the environment or the file is wrong.
package main
