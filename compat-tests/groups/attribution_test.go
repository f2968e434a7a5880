package groups_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// observed is a cluster whose metrics are looked at.
type observed struct {
	t         *testing.T
	bootstrap string
	http      []string // of each broker
	cl        *kgo.Client
}

// alone is one broker.
func alone(t *testing.T) *observed {
	t.Helper()
	b := target.Start(t)
	return &observed{t: t, bootstrap: b.Bootstrap, http: []string{b.HTTP()}, cl: b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))}
}

// scene is a group of its own on a topic of its own, with n records in each partition.
func (o *observed) scene(t *testing.T, s spec, n int) *scene {
	t.Helper()
	s.Bootstrap, s.Topic, s.Group = o.bootstrap, target.Name("attributed"), target.Name("group")
	sc := &scene{t: t, admin: kadm.NewClient(o.cl), cl: o.cl, spec: s}
	made, err := sc.admin.CreateTopic(t.Context(), partitions, 1, nil, s.Topic)
	require.NoError(t, err)
	require.NoError(t, made.Err)
	sc.produce(n)
	return sc
}

// get asks a broker over HTTP.
func get(ctx context.Context, addr, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return string(body), err
}

var (
	sampleLine = regexp.MustCompile(`(?m)^streamhouse_([a-z_]+)\{([^}]*)\} (\S+)$`)
	labelPair  = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
)

// series sums a family's samples over all brokers, by group and partition (where it has one), for one topic.
func (o *observed) series(ctx context.Context, family, topic string) (map[[2]string]float64, error) {
	out := map[[2]string]float64{}
	for _, addr := range o.http {
		text, err := get(ctx, addr, "/metrics")
		if err != nil {
			return nil, err
		}
		for _, m := range sampleLine.FindAllStringSubmatch(text, -1) {
			labels := map[string]string{}
			for _, l := range labelPair.FindAllStringSubmatch(m[2], -1) {
				labels[l[1]] = l[2]
			}
			if m[1] != family || labels["topic"] != topic {
				continue
			}
			v, err := strconv.ParseFloat(m[3], 64)
			if err != nil {
				return nil, err
			}
			out[[2]string{labels["group_id"], labels["partition"]}] += v
		}
	}
	return out, nil
}

// consumed checks that a group has read so many records of each partition, and nobody else any, and where it is.
func (o *observed) consumed(s *scene, want map[string]int) {
	s.t.Helper()
	eventually(s.t, func(ctx context.Context) error {
		records, err := o.series(ctx, "consumer_records_consumed_total", s.spec.Topic)
		if err != nil {
			return err
		}
		bytes, err := o.series(ctx, "consumer_bytes_consumed_total", s.spec.Topic)
		if err != nil {
			return err
		}
		if len(records) != len(want)*partitions {
			return fmt.Errorf("records are counted for %v, want %v", records, want)
		}
		for group, n := range want {
			for p := range partitions {
				if got := records[[2]string{group, strconv.Itoa(p)}]; got != float64(n) {
					return fmt.Errorf("partition %d: %v of %d records are counted for %q: %v", p, got, n, group, records)
				}
			}
			if bytes[[2]string{group, ""}] <= 0 {
				return fmt.Errorf("no bytes are counted for %q: %v", group, bytes)
			}
		}
		return nil
	})
}

// at checks the read position of a group in each partition, in the metrics of whoever knows it and over HTTP.
func (o *observed) at(s *scene, position int64) {
	s.t.Helper()
	eventually(s.t, func(ctx context.Context) error {
		current, err := o.series(ctx, "consumer_current_offset", s.spec.Topic)
		if err != nil {
			return err
		}
		over := map[int32]int64{}
		for _, addr := range o.http {
			text, err := get(ctx, addr, "/v1/groups/"+url.PathEscape(s.spec.Group)+"/lag")
			if err != nil {
				return err
			}
			var lag struct {
				Partitions []struct {
					Partition int32
					Position  *int64
				}
			}
			if err := json.NewDecoder(strings.NewReader(text)).Decode(&lag); err != nil {
				return err
			}
			for _, p := range lag.Partitions {
				if p.Position != nil {
					over[p.Partition] = *p.Position
				}
			}
		}
		for p := range int32(partitions) {
			if got, ok := current[[2]string{s.spec.Group, fmt.Sprint(p)}]; !ok || got != float64(position) || over[p] != position {
				return fmt.Errorf("partition %d: position is %v, over HTTP %v, want %d", p, current, over, position)
			}
		}
		return nil
	})
}

// gone checks that a group has no positions any more.
func (o *observed) gone(s *scene) {
	s.t.Helper()
	eventually(s.t, func(ctx context.Context) error {
		current, err := o.series(ctx, "consumer_current_offset", s.spec.Topic)
		if err == nil && len(current) > 0 {
			err = fmt.Errorf("positions of a group without members: %v", current)
		}
		return err
	})
}

