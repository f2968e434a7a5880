'use strict'
// Prints, as JSON, the offsets KafkaJS gets for timestamps. The one argument is
// JSON: bootstrap, topic, partition, timestamps (ms). Beginning and end offset
// come first. (For a time after the last record KafkaJS itself answers the end
// offset.)

const { connect } = require('./kafka')

async function main () {
  const spec = JSON.parse(process.argv[2])
  const admin = (await connect(spec.bootstrap)).admin()
  await admin.connect()
  const ends = (await admin.fetchTopicOffsets(spec.topic)).find(o => o.partition === spec.partition)
  const out = [Number(ends.low), Number(ends.high)]
  for (const timestamp of spec.timestamps) {
    const found = await admin.fetchTopicOffsetsByTimestamp(spec.topic, timestamp)
    out.push(Number(found.find(o => o.partition === spec.partition).offset))
  }
  console.log(JSON.stringify(out))
  await admin.disconnect()
}

main().catch(err => {
  console.error(err)
  process.exit(1)
})
