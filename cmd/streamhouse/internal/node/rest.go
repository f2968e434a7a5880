package node

const (
	// freeAfter is how many seconds without traffic, folds and merges make memory worth giving back.
	freeAfter = 10
	// dropAfter is how many seconds without traffic make what was read unlikely to be read again soon.
	dropAfter = 60
)

// rest finds the moments at which a broker that had traffic should make itself small. The collector runs when memory is
// asked for: a broker that stops being used would keep the garbage of its busiest time (measured: 230 MB instead of
// 100 MB) until it is used again, and for as long what its last readers wanted.
type rest struct {
	garbage bool // since memory was last given back
	cached  bool // there was traffic since the caches were last dropped
	idle    int  // seconds without traffic
	quiet   int  // seconds without traffic, folds and merges
}

// second tells what to do now: drop caches, give memory back. traffic and work tell of the time since the last call:
// whether clients wrote or read, and whether folds or merges ended.
func (r *rest) second(traffic, work bool) (drop, free bool) {
	r.idle, r.quiet = r.idle+1, r.quiet+1
	if traffic {
		r.idle, r.cached = 0, true
	}
	if traffic || work {
		r.quiet, r.garbage = 0, true
	}
	if r.cached && r.idle >= dropAfter {
		r.cached, r.garbage, drop = false, true, true
	}
	if r.garbage && r.quiet >= freeAfter {
		r.garbage, free = false, true
	}
	return drop, free
}
