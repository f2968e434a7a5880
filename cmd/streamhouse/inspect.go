package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/datadir"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
	"github.com/streamhouse/streamhouse/storage/verify"
)

type inspectCmd struct {
	Objects []string `arg:"" optional:"" name:"object" help:"Files of objects, or keys of objects in the store; none for a summary of everything."`
	Batches bool     `help:"Show the record batches of each extent."`
	Records bool     `help:"Show the records of each batch."`
	JSON    bool     `group:"output" help:"Write JSON, one object a line."`
	datadir.Flags
}

// Help is what --help shows below the summary.
func (*inspectCmd) Help() string {
	return `Examples:
  streamhouse inspect
      how much the catalog names and the store holds

  streamhouse inspect streamhouse-data/objects/log/2026010112/…/000000000001-000000000000042-001
  streamhouse inspect log/2026010112/…/000000000001-000000000000042-001
      what is in one object, as a file or by its key

An object can be shown while a broker runs; then what the manifest says of it is not known. The summary needs the broker
stopped.`
}

// Run is kong's entry.
func (c *inspectCmd) Run(a *app) error {
	if len(c.Objects) == 0 {
		return c.summary(a)
	}
	at, err := c.Resolve()
	if err != nil {
		return badUsage(err)
	}
	n := &inspector{c: c, p: &printer{w: a.stdout}}
	data, err := datadir.Open(a.ctx, at, a.warnings())
	switch {
	case err == nil:
		defer func() { _ = data.Close() }() // only read
		n.store, n.cat = data.Store, data.Catalog
		if err := n.nameTopics(a.ctx); err != nil {
			return err
		}
	case a.ctx.Err() != nil:
		return err
	default: // an object says much of itself
		n.note = err.Error()
		if store, err := datadir.OpenStore(at); err == nil {
			defer func() { _ = store.Close() }()
			n.store = store
		}
	}
	if n.store != nil {
		n.root = at.Store.Path
	}
	var errs []error
	for i, object := range c.Objects {
		if i > 0 && !c.JSON {
			n.p.printf("\n")
		}
		if err := n.object(a.ctx, object); err != nil {
			errs = append(errs, fmt.Errorf("inspect %s: %w", object, err))
		}
		if a.ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(errs, n.p.result())...)
}

