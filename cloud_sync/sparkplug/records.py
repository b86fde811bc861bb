"""Stored blocks as records of a Sparkplug edge node on their way. No IO, no state."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from agent.core.model import Signal
from agent.core.ports import StoredBlock
from cloud_sync.lanes import Stream
from cloud_sync.records import Record
from cloud_sync.sparkplug.rows import HISTORICAL, Rows

#: About 20 kB: live data waits for the message that is on the wire.
METRICS_PER_MESSAGE = 800
#: For brokers that take small messages only.
FEW_METRICS = 50


class Data(bytes):
    """Encoded metrics of one device on their way, and what is to be known of them."""

    device: str
    ids: frozenset[int]  #: of all signals that the record has of this device
    live: bool  #: False: the record is of the backlog
    ends: tuple[int, int] | None = None  #: first and last number of the record, with its last message


def records(
    blocks: Sequence[StoredBlock], signals: Mapping[int, Signal], stream: Stream, live_after_us: int
) -> list[Record]:
    """Blocks as records; those of the backlog are historical as a whole, others up to the newest birth."""
    found = []
    for block in blocks:
        historical = block.seq <= (stream.backlog.end or 0)
        after_us = HISTORICAL if historical else live_after_us
        messages, smaller = (
            partial(_messages, block, signals, after_us, size) for size in (METRICS_PER_MESSAGE, FEW_METRICS)
        )
        found.append(Record(block.seq, block.first_seq, report=True, messages=messages, heavy=True, smaller=smaller))
    return found


def _messages(block: StoredBlock, signals: Mapping[int, Signal], live_after_us: int, size: int) -> Iterator[bytes]:
    rows = Rows(block, signals)
    ready: Data | None = None
    for device, metrics in rows.messages(live_after_us, size):
        if ready is not None:
            yield ready
        ready = Data(metrics)
        ready.device, ready.ids, ready.live = device, rows.ids(device), live_after_us < HISTORICAL
    if ready is not None:
        ready.ends = block.first_seq, block.seq
        yield ready
