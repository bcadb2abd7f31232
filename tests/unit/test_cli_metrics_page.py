"""What is read from the services' pages is what they counted."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from millpond_cli.metrics_page import parse


def page(taken: int, rows: list[int]) -> str:
    registry = CollectorRegistry()
    counter = Counter("millpond_records_taken", "…", ("topic", "stage"), registry=registry)
    counter.labels("ai.routed", "cache").inc(taken)
    counter.labels("ai.frontier", "frontier").inc(1)
    histogram = Histogram("millpond_batch_rows", "…", ("tier",), registry=registry)
    for count in rows:
        histogram.labels("standard").observe(count)
    return generate_latest(registry).decode()


def test_values_are_summed_over_services_and_labels() -> None:
    samples = parse([page(3, [4, 8]), page(5, [])])
    assert samples.total("millpond_records_taken_total", stage="cache") == 8
    assert samples.total("millpond_records_taken_total") == 10
    assert samples.total("millpond_batch_rows_sum") == 12
    assert samples.total("millpond_batch_rows_count") == 2
    assert samples.total("never_counted") == 0


def test_what_was_counted_since_leaves_out_what_was_there_before() -> None:
    since = parse([page(7, [4])]) - parse([page(3, [])])
    assert since.total("millpond_records_taken_total", stage="cache") == 4
    assert since.total("millpond_batch_rows_count") == 1
