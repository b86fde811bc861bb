"""What the gateway publishes: pure encoders. The rules of the payloads and the read side stand in ``subscriber.py``."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping

from agent.core.blocks import BlockColumn, BlockError, decode
from agent.core.model import Number, Signal
from agent.core.ports import StoredBlock, StoredEvent
from cloud_sync.subscriber import ENVELOPE, MAGIC, SCHEMA, PayloadError, physical

#: Rows in one JSON message, about 10 B each. A block of minutes leaves as several messages, which share out its
#: sequence numbers: brokers refuse very large messages, and encoding one holds the interpreter.
MAX_JSON_ROWS = 5000

#: What stands for a boot that the store no longer knows.
_UNKNOWN_BOOT = "0" * 32
_HEX = frozenset("0123456789abcdef")

_COMPACT = (",", ":")
_INFINITIES = (math.inf, -math.inf)


def encode_state(*, online: bool, since_us: int | None, version: str, boot: str) -> bytes:
    """The retained ``state`` message; the will has no ``since_us``."""
    return _json({"schema": SCHEMA, "online": online, "since": since_us, "version": version, "boot": boot})


def encode_catalog(version: int, signals: Iterable[Signal]) -> bytes:
    """The retained ``catalog`` message: every signal that ever was."""
    return _json({"schema": SCHEMA, "version": version, "signals": [_entry(signal) for signal in signals]})


def encode_event(record: StoredEvent) -> bytes:
    """A message of the ``event`` stream. Raises ``PayloadError`` when its data is nothing that JSON can say."""
    event = record.event
    document = {
        "schema": SCHEMA,
        "seq": record.seq,
        "boot": _boot(record.boot),
        "kind": event.kind,
        "t": event.t_us,
        "subject": event.subject,
        "data": dict(event.data),
    }
    if record.hash:
        document["hash"] = record.hash
    try:
        return _json(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"event {record.seq} ({event.kind}) is no JSON: {error}") from error


def encode_block(block: StoredBlock, catalog_version: int) -> bytes:
    """The compact telemetry message: the stored block, unchanged, behind an envelope. Raises ``PayloadError``."""
    return _envelope(block, catalog_version) + block.data


def encode_json(block: StoredBlock, catalog_version: int, signals: Mapping[int, Signal]) -> Iterator[bytes]:
    """The telemetry messages of a block as JSON, usually one; the same ones each time, as their numbers are keys.

    Raises ``PayloadError`` when the block is damaged or names a signal that ``signals`` does not have.
    """
    try:
        columns = decode(block.data)
    except BlockError as error:
        raise PayloadError(f"block {block.seq}: {error}") from error
    numbers = block.seq - block.first_seq + 1
    parts = max(1, min(-(-block.rows // MAX_JSON_ROWS), numbers))
    for part in range(parts):
        first_seq, behind = (block.first_seq + edge * numbers // parts for edge in (part, part + 1))
        groups = _groups(columns, signals, part, parts)
        yield _telemetry(block, (first_seq, behind - 1), catalog_version, groups)


def _envelope(block: StoredBlock, catalog_version: int) -> bytes:
    boot = bytes.fromhex(_boot(block.boot))
    return ENVELOPE.pack(MAGIC, SCHEMA, 0, block.seq, block.first_seq, boot, catalog_version, 0)


def _boot(boot: str) -> str:
    if not boot:
        return _UNKNOWN_BOOT
    if len(boot) != len(_UNKNOWN_BOOT) or not set(boot) <= _HEX:
        raise PayloadError(f"boot {boot!r} is not 32 hexadecimal digits")
    return boot


def _telemetry(block: StoredBlock, seqs: tuple[int, int], catalog_version: int, groups: list["_Group"]) -> bytes:
    """One message. The text is put together here and not by ``json``, which would write each number anew."""
    t0 = min((min(group.times_us) for group in groups), default=0)
    head = {
        "schema": SCHEMA,
        "seq": seqs[1],
        "first_seq": seqs[0],
        "boot": _boot(block.boot),
        "catalog": catalog_version,
        "t0": t0,
        "n": sum(len(group.times_us) * len(group.values) for group in groups),
    }
    parts = []
    for group in groups:
        times = ",".join([str(t_us - t0) for t_us in group.times_us])
        parts.append(f'{{"t":[{times}],"v":{{{",".join(group.values)}}}}}')
    return f'{json.dumps(head, separators=_COMPACT)[:-1]},"groups":[{",".join(parts)}]}}'.encode()


class _Group:
    """Columns that were read together: the times that they share, and each one's values as a member of an object."""

    def __init__(self, times_us: list[int]) -> None:
        self.times_us = times_us
        self.values: list[str] = []


def _groups(columns: list[BlockColumn], signals: Mapping[int, Signal], part: int, parts: int) -> list[_Group]:
    """The share of one message: an equal share of each column's rows."""
    groups: dict[int, _Group] = {}
    for column in columns:
        signal = signals.get(column.signal)
        if signal is None:
            raise PayloadError(f"signal {column.signal} is not in the catalogue")
        start, end = (len(column.words) * edge // parts for edge in (part, part + 1))
        if start == end:
            continue
        group = groups.get(id(column.times_us))
        if group is None:
            group = groups[id(column.times_us)] = _Group(column.times_us[start:end].tolist())
        group.values.append(f'"{column.signal}":[{",".join(_texts(signal, column, start, end))}]')
    return list(groups.values())


def _texts(signal: Signal, column: BlockColumn, start: int, end: int) -> list[str]:
    """The values of some rows as JSON. Signals repeat themselves: each different word is written once only."""
    words = column.words[start:end]
    different = list(set(words))
    known = {word: _number(value) for word, value in zip(different, physical(signal, different), strict=True)}
    texts = [known[word] for word in words]
    for position in column.invalid:
        if start <= position < end:
            texts[position - start] = "null"
    return texts


def _number(value: Number | None) -> str:
    if value is None:
        return "null"
    if value in _INFINITIES:
        return "1e999" if value > 0 else "-1e999"
    return repr(value)


def _entry(signal: Signal) -> dict[str, object]:
    return {
        "id": signal.id,
        "device": signal.device,
        "point": signal.name,
        "unit": signal.unit,
        "kind": signal.kind.value,
        "encoding": signal.encoding.name.lower(),
        "scale": signal.scale,
        "offset": signal.offset,
        "labels": {str(word): text for word, text in signal.labels.items()},
        "source": signal.source,
    }


def _json(document: Mapping[str, object]) -> bytes:
    # A lone surrogate, which no UTF-8 can hold, leaves as the escape \udcXX, which JSON knows.
    text = json.dumps(document, separators=_COMPACT, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace")
