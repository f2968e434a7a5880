'use strict'
// A member of a consumer group by KafkaJS. The one argument is JSON: bootstrap, group, topic. It writes a line
// "PARTITION OFFSET" for each record, commits what it has written, and leaves the group at SIGTERM.

const { connect } = require('./kafka')

async function main () {
  const { bootstrap, group, topic } = JSON.parse(process.argv[2])
  const kafka = await connect(bootstrap)
  const consumer = kafka.consumer({ groupId: group, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000 })
  await consumer.connect()
  process.once('SIGTERM', () => consumer.disconnect().then(() => process.exit(0), () => process.exit(1)))
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommitInterval: 200,
    eachMessage: async ({ partition, message }) => { process.stdout.write(`${partition} ${message.offset}\n`) }
  })
}

main().catch(err => {
  console.error(err.message)
  process.exit(1)
})
