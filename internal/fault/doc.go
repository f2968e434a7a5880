// Package fault breaks the calls of a seam on purpose, by a plan, so that tests can fail every call in every way and see
// what is left. The packages catalog/faulty and storage/objstore/faulty are it for their seams; they name the operations.
//
// A [Plan] is a list of faults, each for the n-th call of one operation. It is deterministic: calls are counted in the
// order they arrive. A test first runs with an empty plan and reads [Plan.Calls], then runs once per index and
// [Kind]. After each run [Plan.Verify] must return nil: a fault that was never hit tested nothing.
//
// # Crash
//
// A fault with Crash set takes the seam away from the process after its effect: [Refuse] with Crash is a crash before the
// call was done, [Lost] with Crash one after. Every later call, and the answer of every call under way, is
// [Answers.Crashed], and no call that starts later is made. A test then restarts its broker on what was wrapped. Calls that
// had begun before the crash may still end, as a request on the wire does; [Seam.Quiesce] waits for them. [Seam.Crash] and
// [Seam.Crashed] tie several seams to one crash.
package fault
