"""`./millpond deadletter list | show | replay`"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer
from confluent_kafka import KafkaException, Message

from millpond_cli.delivery import deliver
from millpond_cli.errors import CommandError
from millpond_cli.here import addresses_here, settings_of
from millpond_cli.printable import printable
from millpond_cli.topic_reader import everything_on, record_at
from millpond_core import json_codec, topics
from millpond_core.errors import Code, Malformed
from millpond_core.processor import Outgoing, Record, confluent_reader
from millpond_core.replay import NotReplayable, replay_of, replayed, routed_in, said_of
from millpond_core.settings import Settings

app = typer.Typer(
    help="What could not be read or must not run again: see what there is, and send it on its way again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

UNKNOWN = "-"

Place = Annotated[str, typer.Argument(metavar="PARTITION-OFFSET", help="As `deadletter list` shows it.")]
Reason = Annotated[str | None, typer.Option(metavar="CODE", help="Only those with this reason.")]


@dataclass(frozen=True)
class Letter:
    """One dead letter without its text. at: when it died, RFC 3339. tenant, id: "-" where they cannot be read."""

    place: str
    at: str
    reason: str
    service: str
    topic: str
    tenant: str
    id: str
    replay: int
    message: str


@app.command("list")
def show_all(
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    skip: Annotated[int, typer.Option(min=0, help="How many of the newest to leave out: the next page.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    """Show dead letters, the newest first."""
    checked(reason)
    found = newest(of_reason(settings_of(addresses_here()), reason), limit + skip)[skip:]
    for letter in map(letter_of, found):
        print(orjson.dumps(asdict(letter)).decode() if as_json else one_line(letter))


@app.command()
def show(
    place: Place,
    body: Annotated[bool, typer.Option("--body", help="The text too. It is whatever somebody sent.")] = False,
) -> None:
    """Show one dead letter: what is said of it, its own headers and, where asked for, its body."""
    record = record_of(settings_of(addresses_here()), place)
    print(one_line(letter_of(record)))
    print(f"key: {printable((record.key or b'').decode('utf-8', 'backslashreplace'))}")
    for name, value in record.headers:
        print(f"{printable(name)}: {printable(value.decode('utf-8', 'backslashreplace'))}")
    print(f"value: {len(record.value or b'')} bytes{'' if body else ' (--body shows them)'}")
    if body:
        print(body_of(record))


@app.command()
def replay(
    places: Annotated[list[str] | None, typer.Argument(metavar="[PARTITION-OFFSET]...", help="Which ones.")] = None,
    reason: Reason = None,
) -> None:
    """Send dead letters on their way again, under their own ids and traces; the results carry which replay they are.

    A dead letter stays where it is. To replay it twice gives one result: the second is a copy of the first.
    """
    if bool(places) == bool(reason):
        raise CommandError("name dead letters as PARTITION-OFFSET, or all of a reason with --reason")
    checked(reason)
    settings = settings_of(addresses_here())
    records = [record_of(settings, place) for place in places] if places else of_reason(settings, reason)
    sent, kept = send_again(settings, records)
    for place, why in kept:
        print(f"{place} is not replayed: {why}")
    print(f"{sent} replayed")
    if kept:
        raise SystemExit(1)


def checked(reason: str | None) -> None:
    if reason is not None and reason not in list(Code):
        raise CommandError(f"--reason {reason}: must be one of {', '.join(Code)}")


def of_reason(settings: Settings, reason: str | None) -> Iterator[Record]:
    """Raises CommandError."""
    try:
        for message in everything_on(settings, topics.DEADLETTER):
            record = record_in(message)
            if reason is None or said_of(record, "reason") == reason:
                yield record
    except KafkaException as failure:
        raise CommandError(f"{topics.DEADLETTER} cannot be read: {failure.args[0].str()}", 1) from failure


def newest(records: Iterator[Record], count: int) -> Sequence[Record]:
    """Of any number of records no more than so many are kept in memory."""
    return heapq.nlargest(count, records, key=lambda record: (record.timestamp_ms, record.partition, record.offset))


def record_of(settings: Settings, place: str) -> Record:
    """Raises CommandError."""
    number, _, offset = place.partition("-")
    if not (number.isdecimal() and offset.isdecimal()):
        raise CommandError(f"{place}: must read PARTITION-OFFSET, as in 2-41: ./millpond deadletter list")
    try:
        message = record_at(settings, topics.DEADLETTER, int(number), int(offset))
    except OverflowError:
        # No partition and no offset of Kafka's is so large.
        message = None
    except KafkaException as failure:
        raise CommandError(f"{topics.DEADLETTER} cannot be read: {failure.args[0].str()}", 1) from failure
    if message is None:
        raise CommandError(f"{place}: there is no dead letter: ./millpond deadletter list")
    return record_in(message)


def record_in(message: Message) -> Record:
    """Of a message that is no error's."""
    record = confluent_reader.record_of(message)
    assert record is not None
    return record


def letter_of(record: Record) -> Letter:
    tenant, id, replays = identity_of(record)
    return Letter(
        place=f"{record.partition.number}-{record.offset}",
        at=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        reason=said_of(record, "reason"),
        service=said_of(record, "service"),
        topic=said_of(record, "topic"),
        tenant=tenant or UNKNOWN,
        id=id or UNKNOWN,
        replay=replays,
        message=said_of(record, "message"),
    )


def identity_of(record: Record) -> tuple[str, str, int]:
    """Tenant, id and replay, as far as they can be read."""
    if (routed := routed_in(record)) is not None:
        return routed.request.tenant, routed.request.id, routed.replay
    try:
        tenant_id = json_codec.identity_in(json_codec.parse(record.value or b""))
    except Malformed:
        tenant_id = ("", "")
    id, tenant = tenant_id
    return tenant, id, replay_of(record.headers)


def one_line(letter: Letter) -> str:
    """ "2-41 2026-11-24T13:00:00.000+00:00 id_conflict cache acme/invoice-1841 a request with this id …" """
    replays = f" (replay {letter.replay})" if letter.replay else ""
    who = f"{letter.tenant}/{letter.id}{replays}"
    return printable(f"{letter.place} {letter.at} {letter.reason} {letter.service} {who} {letter.message}")


def body_of(record: Record) -> str:
    """A request as JSON, where one can be read; else the text, or the bytes."""
    if (routed := routed_in(record)) is not None:
        return printable(json_codec.encode(routed.request).decode())
    value = record.value or b""
    return printable(value.decode("utf-8", "backslashreplace"), keep="\n\t")


def send_again(settings: Settings, records: Sequence[Record] | Iterator[Record]) -> tuple[int, list[tuple[str, str]]]:
    """How many went, and which did not and why. Raises CommandError."""
    inlets = {topics.REQUESTS, *settings.tenants_by_topic}
    kept: list[tuple[str, str]] = []

    def again() -> Iterator[Outgoing]:
        for record in records:
            try:
                yield replayed(record, inlets)
            except NotReplayable as failure:
                kept.append((f"{record.partition.number}-{record.offset}", str(failure)))

    return deliver(settings, again()), kept
