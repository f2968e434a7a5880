"""Sends requests that the other scripts do not: of administrators, of a group's
member, of a transaction.

The one argument is JSON: client (confluent-kafka or kafka-python), bootstrap,
topic, which exists and holds records. Steps that fail are printed at the end,
with exit status 1: a broker without coordinators refuses some.
"""

import json
import sys


def attempt(steps):
    failed = []
    for step in steps:
        try:
            step()
        except Exception as e:  # whatever a client raises, the next step still runs
            failed.append("%s: %r" % (step.__name__, e))
    if failed:
        sys.exit("; ".join(failed))


def confluent(spec):
    from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
    from confluent_kafka.admin import (AclBindingFilter, AclOperation, AclPermissionType, AdminClient, AlterConfigOpType, ConfigEntry,
                                       ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourcePatternType, ResourceType)

    servers = {"bootstrap.servers": spec["bootstrap"]}
    admin = AdminClient(servers)
    topic, extra = spec["topic"], spec["topic"] + "-extra"
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def done(futures):
        for f in futures.values() if isinstance(futures, dict) else [futures]:
            f.result(3)

    def create():
        done(admin.create_topics([NewTopic(extra, 2, 1, config={"retention.ms": "-1"})], request_timeout=3))

    def grow():
        done(admin.create_partitions([NewPartitions(extra, 3)], request_timeout=3))

    def describe_topics():
        from confluent_kafka import TopicCollection
        done(admin.describe_topics(TopicCollection([topic, extra]), request_timeout=3))

    def describe_cluster():
        done(admin.describe_cluster(request_timeout=3))

    def describe_configs():
        done(admin.describe_configs([resource], request_timeout=3))

    def alter_configs():
        entry = ConfigEntry("retention.ms", "1000000", incremental_operation=AlterConfigOpType.SET)
        done(admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])], request_timeout=3))

    def list_offsets():
        done(admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.max_timestamp()}, request_timeout=3))

    def delete_records():
        done(admin.delete_records([TopicPartition(topic, 0, 1)], request_timeout=3))

    def acls():
        done(admin.describe_acls(AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY,
                                                  AclPermissionType.ANY), request_timeout=3))

    def groups():
        done(admin.list_consumer_groups(request_timeout=3))

    def member():
        c = Consumer({**servers, "group.id": "confluent", "auto.offset.reset": "earliest", "session.timeout.ms": 6000})
        c.subscribe([topic])
        m = c.poll(3)
        if m is not None:
            c.commit(asynchronous=False)
        c.close()

    def describe_group():
        done(admin.describe_consumer_groups(["confluent"], request_timeout=3))
        done(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("confluent")], request_timeout=3))

    def transaction():
        p = Producer({**servers, "transactional.id": "confluent", "transaction.timeout.ms": 5000})
        p.init_transactions(3)
        p.begin_transaction()
        p.produce(topic, b"a", b"k", headers=[("h", b"v")])
        p.commit_transaction(3)

    def delete():
        done(admin.delete_topics([extra], request_timeout=3))

    attempt([create, grow, describe_topics, describe_cluster, describe_configs, alter_configs, list_offsets, delete_records, acls, groups,
             delete, transaction, member, describe_group])


def kafka_python(spec):
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic

    servers = {"bootstrap_servers": spec["bootstrap"]}
    admin = KafkaAdminClient(**servers, request_timeout_ms=4000)
    topic, extra = spec["topic"], spec["topic"] + "-extra"
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)

    def create():
        admin.create_topics([NewTopic(extra, 2, 1, topic_configs={"retention.ms": "-1"})])

    def grow():
        admin.create_partitions({extra: NewPartitions(3)})

    def describe_topics():
        admin.describe_topics([topic])

    def describe_cluster():
        admin.describe_cluster()

    def describe_configs():
        admin.describe_configs([resource])

    def alter_configs():
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "1000000"})])

    def log_dirs():
        admin.describe_log_dirs()

    def delete_records():
        admin.delete_records({TopicPartition(topic, 0): 1})

    def describe_topic_partitions():
        admin.describe_topic_partitions([topic])

    def describe_producers():
        admin.describe_producers([TopicPartition(topic, 0)])

    def config_resources():
        admin.list_config_resources()

    def reassignments():
        admin.list_partition_reassignments()

    def quorum():
        admin.describe_metadata_quorum()

    def transactions():
        admin.list_transactions()

    def groups():
        admin.list_groups()

    def delete():
        admin.delete_topics([extra])

    def transaction():
        p = KafkaProducer(**servers, transactional_id="kafka-python", max_block_ms=3000, request_timeout_ms=3000)
        p.init_transactions()
        p.begin_transaction()
        p.send(topic, b"a", key=b"k", headers=[("h", b"v")])
        p.commit_transaction()
        p.close(timeout=1)

    def member():
        c = KafkaConsumer(topic, **servers, group_id="kafka-python", auto_offset_reset="earliest", session_timeout_ms=6000)
        if c.poll(timeout_ms=3000):
            c.commit()
        c.close(timeout_ms=1000)

    def describe_group():
        admin.describe_groups(["kafka-python"])

    def group_offsets():
        admin.list_group_offsets({"kafka-python": None})

    attempt([create, grow, describe_topics, describe_cluster, describe_configs, alter_configs, log_dirs, delete_records,
             describe_topic_partitions, describe_producers, config_resources, reassignments, quorum, transactions, groups, delete,
             transaction, member, describe_group, group_offsets])


def main():
    spec = json.loads(sys.argv[1])
    {"confluent-kafka": confluent, "kafka-python": kafka_python}[spec["client"]](spec)


if __name__ == "__main__":
    main()
