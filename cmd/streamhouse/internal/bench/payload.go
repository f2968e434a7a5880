package bench

import (
	"math/rand/v2"
	"strconv"
)

// payloads hands out values without making them: slices of one block, each starting elsewhere.
type payloads struct {
	block []byte
	size  int
	next  int
}

const (
	payloadStep  = 61      // odd, so that starts differ for a long time
	blockBytes   = 1 << 20 // with no codec: small enough to stay in the cores' caches
	blockPerZip  = 8 << 20 // with one: larger than a batch, so that it finds no repetition that is ours
	payloadSeed1 = 0x5eed
	payloadSeed2 = 0xb10c
)

// newPayloads makes values of size bytes, random or like log lines (which shrink to about a quarter).
func newPayloads(size int, compressible, codec bool) *payloads {
	n := blockBytes
	if codec {
		n = blockPerZip
	}
	n += size
	rng := rand.New(rand.NewPCG(payloadSeed1, payloadSeed2))
	block := make([]byte, 0, n+256)
	if compressible {
		words := []string{
			"order", "created", "customer", "amount", "currency", "EUR", "status", "paid", "region",
			"eu-west-1", "warehouse", "shipped", "retry", "payment", "timestamp", "level", "info",
		}
		for len(block) < n {
			block = append(block, `{"`...)
			block = append(block, words[rng.IntN(len(words))]...)
			block = append(block, `":"`...)
			block = append(block, words[rng.IntN(len(words))]...)
			block = append(block, `","id":`...)
			block = strconv.AppendUint(block, rng.Uint64()>>40, 10)
			block = append(block, "}\n"...)
		}
	} else {
		for len(block) < n {
			v := rng.Uint64()
			block = append(block, byte(v), byte(v>>8), byte(v>>16), byte(v>>24),
				byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
		}
	}
	return &payloads{block: block[:n], size: size}
}

// fork returns a hander-out of its own over the same block.
func (p *payloads) fork(i int) *payloads {
	c := *p
	c.next = (i * 7919 * payloadStep) % (len(p.block) - p.size + 1)
	return &c
}

// value returns the next value. It must not be written to.
func (p *payloads) value() []byte {
	v := p.block[p.next : p.next+p.size : p.next+p.size]
	p.next += p.size + payloadStep
	if p.next+p.size > len(p.block) {
		p.next %= payloadStep
	}
	return v
}
