// Package slab hands out large byte buffers that are counted and used again.
//
// A broker at full load reads a gigabyte a second into request frames that live until the log object they became
// part of leaves the tail cache. Left to the garbage collector, each would be zeroed when made and would double the
// heap. A [Buf] is counted instead: whoever keeps a slice of it holds a reference ([Buf.Retain]), and the last
// [Buf.Release] puts the memory back into its [Pool].
//
// # Invariants
//
//   - Bytes of a Buf are valid exactly as long as a reference is held. A Release too many panics at once: it is a
//     defect that would otherwise show as wrong bytes in somebody's topic.
//   - A buffer never shrinks or moves. Its class is at most a quarter larger than what was asked for.
//   - The pool keeps at most the configured number of idle bytes; beyond them memory goes to the garbage collector.
package slab

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// minClass is the smallest buffer worth counting; smaller requests get this much.
const minClass = 4 << 10

// Buf is one counted buffer. Its methods are safe for concurrent use; the bytes are not guarded.
type Buf struct {
	b    []byte
	pool *Pool
	refs atomic.Int32
}

// Bytes returns the buffer with the length asked for. Valid while a reference is held.
func (b *Buf) Bytes() []byte { return b.b }

// Cap is the memory the buffer occupies, in bytes.
func (b *Buf) Cap() int { return cap(b.b) }

// Retain adds a reference. The caller must hold one already.
func (b *Buf) Retain() {
	if b.refs.Add(1) <= 1 {
		panic("slab: Retain of a released buffer")
	}
}

// TryRetain adds a reference unless the last one is gone. For caches that look a buffer up without holding one.
func (b *Buf) TryRetain() bool {
	for {
		n := b.refs.Load()
		if n <= 0 {
			return false
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release drops a reference; the last one gives the memory back. Release of nil does nothing.
func (b *Buf) Release() {
	if b == nil {
		return
	}
	switch n := b.refs.Add(-1); {
	case n == 0:
		b.pool.put(b)
	case n < 0:
		panic(fmt.Sprintf("slab: released %d times too often", -n))
	}
}

// Pool keeps idle buffers by size class. The zero value is not usable; see NewPool. Safe for concurrent use.
type Pool struct {
	maxIdle int64
	inUse   atomic.Int64

	mu struct {
		sync.Mutex
		idle  int64
		free  map[int][][]byte
		order []int // classes by last use, oldest first, so that an odd size does not occupy the pool for ever
	}
}

// NewPool returns a pool that keeps at most maxIdle bytes for later.
func NewPool(maxIdle int64) *Pool {
	p := &Pool{maxIdle: maxIdle}
	p.mu.free = make(map[int][][]byte)
	return p
}

// Get returns a buffer of length n with one reference. Its bytes are not zeroed.
func (p *Pool) Get(n int) *Buf {
	class := classOf(n)
	p.inUse.Add(int64(class))
	p.mu.Lock()
	if l := p.mu.free[class]; len(l) > 0 {
		b := l[len(l)-1]
		l[len(l)-1] = nil
		p.mu.free[class] = l[:len(l)-1]
		p.mu.idle -= int64(class)
		p.mu.Unlock()
		return p.wrap(b[:n])
	}
	p.mu.Unlock()
	return p.wrap(make([]byte, n, class))
}

func (p *Pool) wrap(b []byte) *Buf {
	buf := &Buf{b: b, pool: p}
	buf.refs.Store(1)
	return buf
}

// InUse is the number of bytes handed out and not yet given back.
func (p *Pool) InUse() int64 { return p.inUse.Load() }

// Trim lets go of all idle buffers, for an owner that expects no traffic soon. Those handed out come back as ever.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.mu.free)
	p.mu.order, p.mu.idle = nil, 0
}

func (p *Pool) put(b *Buf) {
	class := cap(b.b)
	mem := b.b[:0]
	b.b = nil // a use after the last Release fails loudly
	p.inUse.Add(int64(-class))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.touchLocked(class)
	for p.mu.idle+int64(class) > p.maxIdle {
		if !p.dropLocked(class) {
			return
		}
	}
	p.mu.free[class] = append(p.mu.free[class], mem)
	p.mu.idle += int64(class)
}

func (p *Pool) touchLocked(class int) {
	o := p.mu.order
	for i, c := range o {
		if c == class {
			copy(o[i:], o[i+1:])
			o[len(o)-1] = class
			return
		}
	}
	p.mu.order = append(p.mu.order, class)
}

// dropLocked frees one idle buffer of the class unused for longest, other than keep.
func (p *Pool) dropLocked(keep int) bool {
	for _, c := range p.mu.order {
		if l := p.mu.free[c]; c != keep && len(l) > 0 {
			l[len(l)-1] = nil
			p.mu.free[c] = l[:len(l)-1]
			p.mu.idle -= int64(c)
			return true
		}
	}
	return false
}

// classOf rounds up to the next of 1, 1.25, 1.5, 1.75 times a power of two.
func classOf(n int) int {
	if n <= minClass {
		return minClass
	}
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + step - 1) / step * step
}
