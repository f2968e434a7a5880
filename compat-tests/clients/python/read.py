"""Reads ranges of partitions with one of the Python clients; prints their digests.

The one argument is JSON: client (confluent-kafka or kafka-python), bootstrap,
topic, ranges {partition: [first offset, end offset]}. Partitions are assigned,
no group is joined.
"""

import json
import sys
import time

from gen import Summer

STALLED = 30  # seconds without a record after which the reader gives up


class Ranges:
    def __init__(self, spec):
        self.ends = {int(p): end for p, (_, end) in spec["ranges"].items()}
        self.sums = {p: Summer() for p in self.ends}
        self.open = {int(p) for p, (start, end) in spec["ranges"].items() if end > start}
        self.moved = time.monotonic()

    def add(self, partition, offset, *record):
        if partition not in self.open:
            return
        if offset < self.ends[partition]:
            self.sums[partition].add(offset, *record)
        if offset >= self.ends[partition] - 1:
            self.open.discard(partition)

    def reading(self, got):
        now = time.monotonic()
        if got:
            self.moved = now
        elif now - self.moved > STALLED:
            at = {p: self.sums[p].next for p in self.open}
            sys.exit("no record for %d s; stopped at %s of %s" % (STALLED, at, self.ends))
        return bool(self.open)


def confluent(spec, ranges):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": spec["bootstrap"],
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "check.crcs": True,
    })
    consumer.assign([TopicPartition(spec["topic"], int(p), start) for p, (start, _) in spec["ranges"].items()])
    messages = []
    while ranges.reading(messages):
        messages = consumer.consume(10000, 0.2)
        for m in messages:
            if m.error():
                sys.exit(str(m.error()))
            ranges.add(m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers())
    consumer.close()


def kafka_python(spec, ranges):
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=spec["bootstrap"],
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        check_crcs=True,
    )
    consumer.assign([TopicPartition(spec["topic"], int(p)) for p in spec["ranges"]])
    for p, (start, _) in spec["ranges"].items():
        consumer.seek(TopicPartition(spec["topic"], int(p)), start)
    polled = {}
    while ranges.reading(polled):
        polled = consumer.poll(timeout_ms=200, max_records=10000)
        for tp, messages in polled.items():
            for m in messages:
                ranges.add(tp.partition, m.offset, m.timestamp, m.key, m.value, m.headers)
    consumer.close()


def main():
    spec = json.loads(sys.argv[1])
    ranges = Ranges(spec)
    {"confluent-kafka": confluent, "kafka-python": kafka_python}[spec["client"]](spec, ranges)
    print(json.dumps({p: s.digest() for p, s in ranges.sums.items()}))


if __name__ == "__main__":
    main()
