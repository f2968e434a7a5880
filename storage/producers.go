package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/storage/segment"
)

// window is how many of a producer's last batches are remembered to recognise a resend: Kafka's
// max.in.flight.requests.per.connection of an idempotent producer.
const window = 5

// sent is one remembered batch of a producer.
type sent struct {
	first, last int32 // sequences, inclusive; last < first after a wrap at 2^31-1
	base        int64 // offset
	flight      *flight
}

// producer is the state of one producer id in one partition.
type producer struct {
	id         int64
	epoch      int16
	n          int8 // batches remembered
	recent     [window]sent
	lastCommit int64 // milliseconds, the catalog's clock
}

func (p *producer) lastSeq() int32 { return p.recent[p.n-1].last }

func (p *producer) push(s sent) {
	if p.n == window {
		copy(p.recent[:], p.recent[1:])
		p.n--
	}
	p.recent[p.n] = s
	p.n++
}

// producers is the idempotence state of one partition: a pure machine, guarded by its partition's lock. It holds what
// is committed and what is in flight; the two are told apart by the flight of each batch.
//
// It is bounded: beyond max ids the one that committed longest ago is forgotten, and all that committed before the
// expiry are. A forgotten producer may go on with any sequence, as in Kafka (UNKNOWN_PRODUCER_ID is history).
type producers struct {
	byID map[int64]*producer
	// untrimmed counts ids added since the last trim, so that one in which nearly all are in flight is not walked by
	// each append.
	untrimmed int
}

// nextSeq is the sequence after s: sequences wrap to 0 after 2^31-1 (KIP-98).
func nextSeq(s int32) int32 {
	if s == math.MaxInt32 {
		return 0
	}
	return s + 1
}

// check judges a batch before offsets are assigned. A duplicate returns the batch it repeats, whose flight says whether
// that one is committed; the caller answers with its outcome.
func (ps *producers) check(id int64, epoch int16, first, last int32) (dup *sent, err error) {
	p := ps.byID[id]
	if p == nil {
		return nil, nil
	}
	if epoch < p.epoch {
		return nil, fmt.Errorf("producer %d has epoch %d, batch has %d: %w", id, p.epoch, epoch, ErrInvalidProducerEpoch)
	}
	if epoch > p.epoch {
		if first != 0 {
			return nil, fmt.Errorf("producer %d starts epoch %d with sequence %d: %w", id, epoch, first, ErrOutOfOrderSequence)
		}
		return nil, nil
	}
	for i := range p.recent[:p.n] {
		if s := &p.recent[i]; s.first == first && s.last == last {
			return s, nil
		}
	}
	if want := nextSeq(p.lastSeq()); first != want {
		return nil, fmt.Errorf("producer %d epoch %d is at sequence %d, batch starts with %d: %w", id, epoch, want, first, ErrOutOfOrderSequence)
	}
	return nil, nil
}

// add notes a batch that was given offsets.
func (ps *producers) add(id int64, epoch int16, s sent, at int64) {
	if ps.byID == nil {
		ps.byID = make(map[int64]*producer)
	}
	p := ps.byID[id]
	if p == nil {
		p = &producer{id: id, epoch: epoch}
		ps.byID[id] = p
		ps.untrimmed++
	}
	if p.epoch != epoch {
		p.epoch, p.n = epoch, 0
	}
	p.push(s)
	p.lastCommit = max(p.lastCommit, at)
}

// committed moves the expiry of a producer. at is the catalog's time in milliseconds.
func (ps *producers) committed(id, at int64) {
	if p := ps.byID[id]; p != nil {
		p.lastCommit = max(p.lastCommit, at)
	}
}

// trimDue tells whether a trim to limit would be worth its walk.
func (ps *producers) trimDue(limit int) bool {
	return len(ps.byID) > limit && ps.untrimmed > limit/10
}

