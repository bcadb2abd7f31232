"""Which requests were accepted already: the first stage's protection against copies.

A claim is one record of the claims topic: the request's key, and the hash of its body. It is written in the
transaction that writes what became of the request, so it is there exactly when the request was dealt with. The topic is
co-partitioned with the one that is claimed from, so a partition's owner is the only one that writes its claims, and
can keep them in a file of its own; the file can be lost at any time.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from millpond_core.processor.broker import Broker
from millpond_core.processor.record import Outgoing, Partition

logger = logging.getLogger(__name__)

PURGE_EVERY_MS = 3600 * 1000
"""Between two times that claims which hold no more are thrown away."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS claim (key BLOB PRIMARY KEY, body BLOB NOT NULL, claimed_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS age ON claim (claimed_ms);
CREATE TABLE IF NOT EXISTS changelog (next INTEGER NOT NULL);
"""


class Verdict(Enum):
    NEW = "new"
    COPY = "copy"
    """The same request again: it has its result, or is about to get it."""
    CONFLICT = "conflict"
    """The same id with another body."""


@dataclass
class _Ledger:
    """One partition's claims. open: those of records in flight, whose transaction is still to come.

    purged_ms: when the old ones were thrown away last.
    """

    database: sqlite3.Connection
    purged_ms: int
    open: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])


class Claims:
    """Of all partitions that this replica has. Not safe for use by two threads at once."""

    def __init__(self, topic: str, topic_id: str, folder: Path, retention_ms: int) -> None:
        """topic_id: the broker's; a topic that was made anew has another, and its claims have another file.

        folder: of this replica alone. retention_ms: how long a claim holds; the topic's own retention.
        """
        self._topic = topic
        # Base 64: with slashes in it.
        self._topic_id = quote(topic_id, safe="")
        self._folder = folder
        self._retention_ms = retention_ms
        self._ledgers: dict[int, _Ledger] = {}

    def restore(self, broker: Broker, number: int, now_ms: int) -> None:
        """Bring this partition's file up to date with the topic; call it when the partition was assigned."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._topic}-{number}."
        path = self._folder / f"{name}{self._topic_id}.sqlite"
        for old in self._folder.glob(f"{name}*"):
            if not old.name.startswith(path.name):
                # Of a topic that is no more.
                old.unlink()
        try:
            database = _open(path)
        except sqlite3.DatabaseError as failure:
            logger.warning("claims file %s is unreadable (%s): made again from %s", path, failure, self._topic)
            for part in self._folder.glob(f"{path.name}*"):
                part.unlink()
            database = _open(path)
        (reached,) = database.execute("SELECT next FROM changelog").fetchone()
        for records, following in broker.read(Partition(self._topic, number), reached):
            with database:
                if following < reached:
                    # The topic ends before what the file has read of it: it was made anew, and the file is of its past.
                    database.execute("DELETE FROM claim")
                    database.execute("UPDATE changelog SET next = 0")
                database.executemany(
                    "INSERT OR REPLACE INTO claim VALUES (?, ?, ?)",
                    [(record.key, record.value, record.timestamp_ms) for record in records if record.value is not None],
                )
                _set_next(database, following)
            reached = following
        ledger = self._ledgers[number] = _Ledger(database, now_ms)
        with database:
            self._purge(ledger, now_ms)

    def release(self, number: int) -> None:
        """The partition is gone: forget it. The file stays for its next time."""
        if ledger := self._ledgers.pop(number, None):
            ledger.database.close()

    def claim(self, number: int, key: bytes, body: bytes) -> Verdict:
        """Claim the key for this body, until `settle` or `release`. Raises KeyError where it was not restored."""
        ledger = self._ledgers[number]
        held = ledger.open.get(key)
        if held is None:
            row = ledger.database.execute("SELECT body FROM claim WHERE key = ?", (key,)).fetchone()
            held = row[0] if row else None
        if held is None:
            ledger.open[key] = body
            return Verdict.NEW
        return Verdict.COPY if held == body else Verdict.CONFLICT

    def outgoing(self, number: int, key: bytes) -> Outgoing:
        """The record that makes the open claim last."""
        return Outgoing(self._topic, key, self._ledgers[number].open[key], partition=number)

    def settle(self, claimed: Mapping[int, list[bytes]], written: Mapping[Partition, int], now_ms: int) -> None:
        """The transaction with these claims was committed. written: the last offset in each partition of the topic."""
        for number, keys in claimed.items():
            ledger = self._ledgers[number]
            with ledger.database:
                ledger.database.executemany(
                    "INSERT OR REPLACE INTO claim VALUES (?, ?, ?)",
                    [(key, ledger.open[key], now_ms) for key in keys],
                )
                _set_next(ledger.database, written[Partition(self._topic, number)] + 1)
                if now_ms - ledger.purged_ms >= PURGE_EVERY_MS:
                    self._purge(ledger, now_ms)
            for key in keys:
                del ledger.open[key]

    def _purge(self, ledger: _Ledger, now_ms: int) -> None:
        ledger.database.execute("DELETE FROM claim WHERE claimed_ms < ?", (now_ms - self._retention_ms,))
        ledger.purged_ms = now_ms

    def close(self) -> None:
        for number in list(self._ledgers):
            self.release(number)


def _open(path: Path) -> sqlite3.Connection:
    # One thread at a time, though not always the same one: see Claims.
    database = sqlite3.connect(path, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # The topic is the truth: what the last moments before a power cut wrote is read from it again.
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(SCHEMA)
        with closing(database.execute("SELECT count(*) FROM changelog")) as found:
            if found.fetchone()[0] == 0:
                database.execute("INSERT INTO changelog VALUES (0)")
                database.commit()
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _set_next(database: sqlite3.Connection, offset: int) -> None:
    database.execute("UPDATE changelog SET next = max(next, ?)", (offset,))
