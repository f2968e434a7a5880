package verify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// Summary is how much a log is.
type Summary struct {
	ClusterID      string       `json:"cluster_id"`
	Topics         int64        `json:"topics"`
	DeletedTopics  int64        `json:"deleted_topics"`
	Partitions     int64        `json:"partitions"`
	Brokers        int64        `json:"broker_epochs"` // not fenced, or with a tail
	TailRows       int64        `json:"tail_rows"`
	TailIndexBytes int64        `json:"tail_index_bytes"`
	Tail           Count        `json:"tail"`
	Folded         Count        `json:"folded"`
	LiveBytes      int64        `json:"folded_live_bytes"`
	Generations    []Generation `json:"generations"`
	Retired        Count        `json:"retired"`
	Orphans        Count        `json:"orphans"`
	Foreign        Count        `json:"foreign"` // under keys that are none of ours
	Stored         Count        `json:"stored"`  // all that is in the store
}

// Generation is the folded objects whose bytes were rewritten as often.
type Generation struct {
	Generation int32 `json:"generation"`
	Count
	LiveBytes int64 `json:"live_bytes"`
}

// Summarize counts. It reads the catalog and lists the store.
func Summarize(ctx context.Context, cat catalog.Catalog, store objstore.Store) (*Summary, error) {
	s := &Summary{Generations: []Generation{}}
	var err error
	if s.ClusterID, err = cat.ClusterID(ctx); err != nil {
		return nil, fmt.Errorf("read the cluster id: %w", err)
	}
	set, err := cat.TopicSet(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	s.Topics = int64(len(set.Topics))
	for i := range set.Topics {
		s.Partitions += int64(set.Topics[i].Partitions)
	}
	deleted, err := cat.DeletedTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list deleted topics: %w", err)
	}
	s.DeletedTopics = int64(len(deleted))
	brokers, err := cat.ListBrokers(ctx)
	if err != nil {
		return nil, fmt.Errorf("list brokers: %w", err)
	}
	s.Brokers = int64(len(brokers))
	err = eachTailRow(ctx, cat, func(_ catalog.BrokerTail, row *catalog.TailEntry) error {
		s.TailRows++
		s.TailIndexBytes += int64(len(row.Index))
		s.Tail.add(row.Size)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.folded(ctx, cat); err != nil {
		return nil, err
	}
	retired, err := retiredKeys(ctx, cat)
	if err != nil {
		return nil, err
	}
	err = eachStored(ctx, cat, store, func(info objstore.Info, is stored) {
		s.Stored.add(info.Size)
		switch is {
		case storedForeign:
			s.Foreign.add(info.Size)
		case storedOrphan:
			s.Orphans.add(info.Size)
		case storedNamed:
			if retired[info.Key] {
				s.Retired.add(info.Size)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Summary) folded(ctx context.Context, cat catalog.Catalog) error {
	byGen := make(map[int32]*Generation)
	err := eachFolded(ctx, cat, func(o *catalog.Object) error {
		g := byGen[o.Generation]
		if g == nil {
			g = &Generation{Generation: o.Generation}
			byGen[o.Generation] = g
		}
		g.add(o.Size)
		g.LiveBytes += o.Live
		s.Folded.add(o.Size)
		s.LiveBytes += o.Live
		return nil
	})
	if err != nil {
		return err
	}
	for _, g := range byGen {
		s.Generations = append(s.Generations, *g)
	}
	slices.SortFunc(s.Generations, func(a, b Generation) int { return int(a.Generation - b.Generation) })
	return nil
}

// Role is what an object is to the manifest.
type Role string

// The roles.
const (
	RoleTail    Role = "tail"
	RoleFolded  Role = "folded"
	RoleRetired Role = "retired"
	RoleOrphan  Role = "orphan" // not named
)

// Place is what the manifest says of one object.
type Place struct {
	Role   Role                `json:"role"`
	Tail   *catalog.TailEntry  `json:"-"` // of RoleTail
	Object *catalog.Object     `json:"-"` // of RoleFolded
	ID     catalog.ObjectID    `json:"object_id,omitempty"`
	Epoch  catalog.BrokerEpoch `json:"broker_epoch,omitempty"` // of RoleTail
	First  catalog.Sequence    `json:"first_sequence,omitempty"`
	Last   catalog.Sequence    `json:"last_sequence,omitempty"`
	Gen    *int32              `json:"generation,omitempty"` // of RoleFolded, as what follows
	Refs   int64               `json:"refs,omitempty"`
	Live   int64               `json:"live_bytes,omitempty"`
	Size   int64               `json:"size,omitempty"`     // as the catalog has it
	Sum    string              `json:"checksum,omitempty"` // likewise, hex
}

// errFound ends a search.
var errFound = errors.New("found")

// Locate tells what the manifest says of the object under key. There is no index by key: it goes over the tail and
// the folded objects.
func Locate(ctx context.Context, cat catalog.Catalog, key string) (*Place, error) {
	known, err := cat.KnownObjects(ctx, []string{key})
	if err != nil {
		return nil, fmt.Errorf("ask for known objects: %w", err)
	}
	if !known[key] {
		return &Place{Role: RoleOrphan}, nil
	}
	var p *Place
	err = eachTailRow(ctx, cat, func(_ catalog.BrokerTail, row *catalog.TailEntry) error {
		if row.Key != key {
			return nil
		}
		p = &Place{
			Role: RoleTail, Tail: row, ID: row.Object, Epoch: row.Epoch, First: row.First, Last: row.Last,
			Size: row.Size, Sum: Sum(row.Checksum),
		}
		return errFound
	})
	if err == nil {
		err = eachFolded(ctx, cat, func(o *catalog.Object) error {
			if o.Key != key {
				return nil
			}
			p = &Place{
				Role: RoleFolded, Object: o, ID: o.ID, Gen: &o.Generation, Refs: o.Refs, Live: o.Live, Size: o.Size, Sum: Sum(o.Checksum),
			}
			return errFound
		})
	}
	switch {
	case err != nil && !errors.Is(err, errFound):
		return nil, err
	case p == nil:
		return &Place{Role: RoleRetired}, nil
	}
	return p, nil
}

// Sum writes a checksum as it is shown everywhere: 8 hex digits.
func Sum(checksum uint32) string {
	s := strconv.FormatUint(uint64(checksum), 16)
	return "00000000"[:8-len(s)] + s
}

// batchWindow is how many bytes of an extent are read at a time, unless a batch is larger.
const batchWindow = 1 << 20

// Batches ranges over the record batches of one extent of an object, as stored. A batch is valid until the next one. It
// ends after the first error, which wraps [segment.ErrCorrupt] if bytes are no batches.
func Batches(ctx context.Context, r segment.RangeReader, key string, x segment.FooterExtent) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		buf := make([]byte, min(x.Len, batchWindow))
		var have []byte // unread bytes of buf
		for pos, end := x.Pos, x.Pos+x.Len; pos < end || len(have) > 0; {
			// Move what is left to the front and fill up.
			n := copy(buf, have)
			more := min(int64(len(buf)-n), end-pos)
			if err := r.GetRange(ctx, key, pos, buf[n:n+int(more)]); err != nil {
				yield(nil, fmt.Errorf("read batches of %s: %w", key, err))
				return
			}
			pos += more
			have = buf[:n+int(more)]
			for len(have) > 0 {
				batch, rest, err := recordbatch.Next(have)
				if err != nil {
					if size, whole := claimed(have, end-pos); !whole {
						if size > len(buf) {
							grown := make([]byte, size)
							have = grown[:copy(grown, have)]
							buf = grown
						}
						break
					}
					yield(nil, fmt.Errorf("read batches of %s: %w: at byte %d: %w", key, segment.ErrCorrupt, pos-int64(len(have)), err))
					return
				}
				if !yield(batch, nil) {
					return
				}
				have = rest
			}
		}
	}
}

// claimed tells the size of a batch that is cut by the window; whole is true if the bytes that follow do not help.
func claimed(have []byte, follow int64) (size int, whole bool) {
	if follow == 0 {
		return 0, true
	}
	h, err := recordbatch.ParseHeader(have)
	if err != nil {
		return recordbatch.HeaderSize, false
	}
	size = h.Size()
	return size, h.Magic != 2 || size <= len(have) || int64(size) > int64(len(have))+follow
}
