"""What the hops are held to: takes records from one topic and writes them to another, in transactions with offsets.

`python -m millpond_cli.bench.pipeline.bare_loop BOOTSTRAP GROUP SOURCE TARGET`: until it is ended.
"""

from __future__ import annotations

import sys

from confluent_kafka import Consumer, Producer, TopicPartition

from millpond_core.processor import ProcessorSettings
from millpond_core.processor.confluent_broker import RETRY_MS

CALL_S = 10.0


def main(bootstrap: str, group: str, source: str, target: str) -> None:
    """With the settings of the processor's clients (confluent_broker.py), and its records per transaction."""
    size = ProcessorSettings().transaction_records
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": group,
            "partitioner": "murmur2_random",
            "linger.ms": 0,
            "compression.type": "lz4",
            **RETRY_MS,
        }
    )
    producer.init_transactions(CALL_S)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([source])
    while True:
        messages = [message for message in consumer.consume(size, 0.05) if message.error() is None]
        if not messages:
            continue
        reached: dict[int, int] = {}
        producer.begin_transaction()
        for message in messages:
            producer.produce(target, message.value(), message.key(), headers=message.headers() or [])
            reached[message.partition() or 0] = (message.offset() or 0) + 1
        positions = [TopicPartition(source, number, offset) for number, offset in reached.items()]
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), CALL_S)
        producer.commit_transaction(CALL_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
