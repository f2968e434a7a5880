// Package faulty breaks a catalog on purpose, by a plan of package internal/fault, so that tests can fail every call in every
// way and see what is left.
//
// After a crash every call is [ErrCrashed], which is catalog.ErrUnavailable: to the process, a catalog that is gone looks like
// one that cannot be reached, and nothing settles what is in doubt.
package faulty
