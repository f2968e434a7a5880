package corpora_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/record"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// within is how long most steps of a client may take: against a broker without
// coordinators some wait for one for good.
const within = 6 * time.Second

func TestRecordStreamHouse(t *testing.T) {
	r := listen(t)
	r.upstream = target.Start(t, "--advertised-addr", r.addr).Bootstrap
	r.everybody(t)
	r.write(t, filepath.Join(client.Root(), ".."), true)
}

func TestRecordKafka(t *testing.T) {
	r := listen(t)
	r.upstream = startKafka(t, r.addr)
	r.everybody(t)
	r.write(t, filepath.Join(client.Root(), ".."), false)
}

// everybody runs all clients, one after another.
func (r *recorder) everybody(t *testing.T) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(session)
	}{
		{"franz-go", franz},
		{"java", java},
		{"kafka-python", kafkaPython},
		{"kafkajs", kafkaJS},
		{"librdkafka-confluent", confluent},
		{"librdkafka-kcat", kcat},
	} {
		s := session{t: t, bootstrap: r.addr, topic: target.Name("corpora"), limit: within}
		r.as(nobody)
		s.createTopic()
		r.as(c.name)
		c.run(s)
	}
}

// session is one client at one broker, with a topic of its own.
type session struct {
	t         *testing.T
	bootstrap string
	topic     string
	limit     time.Duration
}

// within is the session with another time limit for its steps.
func (s session) within(limit time.Duration) session {
	s.limit = limit
	return s
}

// createTopic creates the session's topic, which is none of its client's doing.
func (s session) createTopic() {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap))
	require.NoError(s.t, err)
	defer cl.Close()
	made, err := kadm.NewClient(cl).CreateTopic(s.t.Context(), 2, 1, map[string]*string{"retention.ms": new("-1")}, s.topic)
	require.NoError(s.t, err)
	require.NoError(s.t, made.Err)
}

// step does one thing and says how that went.
func (s session) step(name string, do func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), s.limit)
	defer cancel()
	if err := do(ctx); err != nil {
		text := err.Error()
		s.t.Logf("%s: %.300s", name, text)
	}
}

// produce sends a few small records in every codec.
func (s session) produce(p client.Producer) {
	for _, codec := range client.Codecs {
		job := client.Job{Bootstrap: s.bootstrap, Topic: s.topic, Partitions: 2, Seed: smallSeed(s.t), Count: count, Codec: codec}
		s.step(p.Name()+" "+codec, func(ctx context.Context) error {
			_, err := p.Produce(ctx, job)
			return err
		})
	}
}

func (s session) read(r client.Reader) {
	s.step(r.Name()+" reads", func(ctx context.Context) error {
		_, err := r.Read(ctx, s.bootstrap, s.topic, map[int32]client.Range{0: {Start: 0, End: 2}, 1: {Start: 0, End: 2}})
		return err
	})
}

// count is how many records a job has: enough for two batches of several, few
// enough for a small frame.
const count = 16

// smallSeed is a seed whose records are small but have all kinds of keys and
// headers.
func smallSeed(t *testing.T) uint32 {
	t.Helper()
	for seed := range uint32(1000) {
		g := record.New(seed)
		bytes, nulls, headers := 0, 0, 0
		for i := range uint32(count) {
			r := g.Record(i, record.Variant{})
			bytes += len(r.Value)
			headers += len(r.Headers)
			if r.Key == nil || r.Value == nil {
				nulls++
			}
		}
		if bytes < 3000 && nulls >= 2 && headers > count {
			return seed
		}
	}
	require.Fail(t, "no seed makes small records")
	return 0
}
