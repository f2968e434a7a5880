package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

func brokerFaults() []fault {
	return []fault{
		{name: "kill-leader", run: killLeader},
		{name: "kill-controller", run: killController},
		{name: "kill-all", run: killAll},
		{name: "freeze-leader", run: freezeLeader},
		{name: "rolling-restart", run: rollingRestart},
		{name: "clock-off", run: clockOff},
		{name: "join-and-leave", brokers: 2, run: joinAndLeave},
	}
}

// killLeader kills the leader of some partition with SIGKILL. Where there are
// others, they must take over before it comes back.
func killLeader(r *round) error {
	b, _, err := r.leader()
	if err != nil {
		return err
	}
	return r.killOne(b)
}

// killController does it with the broker that balances.
func killController(r *round) error {
	b, err := r.Controller(r.ctx)
	if err != nil {
		return err
	}
	return r.killOne(b)
}

func (r *round) killOne(b *stack.Broker) error {
	r.note("broker %d", b.ID)
	epoch, err := r.epoch(b.ID)
	if err != nil {
		return err
	}
	since := time.Now()
	if err := b.Kill(); err != nil {
		return err
	}
	return r.othersTakeOver(epoch, since)
}

// othersTakeOver waits until all partitions take writes without a broker epoch;
// alone, a broker has nobody to take over.
func (r *round) othersTakeOver(epoch int64, since time.Time) error {
	if len(r.Brokers) == 1 {
		return nil
	}
	// Answers that were under way come in after the fault.
	for s := (session{}); !s.fenced && !s.gone; {
		var err error
		if s, err = r.session(epoch); err != nil {
			return err
		}
		if time.Since(since) > recoverWithin {
			return fmt.Errorf("nobody fenced broker epoch %d within %s", epoch, recoverWithin)
		}
		r.wait(10 * time.Millisecond)
	}
	if err := r.awaitAcks(time.Now()); err != nil {
		return fmt.Errorf("nobody took over: %w", err)
	}
	r.note("taken over after %s", time.Since(since).Round(time.Millisecond))
	return nil
}

// killAll kills all brokers at once.
func killAll(r *round) error {
	var errs []error
	for _, b := range r.Brokers {
		errs = append(errs, b.Kill())
	}
	return errors.Join(errs...)
}

// sessionTTL is what a silent broker's session lasts at most, with what it takes
// to notice.
const sessionTTL = 8 * time.Second

// freezeLeader stops a leader for longer than its session lasts. Thawed, it must
// not commit under its old epoch, and must not answer from what it remembers
// that an offset is out of range which others have written since.
func freezeLeader(r *round) error {
	b, partition, err := r.leader()
	if err != nil {
		return err
	}
	r.note("broker %d", b.ID)
	epoch, err := r.epoch(b.ID)
	if err != nil {
		return err
	}
	byName := kversion.Stable()
	byName.SetMaxKeyVersion(kmsg.Fetch.Int16(), 12) // later ones name topics by id
	asker, err := kgo.NewClient(append(load.Options(), kgo.SeedBrokers(b.Addr), kgo.MaxVersions(byName))...)
	if err != nil {
		return err
	}
	defer asker.Close()
	if err := asker.Ping(r.ctx); err != nil {
		return err
	}
	since := time.Now()
	if err := b.Freeze(); err != nil {
		return err
	}
	if len(r.Brokers) > 1 {
		if err := r.othersTakeOver(epoch, since); err != nil {
			return err
		}
		r.wait(time.Second) // the others write on
	} else {
		r.wait(sessionTTL)
	}
	fenced, err := r.session(epoch)
	if err != nil {
		return err
	}
	// Asked while it cannot answer: it answers first thing when it wakes up.
	answered := r.askAtEnd(asker, partition)
	if err := b.Thaw(); err != nil {
		return err
	}
	if err := <-answered; err != nil {
		return err
	}
	if err := r.awaitAcks(time.Now()); err != nil {
		return err
	}
	now, err := r.session(epoch)
	if err != nil {
		return err
	}
	if fenced.fenced && !now.gone && now.sequence != fenced.sequence {
		return fmt.Errorf("broker epoch %d committed %d after it was fenced at %d", epoch, now.sequence, fenced.sequence)
	}
	return nil
}

