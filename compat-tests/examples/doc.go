// Package examples runs the programs under examples/ against the built binary,
// and against brokers that lose records or tell nothing of a lag: an example
// that cannot fail shows nothing.
package examples
