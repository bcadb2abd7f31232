"""`./millpond send "text"`"""

from __future__ import annotations

import time
from typing import Annotated

import orjson
import typer

from millpond.v1 import result_pb2
from millpond_cli.client import SERVICE, Requests, Results
from millpond_cli.commands.options import MaxTokens, Prompt, prompt_of
from millpond_cli.errors import CommandError
from millpond_cli.here import addresses_here, settings_of
from millpond_cli.printable import printable
from millpond_cli.traces import how_to_see
from millpond_core import json_codec
from millpond_core.envelope import TIER_WORDS
from millpond_core.stage import ROUTE_WORDS, STATUS_WORDS
from millpond_core.telemetry import start_tracing

PATIENCE_S = 10.0
"""Seconds beyond the deadline until a result is missed; by then it should be there, if only as `expired`."""


TIERS = {word: tier for tier, word in TIER_WORDS.items()}


def send(  # noqa: PLR0917
    text: Prompt,
    tier: Annotated[str, typer.Option(help="realtime, standard or overnight.")] = "realtime",
    tenant: Annotated[str, typer.Option(help="Whose request it is.")] = "default",
    model: Annotated[str, typer.Option(help="auto, small, frontier, or a configured name.")] = "auto",
    max_tokens: MaxTokens = 128,
    as_json: Annotated[bool, typer.Option("--json", help="The result as it stands on ai.results.")] = False,
) -> None:
    """Send one request and wait for its result. Exit status 1 where that is no answer."""
    if tier not in TIERS:
        raise CommandError(f"--tier {tier}: must be {', '.join(TIERS)}")
    value = request_of(prompt_of(text), tier=tier, tenant=tenant, model=model, max_tokens=max_tokens)
    addresses = addresses_here()
    settings = settings_of(addresses)
    tracing = start_tracing(SERVICE, otlp_endpoint=settings.otlp_endpoint, traces_file=settings.traces_file)
    try:
        with Results(settings) as results:
            with Requests(settings, tracing) as requests:
                trace_id = requests.send(value)
            result = await_result(results, trace_id, settings.tiers.seconds(TIERS[tier]) + PATIENCE_S)
    finally:
        tracing.close()
    if as_json:
        print(json_codec.encode(result).decode())
    else:
        print(describe(result))
        print(how_to_see(trace_id, addresses))
    if result.status != result_pb2.STATUS_OK:
        raise SystemExit(1)


def request_of(prompt: str, *, tier: str, tenant: str, model: str, max_tokens: int) -> bytes:
    """The record's value."""
    body = {
        "tenant": tenant,
        "tier": tier,
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "params": {"max_tokens": max_tokens},
    }
    return orjson.dumps(body)


def await_result(results: Results, trace_id: str, within_s: float) -> result_pb2.Result:
    """Raises CommandError when it does not come in time."""
    until = time.monotonic() + within_s
    while (left_s := until - time.monotonic()) > 0:
        for result in results.take(left_s):
            if result.trace_id == trace_id:
                return result
    raise CommandError(
        f"no result within {within_s:.0f} s (trace {trace_id}): ./millpond status says what is not running", 1
    )


def describe(result: result_pb2.Result) -> str:
    """The answer, or why there is none; who gave it, and what it took."""
    if result.status != result_pb2.STATUS_OK:
        return f"{STATUS_WORDS[result.status]}: {result.error.code}: {printable(result.error.message)}"
    served, usage = result.served_by, result.usage
    who = f"{ROUTE_WORDS[served.route]}, {served.model}"
    if served.HasField("cache"):
        who += f", {served.cache.kind} match with {served.cache.source_id} ({served.cache.similarity:.3f})"
    return (
        f"{printable(result.output.text, keep=chr(10) + chr(9))}\n\n"
        f"by    {who}\n"
        f"cost  ${result.cost_usd} (${result.cost_sync_usd} at the large model's synchronous price), "
        f"{usage.input_tokens} tokens read, {usage.output_tokens} written\n"
        f"time  {result.timings_ms['total']:.0f} ms"
    )
