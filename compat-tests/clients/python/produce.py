"""Sends generated records with one of the Python clients.

The one argument is JSON: client (confluent-kafka or kafka-python), bootstrap,
topic, partitions, seed, count, codec. Record i goes to partition i % partitions.
Exits non-zero unless every record was acknowledged.
"""

import json
import sys

from gen import Generator


def confluent(spec, records):
    from confluent_kafka import Producer

    failed = []

    def delivered(err, _msg):
        if err is not None:
            failed.append(str(err))

    producer = Producer({
        "bootstrap.servers": spec["bootstrap"],
        "enable.idempotence": True,
        "compression.type": spec["codec"],
        "linger.ms": 5,
        "queue.buffering.max.messages": 50000,
    })
    for partition, (key, value, headers, timestamp) in records:
        while True:
            try:
                producer.produce(spec["topic"], value, key, partition, on_delivery=delivered,
                                 timestamp=timestamp, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(300)
    if left:
        failed.append("%d records still unacknowledged" % left)
    return failed


def kafka_python(spec, records):
    from kafka import KafkaProducer

    failed = []
    producer = KafkaProducer(
        bootstrap_servers=spec["bootstrap"],
        acks="all",
        enable_idempotence=True,
        compression_type=None if spec["codec"] == "none" else spec["codec"],
        linger_ms=5,
        batch_size=64 * 1024,
        max_block_ms=300_000,
    )
    for partition, (key, value, headers, timestamp) in records:
        # It refuses null header values, and records with neither key nor value.
        headers = [(k, b"" if v is None else v) for k, v in headers]
        if key is None and value is None:
            key = b""
        producer.send(spec["topic"], value=value, key=key, headers=headers, partition=partition,
                      timestamp_ms=timestamp).add_errback(lambda e: failed.append(repr(e)))
    producer.flush(300)
    producer.close()
    return failed


def main():
    spec = json.loads(sys.argv[1])
    generator = Generator(spec["seed"])
    partitions = spec["partitions"]
    records = ((i % partitions, generator.record(i)) for i in range(spec["count"]))
    failed = {"confluent-kafka": confluent, "kafka-python": kafka_python}[spec["client"]](spec, records)
    if failed:
        sys.exit("%d records failed, first: %s" % (len(failed), failed[0]))


if __name__ == "__main__":
    main()
