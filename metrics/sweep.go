package metrics

import "github.com/prometheus/client_golang/prometheus"

// DeleteKind says why objects are deleted from the store.
type DeleteKind int

// The kinds: never committed by a process that is gone; replaced by a merge, or empty; a try of an upload whose other won.
const (
	DeleteOrphan DeleteKind = iota
	DeleteRetired
	DeleteSuperseded
)

var deleteLabels = [...]string{DeleteOrphan: "orphan", DeleteRetired: "retired", DeleteSuperseded: "superseded"}

// Sweep records what is deleted from the object store.
type Sweep struct {
	orphans prometheus.Counter
	deleted [len(deleteLabels)]prometheus.Counter
	failed  [len(deleteLabels)]prometheus.Counter
}

func newSweep(b *builder) *Sweep {
	s := &Sweep{orphans: b.counter("sweep_orphans_found_total",
		"Objects found in the store that the manifest never named; found again if they could not be deleted.")}
	deleted := b.counterVec("sweep_objects_deleted_total", "Objects deleted from the store, by why.", labelKind)
	failed := b.counterVec("sweep_objects_failed_total", "Objects whose deletion failed, by why they were to go.", labelKind)
	for i, label := range deleteLabels {
		s.deleted[i], s.failed[i] = deleted.WithLabelValues(label), failed.WithLabelValues(label)
	}
	return s
}

// Orphans counts n orphans found.
func (s *Sweep) Orphans(n int) {
	if s != nil && n > 0 {
		s.orphans.Add(float64(n))
	}
}

// Deleted counts n objects that were deleted together, or could not be.
func (s *Sweep) Deleted(kind DeleteKind, n int, ok bool) {
	if s == nil || kind < 0 || int(kind) >= len(s.deleted) || n <= 0 {
		return
	}
	if ok {
		s.deleted[kind].Add(float64(n))
	} else {
		s.failed[kind].Add(float64(n))
	}
}
