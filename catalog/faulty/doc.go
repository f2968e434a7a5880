// Package faulty breaks a catalog on purpose, by a plan, so that tests can fail every call in every way and see what
// is left. It speaks as storage/objstore/faulty does.
//
// A [Plan] is a list of faults, each for the n-th call of one operation. It is deterministic: calls are counted in the
// order they arrive. A test first runs with an empty plan and reads [Plan.Calls], then runs once per index and
// [Kind]. After each run [Plan.Verify] must return nil: a fault that was never hit tested nothing.
//
// # Crash
//
// A fault with Crash set takes the catalog away after its effect: [Refuse] with Crash is a crash before the statement
// was applied, [Lost] with Crash one after. Every later call, and the answer of every call under way, is
// [ErrCrashed], which is catalog.ErrUnavailable: to the process, a catalog that is gone looks like one that cannot be
// reached, and nothing settles what is in doubt. No call that starts later reaches the wrapped catalog. A test then
// restarts its broker on the wrapped catalog. Calls that had reached the wrapped catalog before the crash may still
// end there, as a request on the wire does; [Catalog.Quiesce] waits for them. [Catalog.Crash] and [Catalog.Crashed]
// tie several seams to one crash.
package faulty
