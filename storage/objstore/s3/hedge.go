package s3

import "sync"

// race is a GET and the second one beside it.
type race struct {
	first *attempt

	mu struct {
		sync.Mutex
		second  *attempt
		decided bool
	}

	// Written by the second before it sends its result, of which there is one if it joined.
	bytes  []byte
	result chan error
}

// join enters the second request, unless the first has ended.
func (r *race) join(second *attempt) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.decided {
		return false
	}
	r.mu.second = second
	return true
}

// decide says that the first has ended, and returns the second if there is one.
func (r *race) decide() *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.decided = true
	return r.mu.second
}
