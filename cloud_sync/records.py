"""What the store gives -> records on their way: how each payload is made of blocks and events. No IO, no state."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from agent.core.model import Signal
from agent.core.ports import StoredBlock, StoredEvent
from cloud_sync.payload import MAX_JSON_ROWS, compress, encode_block, encode_event, encode_json
from cloud_sync.subscriber import PayloadError

#: The kind of event that reports a record that was set aside.
SET_ASIDE = "uplink.set_aside"

Messages: TypeAlias = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Record:
    """A record on its way: its numbers, what it is for a report, and its messages, encoded one at a time."""

    seq: int
    first_seq: int
    report: bool
    messages: Messages
    heavy: bool = False  #: encoding takes some ms, so it is done in a thread
    smaller: Messages | None = None  #: the same in smaller messages, for a broker that limits them


@dataclass(frozen=True, slots=True)
class Form:
    """How telemetry is written. ``payload`` is ``json``, ``json+zlib`` or ``blocks``."""

    payload: str
    catalog_version: int
    signals: Mapping[int, Signal]

    def records(self, blocks: Sequence[StoredBlock], base: int) -> list[Record]:
        """The records of some blocks; blocks of a second are encoded at once. Takes some ms: called in a thread.

        Each visit to a thread costs more than encoding such a block does.
        """
        if self.payload == "blocks":
            return [self._as_block(block, base) for block in blocks]
        return [_encoded(self._as_json(block, base), block.rows) for block in blocks]

    def _as_block(self, block: StoredBlock, base: int) -> Record:
        def messages() -> Iterator[bytes]:
            yield encode_block(block, self.catalog_version, base)

        return Record(block.seq, block.first_seq, report=True, messages=messages, smaller=self._json(block, base))

    def _as_json(self, block: StoredBlock, base: int) -> Record:
        return Record(block.seq, block.first_seq, report=True, messages=self._json(block, base), heavy=True)

    def _json(self, block: StoredBlock, base: int) -> Messages:
        def messages() -> Iterator[bytes]:
            texts = encode_json(block, self.catalog_version, self.signals, base)
            return map(compress, texts) if self.payload == "json+zlib" else texts

        return messages


def event_record(stored: StoredEvent, base: int) -> Record:
    """The record of an event."""

    def messages() -> Iterator[bytes]:
        yield encode_event(stored, base)

    # The report of a refused report would be refused as well, and so on for ever.
    return Record(stored.seq, stored.seq, report=stored.event.kind != SET_ASIDE, messages=messages)


def _encoded(record: Record, rows: int) -> Record:
    """A record that makes one small message with this message made; any other one as it is."""
    if rows > MAX_JSON_ROWS:
        return record
    try:
        messages = list(record.messages())
    except PayloadError:
        return record  # it says so again when its turn has come
    return replace(record, messages=partial(iter, messages), heavy=False)
