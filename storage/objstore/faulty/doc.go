// Package faulty breaks an object store on purpose, by a plan, so that tests can fail every call in every way and see
// what is left.
//
// A [Plan] is a list of faults, each for the n-th call of one kind. It is deterministic: calls are counted in the
// order they arrive. A test first runs with an empty plan and reads [Plan.Calls], then runs once per index and
// [Kind]. After each run [Plan.Verify] must return nil: a fault that was never hit tested nothing.
//
// # Crash
//
// A fault with Crash set takes the process's store away after its effect: every later call, and the answer of every
// call under way, is [ErrCrashed], and no call that starts later reaches the wrapped store. A test then restarts its
// broker on the wrapped store. Calls that had reached the wrapped store before the crash may still end there, as a
// request on the wire does; [Store.Quiesce] waits for them. [Store.Crash] and [Store.Crashed] tie several seams to
// one crash.
package faulty
