'use strict'
// The record generator and the digest of package record, for Node clients. See
// record/doc.go: the three implementations must agree byte for byte. Run as a
// program, it prints the digest of COUNT records of SEED as one partition.

const { createHash } = require('node:crypto')

const POOL_SIZE = 1 << 16
const POOL_MASK = POOL_SIZE / 2 - 1
const BASE_TIMESTAMP = 1_700_000_000_000

function mix (x) {
  x ^= x >>> 16
  x = Math.imul(x, 0x85ebca6b)
  x ^= x >>> 13
  x = Math.imul(x, 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}

class Generator {
  constructor (seed) {
    this.seed = seed
    this.raw = Buffer.alloc(POOL_SIZE)
    this.headers = Buffer.alloc(POOL_SIZE)
    let s = seed
    for (let i = 0; i < POOL_SIZE; i++) {
      s = (s + 0x9e3779b9) >>> 0
      let b = mix(s) >>> 24
      if ((i >>> 6) & 1) b = this.raw[i - 64]
      this.raw[i] = b
      this.headers[i] = (b === 0 || b === 0x2c || b === 0x3d || b === 0x0a) ? b ^ 0x40 : b
    }
  }

  // Returns { key, value, headers: [[name, value]], timestamp in ms }.
  record (index) {
    let state = mix(this.seed ^ mix((index + 1) >>> 0))
    const draw = () => {
      state = (state + 0x9e3779b9) >>> 0
      return mix(state)
    }

    const a = draw()
    let off = draw() & POOL_MASK
    let key = null
    if ((a & 15) === 1) key = Buffer.alloc(0)
    else if ((a & 15) > 1) key = this.raw.subarray(off, off + 1 + (a >>> 4) % 40)

    const b = draw()
    off = draw() & POOL_MASK
    let value = null
    if ((b & 31) === 1) {
      value = Buffer.alloc(0)
    } else if ((b & 31) > 1) {
      let n = b >>> 13
      const cls = (b >>> 5) % 200
      if (cls < 140) n = 8 + n % 120
      else if (cls < 190) n = 128 + n % 512
      else if (cls < 199) n = 1024 + n % 3072
      else n = 4096 + n % 28672
      value = Buffer.concat([Buffer.from(`${index}.`), this.raw.subarray(off, off + n)])
    }

    const headers = []
    const count = draw() & 3
    for (let j = 0; j < count; j++) {
      const h = draw()
      off = draw() & POOL_MASK
      const name = (h >>> 8) % 16 === 0 ? 'ключ' : 'h'
      const kind = (h >>> 16) & 7
      let v = null
      if (kind === 1) v = Buffer.alloc(0)
      else if (kind > 1) v = this.headers.subarray(off, off + 1 + (h >>> 20) % 24)
      headers.push([`${name}${j}-${h % 50}`, v])
    }
    return { key, value, headers, timestamp: BASE_TIMESTAMP + index * 2 + draw() % 1000 }
  }
}

function bytes (v) {
  const n = Buffer.alloc(4)
  n.writeInt32BE(v === null ? -1 : v.length)
  return v === null ? [n] : [n, v]
}

class Summer {
  constructor () {
    this.content = createHash('sha256')
    this.full = createHash('sha256')
    this.count = 0
    this.first = -1
    this.next = 0
    this.bytes = 0
  }

  add (offset, r) {
    const o = Buffer.alloc(8)
    o.writeBigInt64BE(BigInt(offset))
    const n = Buffer.alloc(4)
    n.writeInt32BE(r.headers.length)
    const parts = [o, ...bytes(r.key), ...bytes(r.value), n]
    for (const [k, v] of r.headers) parts.push(...bytes(Buffer.from(k)), ...bytes(v))
    const c = Buffer.concat(parts)
    this.content.update(c)
    this.full.update(c)
    const t = Buffer.alloc(8)
    t.writeBigInt64BE(BigInt(r.timestamp))
    this.full.update(t)
    if (this.first < 0) this.first = offset
    this.next = offset + 1
    this.count++
    this.bytes += (r.key === null ? 0 : r.key.length) + (r.value === null ? 0 : r.value.length)
  }

  digest () {
    return {
      count: this.count,
      first: this.first,
      next: this.next,
      bytes: this.bytes,
      content: this.content.digest('hex'),
      full: this.full.digest('hex')
    }
  }
}

if (require.main === module) {
  const generator = new Generator(Number(process.argv[2]))
  const summer = new Summer()
  for (let i = 0; i < Number(process.argv[3]); i++) summer.add(i, generator.record(i))
  console.log(JSON.stringify({ 0: summer.digest() }))
}

module.exports = { Generator }
