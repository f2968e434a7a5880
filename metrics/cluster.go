package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// LeaseMove is a way in which leases come to this broker or leave it.
type LeaseMove int

// The ways: free ones taken, moved ones taken over, handed over to another broker.
const (
	LeaseAcquired LeaseMove = iota
	LeaseAdopted
	LeaseHandedOver
)

var leaseMoveLabels = [...]string{LeaseAcquired: "acquired", LeaseAdopted: "adopted", LeaseHandedOver: "handed_over"}

// FenceReason says why this broker fenced another one.
type FenceReason int

// The reasons: the session ran out, or the process was seen to be gone.
const (
	FenceExpired FenceReason = iota
	FenceDetached
)

var fenceLabels = [...]string{FenceExpired: "expired", FenceDetached: "detached"}

// Cluster records how this broker shares the partitions with others.
type Cluster struct {
	brokers     prometheus.Gauge
	controller  prometheus.Gauge
	fences      [len(fenceLabels)]prometheus.Counter
	moves       [len(leaseMoveLabels)][2]prometheus.Counter // by outcome
	moveSeconds [len(leaseMoveLabels)]prometheus.Observer
	asked       prometheus.Counter
	followed    prometheus.Counter
	behind      prometheus.Observer
}

func newCluster(b *builder) *Cluster {
	c := &Cluster{
		brokers:    b.gauge("cluster_brokers", "Living brokers of the cluster, as this one knows."),
		controller: b.gauge("cluster_controller", "1 while this broker is the controller, else 0."),
		asked:      b.counter("cluster_moves_asked_total", "Moves of leases that this broker asked for as controller."),
		followed:   b.counter("cluster_followed_rows_total", "Log objects of other brokers that came in."),
		behind: b.histogram("cluster_follow_delay_seconds",
			"From the commit of another broker's log object to its coming in here, at most.", secondsBuckets),
	}
	fences := b.counterVec("cluster_fences_total",
		"Other brokers this one fenced, by why; several brokers may fence one at once.", labelReason)
	for i, label := range fenceLabels {
		c.fences[i] = fences.WithLabelValues(label)
	}
	moves := b.counterVec("cluster_lease_moves_total",
		"Leases acquired, adopted or handed over, or tried to be, by outcome.", labelKind, labelStatus)
	seconds := b.histogramVec("cluster_lease_move_duration_seconds",
		"From the decision about a batch of leases to its outcome.", secondsBuckets, labelKind)
	for i, label := range leaseMoveLabels {
		c.moves[i] = [2]prometheus.Counter{moves.WithLabelValues(label, "ok"), moves.WithLabelValues(label, "error")}
		c.moveSeconds[i] = seconds.WithLabelValues(label)
	}
	return c
}

// Seen sets how many brokers live.
func (c *Cluster) Seen(brokers int) {
	if c != nil {
		c.brokers.Set(float64(brokers))
	}
}

// Controls sets whether this broker is the controller.
func (c *Cluster) Controls(controller bool) {
	if c == nil {
		return
	}
	v := 0.0
	if controller {
		v = 1
	}
	c.controller.Set(v)
}

// Fenced counts a broker fenced.
func (c *Cluster) Fenced(reason FenceReason) {
	if c != nil && reason >= 0 && int(reason) < len(c.fences) {
		c.fences[reason].Inc()
	}
}

// Moved counts n leases that moved together, or did not.
func (c *Cluster) Moved(how LeaseMove, n int, d time.Duration, ok bool) {
	if c == nil || how < 0 || int(how) >= len(c.moves) {
		return
	}
	outcome := 0
	if !ok {
		outcome = 1
	}
	c.moves[how][outcome].Add(float64(n))
	c.moveSeconds[how].Observe(d.Seconds())
}

// Asked counts n moves asked for.
func (c *Cluster) Asked(n int) {
	if c != nil {
		c.asked.Add(float64(n))
	}
}

// Followed counts n log objects of other brokers that came in, d after their commit.
func (c *Cluster) Followed(n int, d time.Duration) {
	if c != nil && n > 0 {
		c.followed.Add(float64(n))
		c.behind.Observe(d.Seconds())
	}
}
