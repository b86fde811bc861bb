"""The store as an outbox: what must still leave the house, read by cursor, never copied. The port is in core."""

import sqlite3
import zlib
from collections.abc import Callable
from concurrent.futures import Future

from agent.core.ports import StoredBlock, StoredEvent
from agent.store import boots, ledger
from agent.store.jobs import Pace, Publish
from agent.store.readers import Readers
from agent.store.schema import COPIED, NUMBERS_FROM, get_mark
from agent.store.writer import Writer

TELEMETRY = "telemetry"
EVENT = "event"

#: 2026-01-01, in seconds since 1970.
NUMBERS_SINCE_S = 1_767_225_600
_NUMBERS_PER_S = 1024
STREAMS = (TELEMETRY, EVENT)
#: The begin of a cursor's ``sent``: up to there a backup holds the telemetry.
_SENT = f"(SELECT ifnull(max(value), 0) FROM mark WHERE name = '{COPIED}' AND ? = '{TELEMETRY}')"  # noqa: S608 - ours

_BLOCKS = """SELECT seq, {first}, boot.boot, rows, crc, data, {table}.clock
    FROM {table} LEFT JOIN boot ON boot.id = {table}.boot
    WHERE seq > ? AND {first} > ? ORDER BY seq LIMIT ?"""


class Cursors:
    """The outbox of a store. ``damaged`` is told of (table, seq, reason) of a row that can't be sent."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        readers: Readers,
        writer: Writer,
        newest_event: Callable[[], int],
        damaged: Callable[[str, int, str], None],
    ) -> None:
        self._readers = readers
        self._writer = writer
        self._newest_event = newest_event
        self._damaged = damaged
        found = connection.execute("SELECT stream, acked FROM cursor").fetchall()
        self._acked: dict[str, int] = dict.fromkeys(STREAMS, get_mark(connection, NUMBERS_FROM)) | dict(found)

    def blocks(self, after_seq: int, max_blocks: int) -> list[StoredBlock]:
        """Committed blocks with ``first_seq`` > ``after_seq``, oldest first. Damaged ones are set aside, not given."""
        result: list[StoredBlock] = []
        while len(result) < max_blocks:
            wanted = max_blocks - len(result)
            with self._readers.snapshot() as connection:
                found = [
                    (table, *row)
                    for table, first in (("block", "first_seq"), ("hot", "seq"))
                    for row in connection.execute(
                        _BLOCKS.format(table=table, first=first), (after_seq, after_seq, wanted)
                    )
                ]
            found.sort(key=lambda row: row[1])
            for table, seq, first_seq, boot, rows, crc, data, mark in found[:wanted]:
                after_seq = seq
                if zlib.crc32(data) == crc:
                    result.append(StoredBlock(seq, first_seq, boot or "", rows, data, mark == boots.SET))
                else:
                    self._damaged(table, seq, "damaged: the checksum does not match")
            if len(found) < wanted:
                break
        return result

    def events(self, after_seq: int, max_events: int, kind_prefix: str = "") -> list[StoredEvent]:
        """Committed events after that one, of kinds that begin so, oldest first; damaged ones are set aside."""
        result: list[StoredEvent] = []
        while len(result) < max_events:
            wanted = max_events - len(result)
            with self._readers.snapshot() as connection:
                found, bad = ledger.select(connection, after_seq, wanted, kind_prefix)
            result += found
            for seq in bad:
                self._damaged("event", seq, "damaged: the data is no JSON object")
            if len(found) + len(bad) < wanted:
                break
            after_seq = max([*bad, *(stored.seq for stored in found)])
        return result

    def acked(self, stream: str) -> int:
        """The last acknowledged seq; 0 before the first. Raises ``ValueError`` when there is no such stream."""
        return self._acked[_known(stream)]

    def newest(self, stream: str) -> int:
        """The seq of the newest committed record; 0 before the first."""
        return self._writer.newest_seq if _known(stream) == TELEMETRY else self._newest_event()

    def ack(self, stream: str, upto_seq: int, *, at_once: bool = False) -> Future[None]:
        """Persist that all up to there is acknowledged, within ``StoreSettings.ack_s``: losing it only repeats."""
        _known(stream)

        def run(connection: sqlite3.Connection) -> tuple[None, Publish]:
            upto = _whole(connection, stream, upto_seq)
            connection.execute(
                f"""INSERT INTO cursor(stream, acked, sent) VALUES(?, ?, {_SENT})
                    ON CONFLICT(stream) DO UPDATE SET acked = max(acked, excluded.acked)""",
                (stream, upto, stream),
            )

            def publish() -> None:
                self._acked[stream] = max(self._acked[stream], upto)

            return None, publish

        return self._writer.submit(run, pace=Pace.NOW if at_once else Pace.LAZY)

    def hold(self, stream: str, upto_seq: int | None) -> Future[None]:
        """Say which records may have left the house; it is committed at once, for sending begins after it."""
        _known(stream)

        def run(connection: sqlite3.Connection) -> tuple[None, None]:
            connection.execute(
                f"""INSERT INTO cursor(stream, sent, sending) VALUES(?, max(?, {_SENT}), ?)
                    ON CONFLICT(stream) DO UPDATE SET sent = max(sent, excluded.sent), sending = excluded.sending""",
                (stream, upto_seq or 0, stream, upto_seq is None),
            )
            return None, None

        return self._writer.submit(run)


def end_sending(connection: sqlite3.Connection, stream: str, newest_seq: int) -> None:
    """At open: what the last process may have sent is all that there was. Inside the caller's transaction."""
    connection.execute(
        "UPDATE cursor SET sent = max(sent, ?), sending = 0 WHERE stream = ? AND sending", (newest_seq, stream)
    )


def first_number(now_us: int) -> int:
    """Where numbering begins in a new file: above every number that an earlier file of this site can have given.

    A replaced SD card or a file that was moved aside must not repeat numbers, for they are a key at the central server.
    So they begin at 1,024 for each second since ``NUMBERS_SINCE_S``, faster than any store gives them. A clock that
    was never set begins at 0.
    """
    return max(now_us // 1_000_000 - NUMBERS_SINCE_S, 0) * _NUMBERS_PER_S


def _whole(connection: sqlite3.Connection, stream: str, upto_seq: int) -> int:
    """A number in the middle of a sealed block acknowledges only what is before it: better twice than never."""
    if stream != TELEMETRY:
        return upto_seq
    behind = connection.execute(
        "SELECT first_seq FROM block WHERE seq > ? ORDER BY seq LIMIT 1", (upto_seq,)
    ).fetchone()
    return min(upto_seq, behind[0] - 1) if behind else upto_seq


def _known(stream: str) -> str:
    if stream not in STREAMS:
        raise ValueError(f"no stream {stream!r}, there are {' and '.join(STREAMS)}")
    return stream
