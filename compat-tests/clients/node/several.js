'use strict'
// Sends requests that the other scripts do not: of administrators, of a group's
// member, of a transaction. The one argument is JSON: bootstrap, topic, which
// exists and holds records. Steps that fail are printed at the end, with exit
// status 1: a broker without coordinators refuses some.

const { connect, types, Partitioners } = require('./kafka')
const { ConfigResourceTypes, AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes } = require('kafkajs')

const retry = { retries: 1, initialRetryTime: 100 }

async function main () {
  const { bootstrap, topic } = JSON.parse(process.argv[2])
  const kafka = await connect(bootstrap)
  const extra = topic + '-extra'
  const failed = []
  const attempt = async (name, step) => {
    const timer = new Promise((resolve, reject) => setTimeout(reject, 3000, new Error('took too long')).unref())
    await Promise.race([step(), timer]).catch(err => failed.push(`${name}: ${err.message}`))
  }
  const admin = kafka.admin({ retry })
  await admin.connect()
  await attempt('createTopics', () => admin.createTopics({
    topics: [{ topic: extra, numPartitions: 2, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '-1' }] }]
  }))
  await attempt('createPartitions', () => admin.createPartitions({ topicPartitions: [{ topic: extra, count: 3 }] }))
  await attempt('fetchTopicMetadata', () => admin.fetchTopicMetadata({ topics: [topic, extra] }))
  await attempt('describeCluster', () => admin.describeCluster())
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  await attempt('describeConfigs', () => admin.describeConfigs({ includeSynonyms: true, resources: [{ ...resource, configNames: ['retention.ms'] }] }))
  await attempt('alterConfigs', () => admin.alterConfigs({
    validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '1000000' }] }]
  }))
  await attempt('deleteTopicRecords', () => admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '1' }] }))
  await attempt('listPartitionReassignments', () => admin.listPartitionReassignments({ topics: [{ topic, partitions: [0] }] }))
  await attempt('describeAcls', () => admin.describeAcls({
    resourceType: AclResourceTypes.ANY,
    resourcePatternType: ResourcePatternTypes.ANY,
    operation: AclOperationTypes.ANY,
    permissionType: AclPermissionTypes.ANY
  }))
  await attempt('listGroups', () => admin.listGroups())
  await attempt('deleteTopics', () => admin.deleteTopics({ topics: [extra] }))

  await attempt('transaction', async () => {
    const producer = kafka.producer({
      transactionalId: 'kafkajs', maxInFlightRequests: 1, idempotent: true, createPartitioner: Partitioners.DefaultPartitioner, retry
    })
    await producer.connect()
    const transaction = await producer.transaction()
    await transaction.send({ topic, compression: types.none, messages: [{ key: 'k', value: 'a', headers: { h: 'v' } }] })
    await transaction.commit()
    await producer.disconnect()
  })
  await attempt('group', async () => {
    const consumer = kafka.consumer({ groupId: 'kafkajs', sessionTimeout: 6000, retry })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await new Promise((resolve, reject) => {
      consumer.on(consumer.events.CRASH, e => reject(e.payload.error))
      consumer.run({ eachMessage: async () => resolve() }).catch(reject)
    })
    await consumer.disconnect()
  })
  await attempt('describeGroups', () => admin.describeGroups(['kafkajs']))
  await attempt('fetchOffsets', () => admin.fetchOffsets({ groupId: 'kafkajs', topics: [topic] }))
  if (failed.length > 0) throw new Error(failed.join('; '))
}

main().then(() => process.exit(0), err => {
  console.error(err.message)
  process.exit(1)
})
