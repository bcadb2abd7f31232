"""`./millpond cache stats|invalidate|reindex|feedback|warm`"""

from __future__ import annotations

import getpass
import os
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import grpc
import orjson
import typer
from rich.console import Console
from rich.table import Table

from millpond.v1 import control_pb2, result_pb2, services_pb2, services_pb2_grpc
from millpond_cli.client import SERVICE, Requests, Results
from millpond_cli.demo import input_file
from millpond_cli.errors import CommandError
from millpond_cli.here import addresses_here, settings_here, settings_of
from millpond_core.cost import dollars, synchronous_cost
from millpond_core.identity import NO_TENANT
from millpond_core.settings import Settings
from millpond_core.telemetry import start_tracing

MOST_HOURS = 100 * 365 * 24
"""A century: no answer is older, and dates end somewhere."""

ANSWER_S = 10.0
"""Seconds that the cache has for one order; to forget many answers takes some."""

app = typer.Typer(no_args_is_help=True, help="What the cache gave, and what it is to forget or to learn ahead of time.")

Tenant = Annotated[str, typer.Option(help="Whose answers.")]


@app.command("stats")
def stats(
    tenant: Annotated[str, typer.Option(help="One tenant's.  [default: all together]")] = "",
) -> None:
    """Show hits, the estimated error, what was saved, and why there were misses: since the cache was started."""
    addresses = addresses_here()
    with asked(addresses.cache_grpc) as stub:
        found = stub.Stats(services_pb2.StatsRequest(tenant=tenant), timeout=ANSWER_S)
    console = Console()
    share = found.hits / found.lookups if found.lookups else 0.0
    print(f"{found.lookups} look-ups, {found.hits} hits ({share:.1%})")
    alone = (
        f"by these alone {found.error_low:.1%} to {found.error_high:.1%} (95 %)" if found.judged else "none was sampled"
    )
    called = f"{found.wrong} of {found.judged} sampled were called wrong"
    print(f"estimated error of hits {found.error:.2%}, from the budget and what was sampled: {called}; {alone}")
    if found.reported:
        print(f"people said of {found.reported} answers what they were: {found.reported_wrong} wrong")
    saved = f"{found.input_tokens_saved} tokens read and {found.output_tokens_saved} written"
    usage = result_pb2.Usage(input_tokens=found.input_tokens_saved, output_tokens=found.output_tokens_saved)
    price = dollars(synchronous_cost(usage, settings_of(addresses).models))
    print(f"saved: {saved}, which the large model would have done for ${price}\n")
    table = Table("reason", "look-ups", box=None, pad_edge=False, header_style="bold")
    for reason, count in sorted(found.reasons.items(), key=lambda each: -each[1]):
        table.add_row(reason, str(count))
    console.print(table)


