'use strict'
// KafkaJS with the codecs it leaves to others. (lz4js would need no native code,
// but Apache Kafka, too, refuses the frames it makes.)

const { Kafka, CompressionTypes, CompressionCodecs, Partitioners, logLevel } = require('kafkajs')
const snappy = require('snappyjs')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

const codec = (compress, decompress) => () => ({
  compress: async encoder => Buffer.from(compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(decompress(buffer))
})

CompressionCodecs[CompressionTypes.Snappy] = codec(snappy.compress, snappy.uncompress)
CompressionCodecs[CompressionTypes.LZ4] = codec(b => lz4.compressFrameSync(b), b => lz4.decompressFrameSync(b))
CompressionCodecs[CompressionTypes.ZSTD] = codec(b => zstd.compress(b, 3), b => zstd.decompress(b))

const types = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD
}

async function connect (bootstrap) {
  await zstd.init()
  return new Kafka({ clientId: 'compat', brokers: [bootstrap], logLevel: logLevel.ERROR })
}

module.exports = { connect, types, Partitioners }
