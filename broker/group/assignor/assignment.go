package assignor

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
)

// Partitions are partitions of one topic, ascending.
type Partitions struct {
	Topic      catalog.TopicID
	Partitions []int32
}

// stored is how partitions of a topic are kept in the catalog: the id as 32 hex digits, as everywhere for people.
type stored struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
}

// MarshalJSON gives {"topic": 32 hex digits, "partitions": [0, 1]}.
func (p Partitions) MarshalJSON() ([]byte, error) {
	return json.Marshal(stored{p.Topic.String(), p.Partitions})
}

// UnmarshalJSON reads what MarshalJSON gives.
func (p *Partitions) UnmarshalJSON(data []byte) error {
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	id, err := hex.DecodeString(s.Topic)
	if err != nil || len(id) != len(p.Topic) {
		return fmt.Errorf("topic id %q is not 32 hex digits", s.Topic)
	}
	p.Topic, p.Partitions = catalog.TopicID(id), s.Partitions
	return nil
}

// Assignment is a set of partitions: by topic id (in byte order), no topic twice or without partitions. Immutable once made.
type Assignment []Partitions

// Compare orders topic ids by their bytes.
func Compare(a, b catalog.TopicID) int { return bytes.Compare(a[:], b[:]) }

// Of makes an assignment of partitions in any order; it may keep the slices. Partitions named twice count once.
func Of(ps ...Partitions) Assignment {
	a := make(Assignment, 0, len(ps))
	ps = slices.Clone(ps)
	slices.SortStableFunc(ps, func(x, y Partitions) int { return Compare(x.Topic, y.Topic) })
	for _, p := range ps {
		if len(p.Partitions) == 0 {
			continue
		}
		if n := len(a); n > 0 && a[n-1].Topic == p.Topic {
			a[n-1].Partitions = append(slices.Clip(a[n-1].Partitions), p.Partitions...)
		} else {
			a = append(a, p)
		}
	}
	for i := range a {
		if !ascending(a[i].Partitions) {
			a[i].Partitions = slices.Clone(a[i].Partitions)
			slices.Sort(a[i].Partitions)
			a[i].Partitions = slices.Compact(a[i].Partitions)
		}
	}
	return a
}

func ascending(ps []int32) bool {
	for i := 1; i < len(ps); i++ {
		if ps[i-1] >= ps[i] {
			return false
		}
	}
	return true
}

// Len is the number of partitions.
func (a Assignment) Len() int {
	n := 0
	for _, t := range a {
		n += len(t.Partitions)
	}
	return n
}

// Equal says whether both are the same partitions.
func (a Assignment) Equal(b Assignment) bool {
	return slices.EqualFunc(a, b, func(x, y Partitions) bool {
		return x.Topic == y.Topic && slices.Equal(x.Partitions, y.Partitions)
	})
}

// Topic returns the partitions of a topic, nil when there are none.
func (a Assignment) Topic(id catalog.TopicID) []int32 {
	i, ok := slices.BinarySearchFunc(a, id, func(p Partitions, id catalog.TopicID) int { return Compare(p.Topic, id) })
	if !ok {
		return nil
	}
	return a[i].Partitions
}

// Has says whether a partition is in it.
func (a Assignment) Has(id catalog.TopicID, partition int32) bool {
	_, ok := slices.BinarySearch(a.Topic(id), partition)
	return ok
}

// Filter returns the partitions that keep answers true for; a itself if that is all.
func (a Assignment) Filter(keep func(id catalog.TopicID, partition int32) bool) Assignment {
	out := make(Assignment, 0, len(a))
	dropped := false
	for _, t := range a {
		drop := func(p int32) bool { return !keep(t.Topic, p) }
		if slices.ContainsFunc(t.Partitions, drop) {
			dropped = true
			t.Partitions = slices.DeleteFunc(slices.Clone(t.Partitions), drop)
		}
		if len(t.Partitions) > 0 {
			out = append(out, t)
		}
	}
	if !dropped {
		return a
	}
	return out
}

// Minus returns the partitions of a that are not in b.
func (a Assignment) Minus(b Assignment) Assignment {
	return a.Filter(func(id catalog.TopicID, p int32) bool { return !b.Has(id, p) })
}

// And returns the partitions in both.
func (a Assignment) And(b Assignment) Assignment { return a.Filter(b.Has) }

// Plus returns the partitions in any.
func (a Assignment) Plus(b Assignment) Assignment {
	if len(b) == 0 {
		return a
	}
	if len(a) == 0 {
		return b
	}
	return Of(append(slices.Clone(a), b...)...)
}
