"""Prints the offsets one of the Python clients gets for timestamps.

The one argument is JSON: client, bootstrap, topic, partition, timestamps (ms).
The answer is a JSON list; an offset the client reports as absent (beyond the
last record) is -1. Beginning and end offset come first.
"""

import json
import sys


def confluent(spec):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": spec["bootstrap"], "group.id": "unused"})
    tp = TopicPartition(spec["topic"], spec["partition"])
    out = list(consumer.get_watermark_offsets(tp, timeout=30))
    for timestamp in spec["timestamps"]:
        found = consumer.offsets_for_times([TopicPartition(spec["topic"], spec["partition"], timestamp)], timeout=30)[0]
        if found.error:
            sys.exit(str(found.error))
        out.append(max(found.offset, -1))
    consumer.close()
    return out


def kafka_python(spec):
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=spec["bootstrap"], group_id=None)
    tp = TopicPartition(spec["topic"], spec["partition"])
    out = [consumer.beginning_offsets([tp])[tp], consumer.end_offsets([tp])[tp]]
    for timestamp in spec["timestamps"]:
        found = consumer.offsets_for_times({tp: timestamp})[tp]
        out.append(-1 if found is None else found.offset)
    consumer.close()
    return out


def main():
    spec = json.loads(sys.argv[1])
    print(json.dumps({"confluent-kafka": confluent, "kafka-python": kafka_python}[spec["client"]](spec)))


if __name__ == "__main__":
    main()
