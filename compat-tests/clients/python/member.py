"""A member of a consumer group, by one of the Python clients.

The one argument is JSON: client (confluent-kafka, kafka-python or aiokafka),
bootstrap, group, topic; optional: instance (static member id), protocol
(classic or consumer), cooperative (true). It writes a line "PARTITION OFFSET"
for each record, commits what it has written, and leaves the group at SIGTERM.
"""

import asyncio
import json
import signal
import sys

stopped = False


def stop(*_):
    global stopped
    stopped = True


def tell(partition, offset):
    sys.stdout.write("%d %d\n" % (partition, offset))
    sys.stdout.flush()


def attempt(commit):
    """Commits; what is refused because of a rebalance is read again by whoever gets the partition."""
    try:
        commit()
    except Exception as e:
        print(repr(e), file=sys.stderr)


def confluent(spec):
    from confluent_kafka import Consumer, KafkaError

    config = {"bootstrap.servers": spec["bootstrap"], "group.id": spec["group"], "auto.offset.reset": "earliest",
              "enable.auto.commit": False, "client.id": "confluent-kafka"}
    if spec.get("protocol") == "consumer":
        config["group.protocol"] = "consumer"
    else:
        config["session.timeout.ms"] = 6000
        config["heartbeat.interval.ms"] = 500
        if spec.get("cooperative"):
            config["partition.assignment.strategy"] = "cooperative-sticky"
    if spec.get("instance"):
        config["group.instance.id"] = spec["instance"]
    c = Consumer(config)
    c.subscribe([spec["topic"]])
    dirty = False
    while not stopped:
        m = c.poll(0.2)
        if m is None:
            if dirty:
                attempt(lambda: c.commit(asynchronous=False))
                dirty = False
            continue
        if m.error():
            if m.error().code() != KafkaError._PARTITION_EOF:
                print(m.error(), file=sys.stderr)
            continue
        tell(m.partition(), m.offset())
        dirty = True
    if dirty:
        attempt(lambda: c.commit(asynchronous=False))
    c.close()


def kafka_python(spec):
    from kafka import KafkaConsumer

    config = {"bootstrap_servers": spec["bootstrap"], "group_id": spec["group"], "auto_offset_reset": "earliest",
              "enable_auto_commit": False, "client_id": "kafka-python", "session_timeout_ms": 6000, "heartbeat_interval_ms": 500}
    if spec.get("instance"):
        config["group_instance_id"] = spec["instance"]
    c = KafkaConsumer(spec["topic"], **config)
    while not stopped:
        batches = c.poll(timeout_ms=200)
        for tp, records in batches.items():
            for r in records:
                tell(tp.partition, r.offset)
        if batches:
            attempt(c.commit)
    c.close()


def aiokafka(spec):
    from aiokafka import AIOKafkaConsumer

    async def run():
        c = AIOKafkaConsumer(spec["topic"], bootstrap_servers=spec["bootstrap"], group_id=spec["group"], auto_offset_reset="earliest",
                             enable_auto_commit=False, client_id="aiokafka", session_timeout_ms=6000, heartbeat_interval_ms=500,
                             group_instance_id=spec.get("instance"))
        await c.start()
        while not stopped:
            batches = await c.getmany(timeout_ms=200)
            for tp, records in batches.items():
                for r in records:
                    tell(tp.partition, r.offset)
            if batches:
                try:
                    await c.commit()
                except Exception as e:
                    print(repr(e), file=sys.stderr)
        await c.stop()

    asyncio.run(run())


def main():
    signal.signal(signal.SIGTERM, stop)
    spec = json.loads(sys.argv[1])
    {"confluent-kafka": confluent, "kafka-python": kafka_python, "aiokafka": aiokafka}[spec["client"]](spec)


if __name__ == "__main__":
    main()
