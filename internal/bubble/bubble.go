package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// processors counts the bubbles of parallel tests, of which the first takes the processors and the last gives them back.
var processors struct {
	sync.Mutex
	bubbles int
	before  int
}

// Test runs f in a bubble of its own, like [synctest.Test], on one processor if the race detector is on.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raceEnabled {
		enter()
		defer leave()
	}
	synctest.Test(t, f) //nolint:forbidigo // the one door to it
}

func enter() {
	processors.Lock()
	defer processors.Unlock()
	if processors.bubbles == 0 {
		processors.before = runtime.GOMAXPROCS(1)
	}
	processors.bubbles++
}

func leave() {
	processors.Lock()
	defer processors.Unlock()
	processors.bubbles--
	if processors.bubbles == 0 {
		runtime.GOMAXPROCS(processors.before)
	}
}
