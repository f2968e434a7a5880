// Package bubble runs a test in a bubble of synthetic time, as testing/synctest does, without the crash that Go's race
// detector has in one. Tests call [Test] in place of synctest.Test; the rest of synctest is as it was.
//
// The crash: a bubble has one race context for its timers. (1) Time moves on, and the bubble's root runs the first of
// the timers that are due; (2) the goroutine that it wakes runs on another processor and touches the channel of another
// timer that is due, which runs that timer there, in the same race context; (3) the root runs its next timer. Two threads
// now write one context's shadow stack, and the process ends by SIGSEGV or "ThreadSanitizer: CHECK failed", with no race
// in sight (https://go.dev/issue/78156, open as of Go 1.26.8; [TestRaceDetector] has it every time on two processors). A timer is
// run without preemption, so that a single processor cannot do two at once: under the race detector a bubble gets one.
// Races are still found, because the detector looks at what is ordered, not at what met.
//
// The package goes when that issue does.
package bubble