// attributed are the members whose reads are looked at.
func attributed() []spec {
	if !full() {
		return []spec{{Client: "kcat"}, {Client: "franz-go"}, {Client: "confluent-kafka"}, {Client: "java", Protocol: "consumer"}}
	}
	return []spec{
		{Client: "kcat"},
		{Client: "franz-go"},
		{Client: "franz-go", Protocol: "consumer", Cooperative: true},
		{Client: "confluent-kafka"},
		{Client: "kafka-python"},
		{Client: "java"},
		{Client: "java", Protocol: "consumer"},
	}
}

// TestReadsAreAttributed: what a member reads is counted for its group, once, and its position is known as long as it is a member.
func TestReadsAreAttributed(t *testing.T) {
	o := alone(t)
	for _, kind := range attributed() {
		t.Run(kind.Client+" "+kind.protocol(), func(t *testing.T) {
			t.Parallel()
			s := o.scene(t, kind, 50)
			m := join(t, s.spec)
			s.readAll(m)
			o.consumed(s, map[string]int{s.spec.Group: 50})
			s.produce(5)
			s.readAll(m)
			o.consumed(s, map[string]int{s.spec.Group: 55})
			o.at(s, 54)
			m.leave()
			o.gone(s)
			o.consumed(s, map[string]int{s.spec.Group: 55}) // counters stay

			_, err := s.admin.DeleteGroups(t.Context(), s.spec.Group)
			require.NoError(t, err)
			eventually(t, func(ctx context.Context) error {
				records, err := o.series(ctx, "consumer_records_consumed_total", s.spec.Topic)
				if err == nil && len(records) > 0 {
					err = fmt.Errorf("series of a group that was deleted: %v", records)
				}
				return err
			})
		})
	}
}

// TestReadsInAFleet: the same, with partitions led by three brokers, of which one at most coordinates the group.
func TestReadsInAFleet(t *testing.T) {
	st := stack.Start(t, stack.Options{Brokers: 3})
	o := &observed{t: t, bootstrap: strings.Join(st.Seeds(), ","), cl: st.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))}
	for _, b := range st.Brokers {
		o.http = append(o.http, b.HTTP)
	}
	kinds := []spec{{Client: "kcat"}, {Client: "franz-go"}, {Client: "confluent-kafka", Protocol: "consumer"}}
	if !full() {
		kinds = kinds[:1]
	}
	for _, kind := range kinds {
		t.Run(kind.Client+" "+kind.protocol(), func(t *testing.T) {
			kind.Bootstrap = o.bootstrap
			s := o.scene(t, kind, 50)
			m := join(t, s.spec)
			s.readAll(m)
			o.consumed(s, map[string]int{s.spec.Group: 50})
			o.at(s, 49)
			// Other members in another process take half of it over: what each reads is its group's, too.
			m2 := join(t, s.spec)
			s.balanced(2)
			s.produce(50)
			s.readAll(m, m2)
			eventually(t, func(ctx context.Context) error {
				records, err := o.series(ctx, "consumer_records_consumed_total", s.spec.Topic)
				if err != nil {
					return err
				}
				for p := range partitions { // after a rebalance some are read again
					if got := records[[2]string{s.spec.Group, strconv.Itoa(p)}]; got < 100 {
						return fmt.Errorf("partition %d: %v of 100 records", p, records)
					}
				}
				return nil
			})
			o.at(s, 99)
			m.leave()
			m2.leave()
		})
	}
}

// TestTwoGroupsOnOneTopic: groups of one host are told apart by their client ids, and if these are the same, nobody's records are
// counted for either, and none twice.
func TestTwoGroupsOnOneTopic(t *testing.T) {
	o := alone(t)
	for _, same := range []bool{false, true} {
		t.Run(fmt.Sprintf("same client id %t", same), func(t *testing.T) {
			s := o.scene(t, spec{Client: "franz-go"}, 0)
			one, two := s.spec, s.spec
			two.Group = target.Name("group")
			if same {
				one.ClientID, two.ClientID = "twin", "twin"
			} else {
				one.ClientID, two.ClientID = "left", "right"
			}
			a, b := join(t, one), join(t, two)
			s.balanced(1)
			other := *s
			other.spec = two
			other.balanced(1)
			// The broker that is read from hears of members a moment after the group is stable; a scrape has it look at once. Only then: as
			// long as it knows one of two groups with one client id, it takes what is read for that one's.
			_, err := o.series(t.Context(), "consumer_records_consumed_total", s.spec.Topic)
			require.NoError(t, err)
			s.produce(50)
			s.readAll(a)
			s.readAll(b)
			if same {
				o.consumed(s, map[string]int{"": 100})
			} else {
				o.consumed(s, map[string]int{one.Group: 50, two.Group: 50})
			}
			a.leave()
			b.leave()
		})
	}
}