// trim forgets producers that committed before the given time, then the oldest beyond limit. Those with a batch in
// flight stay.
func (ps *producers) trim(before int64, limit int) {
	ps.untrimmed = 0
	for id, p := range ps.byID {
		if p.lastCommit < before && !p.inFlight() {
			delete(ps.byID, id)
		}
	}
	if len(ps.byID) <= limit {
		return
	}
	all := ps.sorted()
	slices.SortStableFunc(all, func(a, b *producer) int { return int(a.lastCommit - b.lastCommit) })
	for _, p := range all {
		if len(ps.byID) <= limit-limit/10 { // some slack, so that a flood of ids does not sort on each append
			return
		}
		if !p.inFlight() {
			delete(ps.byID, p.id)
		}
	}
}

func (p *producer) inFlight() bool {
	f := p.recent[p.n-1].flight
	if f == nil {
		return false
	}
	select {
	case <-f.done:
		return false
	default:
		return true
	}
}

func (ps *producers) sorted() []*producer {
	all := make([]*producer, 0, len(ps.byID))
	for _, p := range ps.byID {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *producer) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}

// states lists the producers for DescribeProducers.
func (ps *producers) states() []ProducerState {
	out := make([]ProducerState, 0, len(ps.byID))
	for _, p := range ps.sorted() {
		out = append(out, ProducerState{
			ProducerID: p.id, Epoch: p.epoch, LastSequence: p.lastSeq(),
			LastTimestamp: time.UnixMilli(p.lastCommit), CoordinatorEpoch: -1, TxnStartOffset: -1,
		})
	}
	return out
}

// Producer snapshot, version 1 (docs/formats/producers.md): version byte; uvarint count; per producer varints id,
// epoch, last commit; uvarint number of batches; per batch varints first, last, base. CRC-32C of all before, little endian.
const producersVersion = 1

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	// errSnapshot: a producer snapshot is not as it was written. One of a later version is no such error: it is sound, and
	// what it says must not be lost.
	errSnapshot = errors.New("malformed producer snapshot")
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// encode writes the snapshot; only for states without flights (those a fold computes).
func (ps *producers) encode() []byte {
	if len(ps.byID) == 0 {
		return nil
	}
	b := []byte{producersVersion}
	b = binary.AppendUvarint(b, uint64(len(ps.byID)))
	for _, p := range ps.sorted() {
		b = binary.AppendVarint(b, p.id)
		b = binary.AppendVarint(b, int64(p.epoch))
		b = binary.AppendVarint(b, p.lastCommit)
		b = binary.AppendUvarint(b, uint64(p.n))
		for _, s := range p.recent[:p.n] {
			b = binary.AppendVarint(b, int64(s.first))
			b = binary.AppendVarint(b, int64(s.last))
			b = binary.AppendVarint(b, s.base)
		}
	}
	return appendChecksum(b)
}

func appendChecksum(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, checksum(b)) }

func decodeProducers(b []byte) (producers, error) {
	var ps producers
	if len(b) == 0 {
		return ps, nil
	}
	if len(b) < 6 || checksum(b[:len(b)-4]) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return ps, fmt.Errorf("check producer snapshot: %w", errSnapshot)
	}
	if b[0] != producersVersion {
		return ps, fmt.Errorf("producer snapshot has version %d, this binary reads %d: %w", b[0], producersVersion, segment.ErrVersion)
	}
	r := varints{b: b[1 : len(b)-4]}
	n := r.uvarint()
	for range n {
		p := &producer{id: r.varint(), epoch: int16(r.varint()), lastCommit: r.varint()}
		batches := r.uvarint()
		if r.bad || batches == 0 || batches > window {
			return producers{}, fmt.Errorf("read producer snapshot: %w", errSnapshot)
		}
		for range batches {
			p.push(sent{first: int32(r.varint()), last: int32(r.varint()), base: r.varint()})
		}
		if ps.byID == nil {
			ps.byID = make(map[int64]*producer)
		}
		ps.byID[p.id] = p
	}
	if r.bad || len(r.b) != 0 {
		return producers{}, fmt.Errorf("read producer snapshot: %w", errSnapshot)
	}
	return ps, nil
}

type varints struct {
	b   []byte
	bad bool
}

func (r *varints) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *varints) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}
