package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// Kind says what is wrong.
type Kind string

// The kinds of problems.
const (
	Missing    Kind = "missing"    // the manifest names an object that is not in the store
	Corrupt    Kind = "corrupt"    // an object is not what was written: size, checksum, structure
	Unreadable Kind = "unreadable" // the store could not read an object
	Tail       Kind = "tail"       // tail rows contradict each other, or one does not decode
	Index      Kind = "index"      // the index of a tail row is not that of its object
	Packed     Kind = "packed"     // a packed row does not decode, or is not what its object has
	References Kind = "references" // references or live bytes of a folded object are not those of the packed rows
	Retired    Kind = "retired"    // a live object is about to be deleted
	Gap        Kind = "gap"        // offsets are missing
	Overlap    Kind = "overlap"    // offsets are there twice
	Epoch      Kind = "epoch"      // leader epochs go back or contradict the history or the lease
	State      Kind = "state"      // other numbers of a partition's folded row are wrong
)

// Problem is one thing that is wrong.
type Problem struct {
	Kind      Kind   `json:"kind"`
	Object    string `json:"object,omitempty"`    // key
	Topic     string `json:"topic,omitempty"`     // name; the id of a deleted one
	Partition *int32 `json:"partition,omitempty"` // of Topic
	Detail    string `json:"detail"`
}

// String gives it in one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(string(p.Kind))
	if p.Topic != "" {
		b.WriteString(" " + p.Topic)
		if p.Partition != nil {
			fmt.Fprintf(&b, "/%d", *p.Partition)
		}
	}
	if p.Object != "" {
		b.WriteString(" " + p.Object)
	}
	return b.String() + ": " + p.Detail
}

// Phase is what a run is at.
type Phase string

// The phases, in order.
const (
	PhaseObjects    Phase = "objects"    // counted in bytes; with Options.Fast in objects
	PhasePartitions Phase = "partitions" // counted in partitions
	PhaseOrphans    Phase = "orphans"    // counted in objects listed
)

// Options of a run. The zero value checks everything.
type Options struct {
	// Fast leaves the bodies of objects unread: footers only, so neither checksums nor batches.
	Fast bool
	// Parallel is how many objects are read at a time. Default: the processors, at most 4.
	Parallel int
	// MaxProblems bounds the problems kept (1000); all are counted. MaxOrphans bounds the orphans named (100).
	MaxProblems, MaxOrphans int
	// Progress may be nil. total is 0 while it is not known. It is called by one goroutine at a time, often.
	Progress func(phase Phase, done, total int64)
}

// Count is a number of objects and their bytes.
type Count struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (c *Count) add(bytes int64) {
	c.Objects++
	c.Bytes += bytes
}

// Result is what a run found.
type Result struct {
	Fast          bool  `json:"fast"`
	Topics        int64 `json:"topics"`
	DeletedTopics int64 `json:"deleted_topics"` // not purged yet
	Partitions    int64 `json:"partitions"`
	Offsets       int64 `json:"offsets"` // from log start to log end, of all partitions
	Tail          Count `json:"tail"`
	Folded        Count `json:"folded"`
	PackedRows    int64 `json:"packed_rows"`
	Extents       int64 `json:"extents"` // of objects read
	Batches       int64 `json:"batches"` // of objects read; 0 when fast
	Records       int64 `json:"records"` // likewise
	Retired       Count `json:"retired"` // in the store
	Orphans       Count `json:"orphans"`
	// Foreign is what the store holds under keys that are none of ours. Nobody will delete it.
	Foreign Count `json:"foreign"`
	// OrphanKeys are the first of them.
	OrphanKeys []string `json:"orphan_keys"`

	ProblemCount int64          `json:"problem_count"`
	ByKind       map[Kind]int64 `json:"problems_by_kind"`
	Problems     []Problem      `json:"problems"` // the first ones
}

// OK tells that nothing is wrong.
func (r *Result) OK() bool { return r.ProblemCount == 0 }