// askAtEnd fetches at the high watermark, as the poller last saw it.
func (r *round) askAtEnd(cl *kgo.Client, partition int32) <-chan error {
	out := make(chan error, 1)
	high := r.load.History.SeenHigh(partition)
	go func() {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, high, 1<<20
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.Partitions = r.load.Topic, append(topic.Partitions, p)
		req := kmsg.NewPtrFetchRequest()
		req.MaxWaitMillis, req.MaxBytes, req.SessionEpoch = 100, 1<<20, -1
		req.Topics = append(req.Topics, topic)
		ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
		defer cancel()
		answer, err := cl.SeedBrokers()[0].Request(ctx, req)
		resp, ok := answer.(*kmsg.FetchResponse)
		if err != nil || !ok || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			out <- nil // no answer is no wrong answer
			return
		}
		if code := resp.Topics[0].Partitions[0].ErrorCode; code == kerr.OffsetOutOfRange.Code {
			out <- fmt.Errorf("partition %d: a leader that was frozen answers OFFSET_OUT_OF_RANGE for offset %d, which others have written", partition, high)
			return
		} else if code != 0 {
			r.note("thawed it says %v", kerr.ErrorForCode(code))
		}
		out <- nil
	}()
	return out
}

type session struct {
	fenced, gone bool
	sequence     int64
}

// epoch is the unfenced epoch of a broker.
func (r *round) epoch(id int32) (epoch int64, err error) {
	conn, err := r.Postgres.Connect(r.ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(r.ctx) // it answered
	err = conn.QueryRow(r.ctx, "SELECT broker_epoch FROM brokers WHERE broker_id = $1 AND NOT fenced", id).Scan(&epoch)
	return epoch, err
}

// session reads the row of a broker epoch. One that is gone was fenced, and all
// it committed is folded.
func (r *round) session(epoch int64) (s session, err error) {
	conn, err := r.Postgres.Connect(r.ctx)
	if err != nil {
		return s, err
	}
	defer conn.Close(r.ctx) // it answered
	var n int
	err = conn.QueryRow(r.ctx, "SELECT count(*), coalesce(bool_or(fenced), false), coalesce(max(last_sequence), 0) FROM brokers WHERE broker_epoch = $1",
		epoch).Scan(&n, &s.fenced, &s.sequence)
	s.gone = n == 0
	return s, err
}

// rollingRestart stops each broker with SIGTERM and starts it again, one after
// the other, as an upgrade does.
func rollingRestart(r *round) error {
	for _, b := range r.Brokers {
		took, err := b.Stop()
		if err != nil {
			return err
		}
		r.note("%s", took.Round(10*time.Millisecond))
		if err := b.Start(r.ctx); err != nil {
			return err
		}
	}
	return nil
}

// clockOff moves the wall clock of one broker by ten minutes, ahead or back.
func clockOff(r *round) error {
	b, err := r.any()
	if err != nil {
		return err
	}
	seconds := int32(600)
	if r.random.IntN(2) == 0 {
		seconds = -seconds
	}
	r.note("broker %d by %d s", b.ID, seconds)
	since := time.Now()
	if err := b.SetClock(seconds); err != nil {
		return err
	}
	r.hold(3*time.Second, 4*time.Second, 15*time.Second)
	if err := r.awaitAcks(since.Add(2 * time.Second)); err != nil {
		return fmt.Errorf("with a clock that is off: %w", err)
	}
	return b.SetClock(0)
}

// joinAndLeave adds a broker, waits until it leads something, and takes one of
// the others away for good.
func joinAndLeave(r *round) error {
	begin := time.Now()
	b, err := r.Join(r.t)
	if err != nil {
		return err
	}
	if err := r.awaitLeads(b.ID, recoverWithin); err != nil {
		return err
	}
	r.note("broker %d leads after %s", b.ID, time.Since(begin).Round(10*time.Millisecond))
	old := r.Brokers[r.random.IntN(len(r.Brokers)-1)]
	took, err := old.Stop()
	if err != nil {
		return err
	}
	r.note("broker %d left in %s", old.ID, took.Round(10*time.Millisecond))
	return r.Remove(old)
}

// awaitLeads waits until the catalog shows a lease of a broker.
func (r *round) awaitLeads(id int32, within time.Duration) error {
	deadline := time.Now().Add(within)
	for time.Now().Before(deadline) {
		leases, err := r.Leases(r.ctx)
		if err != nil {
			return err
		}
		for _, l := range leases {
			if l.Broker == id && l.Topic == r.load.Topic {
				return nil
			}
		}
		r.wait(50 * time.Millisecond)
	}
	return fmt.Errorf("broker %d got no lease within %s", id, within)
}
