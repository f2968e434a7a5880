// Package faulty breaks an object store on purpose, by a plan of package internal/fault, so that tests can fail every call in
// every way and see what is left. A crash takes the process's store away; the wrapped store stays open for the next process.
package faulty