@app.command("invalidate")
def invalidate(  # noqa: PLR0917
    tenant: Tenant = NO_TENANT,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="Every tenant's instead.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All answers, where nothing else is said.")] = False,
    source_id: Annotated[str, typer.Option("--id", help="The request whose answer it is.")] = "",
    tag: Annotated[str, typer.Option(help='What the request\'s metadata calls "cache_tag".')] = "",
    prefix: Annotated[str, typer.Option(help="What the question begins with.")] = "",
    model: Annotated[str, typer.Option(help="The model that answered.")] = "",
    older_than_h: Annotated[
        float | None, typer.Option(min=0, max=MOST_HOURS, metavar="HOURS", help="Answers older than this.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
) -> None:
    """Make the cache forget answers: those that fit in everything that is said. Its log keeps who asked."""
    if everything == bool(source_id or tag or prefix or model or older_than_h is not None):
        raise CommandError(
            "cache invalidate: say either which, by --id, --tag, --prefix, --model or --older-than-h, or --all"
        )
    order = control_pb2.Invalidate(
        tenant="" if all_tenants else tenant,
        all_tenants=all_tenants,
        source_id=source_id,
        tag=tag,
        prefix=prefix,
        model=model,
        dry_run=dry_run,
        by=who(),
    )
    if older_than_h is not None:
        order.older_than.FromDatetime(datetime.now(UTC) - timedelta(hours=older_than_h))
    with asked(addresses_here().cache_grpc) as stub:
        found = stub.Invalidate(order, timeout=ANSWER_S)
    print(f"{found.entries} answers {'would be forgotten' if dry_run else 'forgotten'}")


@app.command("reindex")
def reindex(
    timeout_s: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Wait so long.")] = 4 * 3600,
) -> None:
    """Build the index anew with the embedder that runs now, beside the one that serves, and switch to it."""
    with asked(addresses_here().cache_grpc) as stub:
        found = stub.Reindex(services_pb2.ReindexRequest(by=who()), timeout=timeout_s)
    print(f"the new index serves: {found.entries} answers")


@app.command("feedback")
def feedback(
    source_id: Annotated[str, typer.Argument(help="served_by.cache.source_id of the result.")],
    wrong: Annotated[bool, typer.Option("--wrong/--right", help="Whether the answer was wrong.")],
    tenant: Tenant = NO_TENANT,
) -> None:
    """Say whether an answer that the cache gave was right. One that was wrong is forgotten at once."""
    said = services_pb2.FeedbackRequest(tenant=tenant, source_id=source_id, wrong=wrong)
    with asked(addresses_here().cache_grpc) as stub:
        found = stub.Feedback(said, timeout=ANSWER_S)
    print(f"noted; {found.entries} answers forgotten")


@app.command("warm")
def warm(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Requests, one JSON object a line.")],
    wait_s: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for their results.")] = 0,
) -> None:
    """Send requests in the overnight tier, so that whoever asks the same by day is answered by the cache."""
    demands = input_file.read(file, None, strict=settings_here(Settings).limits)
    addresses = addresses_here()
    settings = settings_of(addresses)
    tracing = start_tracing(SERVICE, otlp_endpoint=settings.otlp_endpoint, traces_file=settings.traces_file)
    try:
        with Results(settings) as results:
            with Requests(settings, tracing) as requests:
                waiting = {requests.send(overnight(demand.body), demand.key) for demand in demands}
            print(f"{len(waiting)} requests sent, to be answered in the overnight tier")
            if wait_s:
                became = await_results(results, waiting, wait_s)
                failed = became.total() - became[result_pb2.STATUS_OK]
                told = f"{became[result_pb2.STATUS_OK]} answered, {failed} failed"
                print(f"{told}, {len(waiting) - became.total()} still to come")
                if failed:
                    raise SystemExit(1)
    finally:
        tracing.close()


def overnight(body: bytes) -> bytes:
    """The request, in the tier `overnight` where it names none."""
    given: dict[str, Any] = orjson.loads(body)
    return orjson.dumps({**given, "tier": given.get("tier") or "overnight"})


def await_results(results: Results, waiting: set[str], wait_s: float) -> Counter[result_pb2.Status]:
    """What became of those of these traces that have a result within so many seconds."""
    until = datetime.now(UTC) + timedelta(seconds=wait_s)
    left, became = set(waiting), Counter[result_pb2.Status]()
    while left and (left_s := (until - datetime.now(UTC)).total_seconds()) > 0:
        for result in results.take(left_s):
            if result.trace_id in left:
                left.remove(result.trace_id)
                became[result.status] += 1
    return became


def who() -> str:
    """For the audit record: whoever runs the command, as far as this machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@contextmanager
def asked(address: str) -> Generator[Any]:
    """The cache's interface. Raises CommandError."""
    with grpc.insecure_channel(address) as channel:
        try:
            yield services_pb2_grpc.CacheServiceStub(channel)
        except grpc.RpcError as failure:
            if failure.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS):
                raise CommandError(str(failure.details())) from None
            raise CommandError(f"the cache at {address}: {failure.code().name}: {failure.details()}", 1) from None
