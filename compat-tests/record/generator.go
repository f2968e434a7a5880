package record

import "strconv"

// Header is one record header; a nil Value is Kafka's null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record as every client must be able to see it; nil Key or
// Value is Kafka's null, which differs from empty. Timestamp is in milliseconds
// since the epoch.
type Record struct {
	Key       []byte
	Value     []byte
	Headers   []Header
	Timestamp int64
}

// Nulls says how a client that cannot tell null from empty sends the two.
type Nulls int

const (
	// NullsMixed sends null as null and empty as empty.
	NullsMixed Nulls = iota
	// NullsOnly sends empty keys and values as null (kcat -Z).
	NullsOnly
	// EmptyOnly sends null values as empty. The null key stays null (a line
	// without separator), unless the value is empty, too: kcat skips such a line,
	// so the key becomes empty.
	EmptyOnly
)

// Variant is what a client's input format changes in every record. The zero
// Variant changes nothing.
type Variant struct {
	// Text draws keys, values and header values from 64 printable ASCII
	// characters (no separators, no line ends) instead of all bytes.
	Text bool
	// Nulls maps null and empty onto what the client can say.
	Nulls Nulls
	// FixedHeaders gives every record the headers that record HeadersOf has.
	FixedHeaders bool
	HeadersOf    uint32
	// NoNullHeaders sends null header values as empty (kafka-python and
	// KafkaJS refuse them).
	NoNullHeaders bool
	// KeyOrValue gives a record that would have neither an empty key
	// (kafka-python refuses it, too).
	KeyOrValue bool
}

const (
	poolSize      = 1 << 16
	poolMask      = poolSize/2 - 1
	baseTimestamp = 1_700_000_000_000
	alphabet      = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// Generator yields the records of one seed. It is immutable after New and safe
// for concurrent use; the slices of a Record point into its pools.
type Generator struct {
	seed    uint32
	raw     []byte // any byte
	text    []byte // alphabet only
	headers []byte // any byte but NUL , = and line feed: kcat prints headers as k=v,k=v, up to a NUL
}

// New builds the pools of seed.
func New(seed uint32) *Generator {
	g := &Generator{
		seed:    seed,
		raw:     make([]byte, poolSize),
		text:    make([]byte, poolSize),
		headers: make([]byte, poolSize),
	}
	r := random(seed)
	for i := range g.raw {
		b := byte(r.next() >> 24)
		// Every other 64 bytes repeat the 64 before, so that codecs find something.
		if i>>6&1 == 1 {
			b = g.raw[i-64]
		}
		g.raw[i] = b
		g.text[i] = alphabet[b&63]
		g.headers[i] = b
		if b == ',' || b == '=' || b == '\n' || b == 0 {
			g.headers[i] = b ^ 0x40
		}
	}
	return g
}

// Record returns record index under variant v.
func (g *Generator) Record(index uint32, v Variant) Record {
	pool, headerPool := g.raw, g.headers
	if v.Text {
		pool, headerPool = g.text, g.text
	}
	r := random(mix(g.seed ^ mix(index+1)))
	rec := Record{
		Key:   key(&r, pool),
		Value: value(&r, pool, index),
	}
	rec.Headers = headers(&r, headerPool)
	rec.Timestamp = baseTimestamp + int64(index)*2 + int64(r.next()%1000)

	switch v.Nulls {
	case NullsOnly:
		rec.Key = emptyToNull(rec.Key)
		rec.Value = emptyToNull(rec.Value)
	case EmptyOnly:
		if rec.Value == nil {
			rec.Value = []byte{}
		}
		if rec.Key == nil && len(rec.Value) == 0 {
			rec.Key = []byte{}
		}
	case NullsMixed:
	}
	if v.FixedHeaders {
		other := v
		other.FixedHeaders = false
		rec.Headers = g.Record(v.HeadersOf, other).Headers
	}
	if v.KeyOrValue && rec.Key == nil && rec.Value == nil {
		rec.Key = []byte{}
	}
	if v.NoNullHeaders {
		for i := range rec.Headers {
			if rec.Headers[i].Value == nil {
				rec.Headers[i].Value = []byte{}
			}
		}
	}
	return rec
}

func key(r *random, pool []byte) []byte {
	a := r.next()
	off := int(r.next() & poolMask)
	switch a & 15 {
	case 0:
		return nil
	case 1:
		return []byte{}
	default:
		n := 1 + int((a>>4)%40)
		return pool[off : off+n : off+n]
	}
}

func value(r *random, pool []byte, index uint32) []byte {
	b := r.next()
	off := int(r.next() & poolMask)
	switch b & 31 {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	n := int(b >> 13)
	switch class := (b >> 5) % 200; {
	case class < 140:
		n = 8 + n%120
	case class < 190:
		n = 128 + n%512
	case class < 199:
		n = 1024 + n%3072
	default:
		n = 4096 + n%28672
	}
	// The index makes every value that is neither null nor empty unique.
	out := make([]byte, 0, 11+n)
	out = strconv.AppendUint(out, uint64(index), 10)
	out = append(out, '.')
	return append(out, pool[off:off+n]...)
}

func headers(r *random, pool []byte) []Header {
	n := int(r.next() & 3)
	if n == 0 {
		return nil
	}
	out := make([]Header, n)
	for j := range out {
		h := r.next()
		off := int(r.next() & poolMask)
		name := "h"
		if (h>>8)%16 == 0 {
			name = "ключ"
		}
		out[j].Key = name + strconv.Itoa(j) + "-" + strconv.Itoa(int(h%50))
		switch (h >> 16) & 7 {
		case 0:
		case 1:
			out[j].Value = []byte{}
		default:
			l := 1 + int((h>>20)%24)
			out[j].Value = pool[off : off+l : off+l]
		}
	}
	return out
}

// EmptyAsNull is the record as a reader sees it that cannot tell null from empty.
func (r *Record) EmptyAsNull() Record {
	out := Record{Key: emptyToNull(r.Key), Value: emptyToNull(r.Value), Timestamp: r.Timestamp}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, Header{Key: h.Key, Value: emptyToNull(h.Value)})
	}
	return out
}

func emptyToNull(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// random is a counter put through MurmurHash3's finaliser: small, even enough,
// and the same in any language that multiplies 32-bit integers.
type random uint32

func (r *random) next() uint32 {
	*r += 0x9E3779B9
	return mix(uint32(*r))
}

func mix(x uint32) uint32 {
	x ^= x >> 16
	x *= 0x85ebca6b
	x ^= x >> 13
	x *= 0xc2b2ae35
	return x ^ x>>16
}
