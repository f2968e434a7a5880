'use strict'
// Sends generated records with KafkaJS. The one argument is JSON: bootstrap,
// topic, partitions, seed, count, codec. Record i goes to partition
// i % partitions. Exits non-zero unless every record was acknowledged.

const { connect, types, Partitioners } = require('./kafka')
const { Generator } = require('./gen')

// KafkaJS makes one batch per partition of what it is given at a time, however
// large; a broker refuses one over 1 MiB.
const BATCH_BYTES = 512 * 1024
const BATCH_RECORDS = 4000

async function main () {
  const spec = JSON.parse(process.argv[2])
  const kafka = await connect(spec.bootstrap)
  const producer = kafka.producer({
    idempotent: true,
    allowAutoTopicCreation: false,
    createPartitioner: Partitioners.DefaultPartitioner
  })
  await producer.connect()
  const generator = new Generator(spec.seed)
  let messages = []
  let bytes = 0
  const flush = async () => {
    if (messages.length === 0) return
    const acks = await producer.send({ topic: spec.topic, acks: -1, compression: types[spec.codec], messages })
    const bad = acks.find(a => a.errorCode !== 0)
    if (bad) throw new Error(`partition ${bad.partition}: error ${bad.errorCode}`)
    messages = []
    bytes = 0
  }
  for (let i = 0; i < spec.count; i++) {
    const r = generator.record(i)
    messages.push({
      partition: i % spec.partitions,
      key: r.key,
      value: r.value,
      // KafkaJS refuses null header values.
      headers: Object.fromEntries(r.headers.map(([k, v]) => [k, v === null ? Buffer.alloc(0) : v])),
      timestamp: String(r.timestamp)
    })
    bytes += 100 + (r.value === null ? 0 : r.value.length)
    if (bytes >= BATCH_BYTES || messages.length >= BATCH_RECORDS) await flush()
  }
  await flush()
  await producer.disconnect()
}

main().catch(err => {
  console.error(err)
  process.exit(1)
})