func (c *inspectCmd) summary(a *app) error {
	data, err := openData(a, c.Flags)
	if err != nil {
		return err
	}
	s, err := verify.Summarize(a.ctx, data.Catalog, data.Store)
	if err = errors.Join(err, data.Close()); err != nil {
		return fmt.Errorf("summarize: %w", err)
	}
	if c.JSON {
		p := &printer{w: a.stdout}
		p.json(s)
		return p.result()
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	p := &printer{w: w}
	p.printf("cluster\t%s\t\n", s.ClusterID)
	p.printf("topics\t%d\t", s.Topics)
	if s.DeletedTopics > 0 {
		p.printf("and %d deleted, not purged yet", s.DeletedTopics)
	}
	p.printf("\npartitions\t%d\t\nbroker epochs\t%d\t\n", s.Partitions, s.Brokers)
	printCount(p, "tail objects", s.Tail)
	p.printf("tail index\t%d rows\t%s\n", s.TailRows, bytesText(s.TailIndexBytes))
	printCount(p, "folded objects", s.Folded)
	for _, g := range s.Generations {
		p.printf("  generation %d\t%d\t%s, %s live\n", g.Generation, g.Objects, bytesText(g.Bytes), bytesText(g.LiveBytes))
	}
	printCount(p, "retired objects", s.Retired)
	printCount(p, "orphans", s.Orphans)
	printCount(p, "foreign files", s.Foreign)
	printCount(p, "in the store", s.Stored)
	if err := errors.Join(p.err, w.Flush()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// inspector shows objects.
type inspector struct {
	c     *inspectCmd
	p     *printer
	store objstore.Store // nil if there is none
	root  string         // its folder
	cat   catalog.Catalog
	note  string // why cat is nil
	names map[catalog.TopicID]string
}

func (n *inspector) nameTopics(ctx context.Context) error {
	set, err := n.cat.TopicSet(ctx, 0)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	n.names = make(map[catalog.TopicID]string, len(set.Topics))
	for i := range set.Topics {
		n.names[set.Topics[i].ID] = set.Topics[i].Name
	}
	return nil
}

// objectInfo is the first line of JSON of an object.
type objectInfo struct {
	Type         string        `json:"type"` // "object"
	Object       string        `json:"object"`
	Key          string        `json:"key,omitempty"`
	Kind         segment.Kind  `json:"kind,omitempty"`
	Hour         string        `json:"hour,omitempty"`
	Process      string        `json:"process,omitempty"`
	BrokerEpoch  int64         `json:"broker_epoch,omitempty"`
	Sequence     int64         `json:"sequence,omitempty"`
	Attempt      int           `json:"attempt,omitempty"`
	Size         int64         `json:"size"`
	Checksum     string        `json:"checksum"`
	DataBytes    int64         `json:"data_bytes"`
	FooterBytes  int64         `json:"footer_bytes"`
	Blocks       int           `json:"blocks"`
	Topics       int           `json:"topics"`
	Partitions   int           `json:"partitions"`
	Runs         int           `json:"sparse_entries"`
	Batches      int64         `json:"batches"`
	Records      int64         `json:"records"`
	Problem      string        `json:"problem,omitempty"` // "" if sound
	Manifest     *verify.Place `json:"manifest,omitempty"`
	ManifestNote string        `json:"manifest_note,omitempty"`
	Extents      []extentInfo  `json:"extents"`
}

type extentInfo struct {
	Topic        string `json:"topic,omitempty"` // where known
	TopicID      string `json:"topic_id"`
	Partition    int32  `json:"partition"`
	LeaderEpoch  int32  `json:"leader_epoch"`
	Base         int64  `json:"base_offset"`
	End          int64  `json:"end_offset"` // exclusive
	Pos          int64  `json:"position"`
	Len          int64  `json:"bytes"`
	MaxTimestamp int64  `json:"max_timestamp"`
	Runs         int    `json:"sparse_entries"`
}

// source is an object that was found.
type source struct {
	segment.RangeReader

	key      string // "" if the file is not in the store and its path does not end in a key
	stored   bool   // in the store
	size     int64
	checksum uint32
	close    func()
}

// find opens a file, or an object by its key.
func (n *inspector) find(ctx context.Context, object string) (*source, error) {
	info, err := os.Stat(object)
	if err == nil && info.Mode().IsRegular() {
		return n.file(object)
	}
	if objstore.ValidateKey(object) != nil {
		if err == nil {
			err = errors.New("it is not a file")
		}
		return nil, fmt.Errorf("neither the file of an object nor a key: %w", err)
	}
	if n.store == nil {
		return nil, fmt.Errorf("there is no such file, and no store to find it in as a key: %s", n.note)
	}
	head, err := n.store.Head(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("there is no such file, and as a key: %w", err)
	}
	return &source{RangeReader: n.store, key: object, stored: true, size: head.Size, checksum: head.Checksum, close: func() {}}, nil
}

func (n *inspector) file(path string) (*source, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	s := &source{RangeReader: fileReader{f}, close: func() { _ = f.Close() }} // only read
	buf := make([]byte, 256<<10)
	for {
		k, err := f.Read(buf)
		s.size += int64(k)
		s.checksum = objstore.UpdateChecksum(s.checksum, buf[:k])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.close()
			return nil, err
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("make the path absolute: %w", err)
	}
	if n.root != "" {
		if rel, err := filepath.Rel(n.root, abs); err == nil && objstore.ValidateKey(filepath.ToSlash(rel)) == nil {
			s.key, s.stored = filepath.ToSlash(rel), true
			return s, nil
		}
	}
	// The path of a copy may still end in the four parts of a key.
	parts := strings.Split(filepath.ToSlash(abs), "/")
	if key := strings.Join(parts[max(0, len(parts)-4):], "/"); validKey(key) {
		s.key = key
	}
	return s, nil
}

func validKey(s string) bool {
	_, err := segment.ParseKey(s)
	return err == nil
}

// fileReader reads a file as if it were a store of one object.
type fileReader struct{ f *os.File }

// GetRange implements [segment.RangeReader].
func (r fileReader) GetRange(ctx context.Context, _ string, off int64, p []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := r.f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (n *inspector) object(ctx context.Context, object string) error {
	s, err := n.find(ctx, object)
	if err != nil {
		return err
	}
	defer s.close()
	name := s.key
	if name == "" {
		name = object
	}
	info := objectInfo{Type: "object", Object: object, Key: s.key, Size: s.size, Checksum: verify.Sum(s.checksum), Extents: []extentInfo{}}
	if k, err := segment.ParseKey(s.key); err == nil {
		info.Kind, info.Hour, info.Process = k.Kind, k.Hour.Format("2006-01-02T15Z"), fmt.Sprintf("%x", k.Process)
		info.BrokerEpoch, info.Sequence, info.Attempt = int64(k.Epoch), k.Sequence, k.Attempt
	}
	if err := n.place(ctx, s, &info); err != nil {
		return err
	}
	v, problem := segment.VerifyObject(ctx, s, name, s.size, nil)
	if ctx.Err() != nil {
		return problem
	}
	if problem != nil {
		info.Problem = problem.Error()
	}
	info.Batches, info.Records = v.Batches, v.Records
	d, err := segment.Describe(ctx, s, name, s.size)
	if err == nil {
		info.DataBytes, info.FooterBytes, info.Blocks = d.DataBytes, d.FooterBytes, d.Blocks
		info.Topics, info.Partitions, info.Runs = d.Topics, d.Partitions, d.Runs
		for i := range d.Extents {
			x := &d.Extents[i]
			info.Extents = append(info.Extents, extentInfo{
				Topic: n.names[x.Topic], TopicID: x.Topic.String(), Partition: x.Partition, LeaderEpoch: x.LeaderEpoch,
				Base: x.Base, End: x.End, Pos: x.Pos, Len: x.Len, MaxTimestamp: x.MaxTimestamp, Runs: x.Runs,
			})
		}
	}
	if n.c.JSON {
		n.p.json(info)
	} else {
		n.show(&info)
	}
	if d != nil && (n.c.Batches || n.c.Records) {
		if err := n.batches(ctx, s, name, d.Extents); err != nil && problem == nil {
			problem = err
		}
	}
	return problem
}

// place asks the manifest.
func (n *inspector) place(ctx context.Context, s *source, info *objectInfo) (err error) {
	switch {
	case n.cat == nil:
		info.ManifestNote = n.note
	case !s.stored:
		info.ManifestNote = "the file is not in the store (--store)"
	default:
		info.Manifest, err = verify.Locate(ctx, n.cat, s.key)
	}
	return err
}

// show writes an object as text.
func (n *inspector) show(o *objectInfo) {
	w := tabwriter.NewWriter(n.p.w, 0, 0, 2, ' ', 0)
	p := &printer{w: w, err: n.p.err}
	p.printf("object\t%s\n", o.Object)
	if o.Kind != "" {
		number := "sequence"
		if o.Kind == segment.KindSegment {
			number = "number"
		}
		p.printf("kind\t%s, written in the hour %s by process %s\n", o.Kind, o.Hour, o.Process)
		p.printf("\tbroker epoch %d, %s %d, attempt %d\n", o.BrokerEpoch, number, o.Sequence, o.Attempt)
	}
	p.printf("size\t%d bytes: %d of records, %d of index\n", o.Size, o.DataBytes, o.FooterBytes)
	p.printf("checksum\t%s (CRC-32C of it all)\n", o.Checksum)
	p.printf("manifest\t%s\n", placeText(o))
	if o.Problem == "" {
		p.printf("check\tsound: %d blocks, %d batches, %d records\n", o.Blocks, o.Batches, o.Records)
	} else {
		p.printf("check\tDAMAGED: %s\n", o.Problem)
	}
	p.printf("holds\t%d extents of %d partitions of %d topics, %d sparse entries\n", len(o.Extents), o.Partitions, o.Topics, o.Runs)
	if len(o.Extents) > 0 {
		p.err = errors.Join(p.err, w.Flush()) // the table below has columns of its own
		p.printf("\nTOPIC\tPARTITION\tOFFSETS\tBYTE\tBYTES\tEPOCH\tMAX TIMESTAMP\n")
	}
	for i := range o.Extents {
		x := &o.Extents[i]
		topic := x.Topic
		if topic == "" {
			topic = x.TopicID
		}
		p.printf("%s\t%d\t%d–%d\t%d\t%d\t%d\t%s\n", topic, x.Partition, x.Base, x.End-1, x.Pos, x.Len, x.LeaderEpoch, timeText(x.MaxTimestamp))
	}
	n.p.err = errors.Join(p.err, w.Flush())
}

func placeText(o *objectInfo) string {
	m := o.Manifest
	if m == nil {
		return "not known: " + o.ManifestNote
	}
	var text string
	switch m.Role {
	case verify.RoleTail:
		text = fmt.Sprintf("in the tail, object %d, sequences %d to %d of broker epoch %d", m.ID, m.First, m.Last, m.Epoch)
	case verify.RoleFolded:
		text = fmt.Sprintf("folded, object %d, generation %d, %d references, %d bytes live", m.ID, *m.Gen, m.Refs, m.Live)
	case verify.RoleRetired:
		return "retired: nothing refers to it any more, it is deleted once its grace has passed"
	default:
		return "orphan: the manifest does not name it"
	}
	if m.Size != o.Size || m.Sum != o.Checksum {
		text += fmt.Sprintf("; DIFFERS: the catalog says %d bytes with checksum %s", m.Size, m.Sum)
	}
	return text
}

// timeText writes a Kafka timestamp.
func timeText(millis int64) string {
	if millis < 0 {
		return "-"
	}
	return time.UnixMilli(millis).UTC().Format("2006-01-02T15:04:05.000Z")
}
