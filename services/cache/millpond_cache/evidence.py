"""What was judged of hits, by whomever: read from ai.feedback, and what it changes.

Each replica reads all of the topic from its beginning, in no group: all of them, and one that starts again, come to the
same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from millpond.v1 import feedback_pb2
from millpond_cache.accuracy import CERTAIN, Accuracy
from millpond_cache.judge import SOURCE
from millpond_cache.ledger import Ledger
from millpond_cache.thresholds import Judged, cluster_name, entry_name, tenant_name
from millpond_core import topics
from millpond_core.codec import CONTENT_TYPE, decode_feedback
from millpond_core.errors import Malformed
from millpond_core.processor import Partition, Reader, Record, header

logger = logging.getLogger(__name__)

TAKEN = 1000
POLL_S = 1.0

GOOD = 0.5
"""From which on a judgement from 0 to 1 says that the answer was right."""


class Evidence:
    def __init__(self, judged: Judged, ledger: Ledger, judge: Accuracy) -> None:
        """judge: that of the verdicts on samples. What people say is taken at its word."""
        self._judged = judged
        self._ledger = ledger
        self._judge = judge

    def hear(self, found: Iterable[feedback_pb2.Feedback]) -> None:
        """Pure but for what it adds to. What is about models is the router's."""
        for each in found:
            if not each.HasField("cache"):
                continue
            wrong = not each.good >= GOOD
            names = [tenant_name(each.tenant), entry_name(each.tenant, each.cache.source_id)]
            if each.cache.cluster:
                names.append(cluster_name(each.tenant, each.cache.cluster))
            is_sample = each.source == SOURCE
            hits, wrong_hits = (self._judge if is_sample else CERTAIN).weighed(wrong=wrong)
            for name in names:
                self._judged.judge(name, hits, wrong_hits)
            if is_sample:
                self._ledger.sampled(each.tenant, hits, wrong_hits, wrong=wrong)
            else:
                self._ledger.reported(each.tenant, wrong=wrong)


async def gather(reader: Reader, partitions: int, evidence: Evidence) -> None:
    """Until it is cancelled. reader: closed at the end."""
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "evidence")
    try:
        for number in range(partitions):
            await loop.run_in_executor(thread, reader.follow, Partition(topics.FEEDBACK, number), 0)
        while True:
            evidence.hear(_read(await loop.run_in_executor(thread, reader.poll, TAKEN, POLL_S)))
    finally:
        thread.submit(reader.close)
        thread.shutdown(wait=False)


def _read(records: Sequence[Record]) -> Iterable[feedback_pb2.Feedback]:
    for record in records:
        try:
            yield decode_feedback(record.value, header(record.headers, CONTENT_TYPE))
        except Malformed as wrong:
            logger.warning("%s-%d@%d is passed over: %s", *record.partition, record.offset, wrong)
