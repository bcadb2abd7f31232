"""`./millpond demo`"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka import KafkaException
from rich.console import Console

from millpond_cli import stack
from millpond_cli.client import SERVICE
from millpond_cli.commands.options import Config, PortBase, existing
from millpond_cli.demo import docstrings, input_file
from millpond_cli.demo.job import WITHOUT_RESULT, Outcome, is_from_model, run_job
from millpond_cli.demo.running_stack import RunningStack, running_stack
from millpond_cli.demo.screen import watched
from millpond_cli.demo.summary import Batches, Summary, as_json, summarise, targets
from millpond_cli.demo.table import tables
from millpond_cli.demo.workload import Demand, TooFewTexts, workload
from millpond_cli.environment import environment
from millpond_cli.errors import CommandError
from millpond_cli.figures import writable, write
from millpond_cli.here import check_settings, is_stand_in, settings_of
from millpond_cli.kafka_lag import lags
from millpond_cli.setup.home import home
from millpond_cli.stack import Addresses
from millpond_cli.traces import Checked, check, how_to_see, store_of
from millpond_core.settings import Settings
from millpond_core.telemetry import start_tracing

REQUESTS = 500

TRACES = 500
"""Looked at one by one; of more results, so many are taken evenly."""

NAMED = 10
"""Of many missing requests, or broken traces."""

SPANS_S = 30.0
"""At most, for the last spans to arrive."""


def demo(  # noqa: PLR0917
    requests: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many.  [default: 500, or all]")] = None,
    own: Annotated[
        Path | None, typer.Option("--input", metavar="FILE.jsonl", help="Your own requests, one JSON object a line.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up; ./millpond down stops it.")] = False,
    port_base: PortBase = stack.DEFAULT_PORT_BASE,
    config: Config = None,
) -> None:
    """Run real requests through the whole pipeline, and show what became of them and what they cost.

    Sets up what is missing. Uses the stack that is up in this home, or starts one for as long as it takes. Exit status
    1 where a request is left without a result.
    """
    existing(config)
    check_settings(config)
    writable(json_file)
    demands = input_file.read(own, requests) if own else real_text(requests or REQUESTS)
    console = Console()
    place = home()
    with running_stack(place, port_base, config, keep=keep) as run:
        settings = settings_of(run.addresses)
        print(f"sending {len(demands)} requests to ai.requests on {run.addresses.kafka}", flush=True)
        outcome = carry_out(settings, run.addresses, demands, console)
        missing = where_missing(outcome, settings)
        checked = check_traces(run.addresses, outcome)
        figures = environment(place, run.addresses.triton_http)
    summary = summary_of(outcome, settings, len(demands))
    has_stand_in = is_stand_in(run.addresses, settings)
    console.print(tables(summary, settings.models, Path(run.addresses.config), has_stand_in=has_stand_in))
    console.print(about_traces(checked, outcome, run), highlight=False, soft_wrap=True)
    if json_file is not None:
        written = {
            **as_json(summary),
            "traces_checked": checked.checked,
            "traces_complete": checked.complete,
            "large_model_is_stand_in": has_stand_in,
            "stack_ready_s": run.ready_s,
            "targets": targets(summary, checked=checked.checked, complete=checked.complete, own=own is not None),
            "environment": figures,
        }
        write(json_file, written)
    if missing or outcome.again:
        raise CommandError(missing or f"{outcome.again} results came beyond the first of their requests", 1)


def real_text(requests: int) -> Sequence[Demand]:
    try:
        library = docstrings.standard_library()
        return workload(docstrings.texts(library), requests, f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    except TooFewTexts as failure:
        raise CommandError(f"--requests {requests}: {failure}") from None


def carry_out(settings: Settings, addresses: Addresses, demands: Sequence[Demand], console: Console) -> Outcome:
    tracing = start_tracing(SERVICE, otlp_endpoint=settings.otlp_endpoint, traces_file=settings.traces_file)
    try:
        with watched(console) as show:
            return run_job(settings, tracing, addresses.http.values(), demands, show)
    finally:
        tracing.close()


def where_missing(outcome: Outcome, settings: Settings) -> str | None:
    """Which requests have no result and where they may be, or None where all have one."""
    if not outcome.missing:
        return None
    names = ", ".join(demand.name for demand in outcome.missing[:NAMED])
    more = f" and {len(outcome.missing) - NAMED} more" if len(outcome.missing) > NAMED else ""
    reasons = [f"{count:.0f} {what}" for name, what in WITHOUT_RESULT.items() if (count := outcome.counted.total(name))]
    try:
        reasons += [f"{lag.records} wait on {lag.topic} for {lag.group}" for lag in lags(settings) if lag.records]
    except KafkaException as failure:
        reasons.append(f"Kafka does not answer: {failure.args[0].str()}")
    where = "; ".join(reasons) or "nothing waits in Kafka: the services' logs may say more"
    return f"{len(outcome.missing)} requests have no result: {names}{more}. {where}"


def check_traces(addresses: Addresses, outcome: Outcome) -> Checked:
    store = store_of(addresses)
    if store is None:
        return Checked(0, {})
    ids = [result.trace_id for result in outcome.results]
    # Evenly over the run where there are more than are looked at.
    sample = ids if len(ids) <= TRACES else [ids[len(ids) * number // TRACES] for number in range(TRACES)]
    print(f"looking whether {len(sample)} traces are whole", flush=True)
    return check(store, sample, SPANS_S)


def about_traces(checked: Checked, outcome: Outcome, run: RunningStack) -> str:
    """Whether they are whole, and how to look at one: of a request that a model answered, where there is one."""
    if not checked.checked:
        return f"traces went to {run.addresses.otlp or 'nowhere'}: they are not looked at here"
    lines = [f"\n{checked.complete} of {checked.checked} traces are whole, from the producer's span to the result's"]
    lines += [f"  {trace_id}: {fault}" for trace_id, fault in list(checked.faults.items())[:NAMED]]
    if outcome.results:
        example = next((result for result in outcome.results if is_from_model(result)), outcome.results[0])
        lines.append(f"one of them{'' if run.stays else ', after ./millpond up'}:")
        lines.append(f"  {how_to_see(example.trace_id, run.addresses)}")
    return "\n".join(lines)


def summary_of(outcome: Outcome, settings: Settings, requests: int) -> Summary:
    count = outcome.counted.total("millpond_batch_rows_count")
    rows = outcome.counted.total("millpond_batch_rows_sum")
    return summarise(
        outcome.results,
        settings.models,
        Batches(int(count), rows / count if count else 0.0),
        requests=requests,
        again=outcome.again,
        wall_s=outcome.wall_s,
    )
