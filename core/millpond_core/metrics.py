"""Every metric of every service: name, kind, labels, meaning. The services only count.

No label takes a value that a producer chooses freely (tenant, id): each value of a label is a series kept for ever.
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

Metric = TypeVar("Metric", Counter, Gauge, Histogram)

SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""Buckets of look-ups and embeddings, in seconds: from a hash in memory to a back end in trouble."""

CALL_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Buckets of a model's call, in seconds: from one short row to a full batch on a CPU."""

WAIT_S = (0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
"""Buckets of a request's whole time, in seconds: from a cache hit to the last hour of an overnight request."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Buckets of batch sizes, in rows."""


@cache
def series(metric: Metric, *values: str) -> Metric:
    """`metric.labels(*values)`, remembered: for what is counted with every record. Finding it takes microseconds."""
    return metric.labels(*values)


# Records, in whatever stage reads them. stage: the service's name.

RECORDS_TAKEN = Counter("millpond_records_taken", "Records read from a topic", ("topic", "stage"))
RECORDS_FINISHED = Counter(
    "millpond_records_finished", "Records whose outputs are committed or acknowledged", ("topic", "stage")
)
RECORDS_TAKEN_AHEAD = Counter("millpond_records_taken_ahead", "Records taken before their turn", ("stage",))
UNREAD = Gauge("millpond_unread", "Records that wait unread and of which something is known", ("stage",))
IN_FLIGHT = Gauge("millpond_in_flight", "Records taken and not finished", ("topic", "stage"))
PAUSED_PARTITIONS = Gauge("millpond_paused_partitions", "Partitions not read because enough is in flight", ("topic",))
MOVED_TO_TAIL = Counter(
    "millpond_moved_to_tail", "Records written again at the topic's end so that they block no other", ("topic", "stage")
)
LATE_ANSWERS = Counter(
    "millpond_late_answers",
    "Answers dropped because the request was settled or its partition lost in the meantime",
    ("stage",),
)
COPIES_DROPPED = Counter("millpond_copies_dropped", "Requests dropped because they were admitted before", ("stage",))
CONFLICTS = Counter("millpond_conflicts", "Requests with a known id and another body", ("stage",))
DEAD_LETTERS = Counter("millpond_dead_letters", "Records written to ai.deadletter", ("stage", "reason"))
TRANSACTIONS = Counter("millpond_transactions", "Kafka transactions committed", ("stage",))
TRANSACTIONS_ABORTED = Counter("millpond_transactions_aborted", "Kafka transactions aborted", ("stage",))
TRANSACTION_SECONDS = Histogram(
    "millpond_transaction_seconds", "From beginning a transaction to its commit", ("stage",), buckets=SHORT_S
)

CACHE_SAMPLES = Counter(
    "millpond_cache_samples", "Hits by meaning that were also asked of the model, and what came of it", ("outcome",)
)
CONTROL_REFUSED = Counter("millpond_control_refused", "Records of ai.control that say nothing")

# Results. route: cache, small, frontier or none.

RESULTS = Counter("millpond_results", "Results written", ("status", "route", "tier"))
RESULT_SECONDS = Histogram(
    "millpond_result_seconds", "From the append to ai.requests to the result", ("route", "tier"), buckets=WAIT_S
)
DEADLINES_EXPIRED = Counter(
    "millpond_deadlines_expired", "Requests whose deadline passed unanswered", ("stage", "tier")
)
REQUESTS_CANCELLED = Counter("millpond_requests_cancelled", "Requests ended by a record on ai.control", ("stage",))
COST_USD = Counter(
    "millpond_cost_usd", "What the results cost, in dollars, by the configured prices", ("route", "model")
)
COST_SYNC_USD = Counter(
    "millpond_cost_sync_usd", "The same tokens at the large model's synchronous price, in dollars", ("route", "model")
)

# Models.

INPUT_TOKENS = Counter("millpond_input_tokens", "Tokens that a model read", ("model",))
OUTPUT_TOKENS = Counter("millpond_output_tokens", "Tokens that a model wrote", ("model",))
WASTED_TOKENS = Counter("millpond_wasted_tokens", "Tokens of calls whose answer was not kept", ("model",))
ENGINE_SECONDS = Histogram(
    "millpond_engine_seconds", "One call of a model, from sent to answered", ("model", "outcome"), buckets=CALL_S
)
MODEL_ANSWERS = Gauge(
    "millpond_model_answers", "1 while a model's process in Triton answers, else 0", ("model", "process")
)
MODEL_ROWS = Gauge(
    "millpond_model_rows", "Rows that a model's process is given at the same time, at most", ("model", "process")
)
BATCH_ROWS = Histogram("millpond_batch_rows", "Requests in one batch", ("model", "tier"), buckets=ROWS)
BATCH_WAIT_SECONDS = Histogram(
    "millpond_batch_wait_seconds", "How long a request waited for its batch", ("model", "tier"), buckets=WAIT_S
)

# Quality gate. check: its name, as in the batcher's settings.

CHECKED = Counter("millpond_checked_answers", "Answers that were checked", ("model",))
CHECKS_FAILED = Counter("millpond_failed_checks", "Answers that failed a check", ("model", "check"))
ESCALATED = Counter(
    "millpond_escalated", "Requests that went to the large model for a failed check", ("model", "check")
)
HELD_BATCHES = Gauge(
    "millpond_held_batches", "Batches whose rest is held, since their first answers failed", ("model",)
)

# Embedder.

EMBEDDER_SECONDS = Histogram("millpond_embedder_seconds", "One call of the embedder that was answered", buckets=SHORT_S)
EMBEDDER_FAILURES = Counter(
    "millpond_embedder_failures",
    "Calls of the embedder without vectors; reason: timeout, unavailable, refused or unreadable",
    ("reason",),
)

# Router.

DECISIONS = Counter("millpond_decisions", "Requests routed, by the decision's first reason", ("route", "reason"))
SHADOW_DECISIONS = Counter(
    "millpond_shadow_decisions", "Decisions of the candidate heads beside the live ones", ("live", "candidate")
)
FEEDBACK = Counter("millpond_feedback", "Judgements of answers read, by what became of them", ("outcome",))
PROMISE_DRIFT = Gauge(
    "millpond_promise_drift", "Standard deviations by which recent answers miss their promises", ("model",)
)

# Cache. outcome: exact, semantic, miss, bypass or unavailable.

CACHE_LOOKUPS = Counter("millpond_cache_lookups", "Look-ups by what came of them", ("outcome",))
CACHE_SECONDS = Histogram("millpond_cache_seconds", "One look-up", ("outcome",), buckets=SHORT_S)
CACHE_LEARNED = Counter("millpond_cache_learned", "Answers taken in, to be given again")