// Run checks everything the catalog names. It returns an error if it could not look at everything; what it found until
// then is in the result. The log must be at rest, see the package's documentation.
func Run(ctx context.Context, cat catalog.Catalog, store objstore.Store, opts Options) (*Result, error) {
	if opts.Parallel <= 0 {
		opts.Parallel = min(runtime.GOMAXPROCS(0), 4)
	}
	if opts.MaxProblems <= 0 {
		opts.MaxProblems = 1000
	}
	if opts.MaxOrphans <= 0 {
		opts.MaxOrphans = 100
	}
	c := &checker{cat: cat, store: store, opts: opts, limit: chunkExtents}
	return c.run(ctx)
}

// checker is one run.
type checker struct {
	cat   catalog.Catalog
	store objstore.Store
	opts  Options
	limit int64 // extents of a chunk

	topics  []catalog.Topic
	deleted []catalog.TopicID
	names   map[catalog.TopicID]string // of live topics
	retired map[string]bool            // keys
	tail    map[catalog.TopicPartition][]run
	ids     map[catalog.ObjectID]bool // of tail objects

	phase       Phase
	done, total int64 // guarded by mu

	mu  sync.Mutex
	res Result // guarded by mu while workers run
}

func (c *checker) run(ctx context.Context) (*Result, error) {
	c.res = Result{Fast: c.opts.Fast, ByKind: make(map[Kind]int64), Problems: []Problem{}, OrphanKeys: []string{}}
	for _, step := range []func(context.Context) error{c.load, c.measure, c.checkTail, c.checkFolded, c.checkPartitions, c.checkOrphans} {
		if err := step(ctx); err != nil {
			return &c.res, fmt.Errorf("verify: %w", err)
		}
	}
	return &c.res, nil
}

// load reads the names of everything and the retired keys.
func (c *checker) load(ctx context.Context) error {
	set, err := c.cat.TopicSet(ctx, 0)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	c.topics = set.Topics
	c.names = make(map[catalog.TopicID]string, len(set.Topics))
	for i := range set.Topics {
		c.names[set.Topics[i].ID] = set.Topics[i].Name
		c.res.Partitions += int64(set.Topics[i].Partitions)
	}
	if c.deleted, err = c.cat.DeletedTopics(ctx); err != nil {
		return fmt.Errorf("list deleted topics: %w", err)
	}
	c.res.Topics, c.res.DeletedTopics = int64(len(c.topics)), int64(len(c.deleted))
	if c.retired, err = retiredKeys(ctx, c.cat); err != nil {
		return err
	}
	c.tail = make(map[catalog.TopicPartition][]run)
	c.ids = make(map[catalog.ObjectID]bool)
	return nil
}

// maxRetiredBatches is how many batches of retired objects are asked for: more than a catalog ever holds.
const maxRetiredBatches = 1 << 20

func retiredKeys(ctx context.Context, cat catalog.Catalog) (map[string]bool, error) {
	batches, err := cat.ListRetired(ctx, time.Duration(0), maxRetiredBatches)
	if err != nil {
		return nil, fmt.Errorf("list retired objects: %w", err)
	}
	keys := make(map[string]bool)
	for _, b := range batches {
		for _, k := range b.Keys {
			keys[k] = true
		}
	}
	return keys, nil
}

// begin starts a phase.
func (c *checker) begin(phase Phase, total int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase, c.done, c.total = phase, 0, total
	c.reportLocked()
}

// step tells progress.
func (c *checker) step(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += n
	c.reportLocked()
}

func (c *checker) reportLocked() {
	if c.opts.Progress != nil {
		c.opts.Progress(c.phase, c.done, c.total)
	}
}

func (c *checker) note(p Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.res.ProblemCount++
	c.res.ByKind[p.Kind]++
	if len(c.res.Problems) < c.opts.MaxProblems {
		c.res.Problems = append(c.res.Problems, p)
	}
}

func (c *checker) object(kind Kind, key, format string, args ...any) {
	c.note(Problem{Kind: kind, Object: key, Detail: fmt.Sprintf(format, args...)})
}

func (c *checker) partition(kind Kind, tp catalog.TopicPartition, format string, args ...any) {
	c.note(Problem{Kind: kind, Topic: c.topicName(tp.Topic), Partition: &tp.Partition, Detail: fmt.Sprintf(format, args...)})
}

func (c *checker) topicName(id catalog.TopicID) string {
	if name, ok := c.names[id]; ok {
		return name
	}
	return id.String()
}

// ended tells whether an error of the store means that the run is over.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, objstore.ErrClosed)
}
