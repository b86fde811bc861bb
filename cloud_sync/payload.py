"""What the gateway publishes: pure encoders. The rules of the payloads and the read side stand in ``subscriber.py``."""

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping

from agent.core.blocks import BlockColumn, BlockError, decode
from agent.core.model import Number, Signal
from agent.core.ports import Latest, StoredBlock, StoredEvent
from cloud_sync.subscriber import (
    CLOCK_UNSET,
    ENVELOPE,
    ENVELOPE_BASE,
    HAS_BASE,
    MAGIC,
    SCHEMA,
    PayloadError,
    physical,
)

#: Rows in one JSON message, about 10 B each. A block of minutes leaves as several messages, which share out its
#: sequence numbers: brokers refuse very large messages, encoding one holds the interpreter, and on a slow link live
#: data waits for the message that is on the wire: a second at 20 kB/s.
MAX_JSON_ROWS = 2000
#: Of zlib: more than this makes it smaller by a few percent only, and takes twice the time.
_ZLIB_LEVEL = 6

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


def encode_status(values: Iterable[Latest], *, t_us: int, catalog_version: int, boot: str) -> bytes:
    """The retained ``status`` message: the newest value of each signal that was ever read."""
    known = {
        str(latest.signal.id): [_finite(latest.value), latest.t_us] for latest in values if latest.t_us is not None
    }
    return _json({"schema": SCHEMA, "t": t_us, "boot": _boot(boot), "catalog": catalog_version, "values": known})


def encode_event(record: StoredEvent, base: int = 0) -> bytes:
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
    document |= _optional(base, clock_set=record.clock_set)
    try:
        return _json(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"event {record.seq} ({event.kind}) is no JSON: {error}") from error


def encode_block(block: StoredBlock, catalog_version: int, base: int = 0) -> bytes:
    """The compact telemetry message: the stored block, unchanged, behind an envelope. Raises ``PayloadError``."""
    return _envelope(block, catalog_version, base) + block.data


def encode_json(
    block: StoredBlock, catalog_version: int, signals: Mapping[int, Signal], base: int = 0
) -> Iterator[bytes]:
    """The telemetry messages of a block as JSON, usually one; the same ones each time, as their numbers are keys.

    Raises ``PayloadError`` when the block is damaged or names a signal that ``signals`` does not have.
    """
    try:
        columns = decode(block.data)
    except BlockError as error:
        raise PayloadError(f"block {block.seq}: {error}") from error
    known = {id(column): _few_texts(signals[column.signal], column) for column in columns if column.signal in signals}
    numbers = block.seq - block.first_seq + 1
    parts = max(1, min(-(-block.rows // MAX_JSON_ROWS), numbers))
    for part in range(parts):
        first_seq, behind = (block.first_seq + edge * numbers // parts for edge in (part, part + 1))
        groups = _groups(columns, signals, known, (part, parts))
        yield _telemetry(block, (first_seq, behind - 1), catalog_version, groups, base)


def compress(message: bytes) -> bytes:
    """A JSON message for ``payload: json+zlib`` (RFC 1950)."""
    return zlib.compress(message, _ZLIB_LEVEL)


def _envelope(block: StoredBlock, catalog_version: int, base: int) -> bytes:
    boot = bytes.fromhex(_boot(block.boot))
    flags = (HAS_BASE if base else 0) | (0 if block.clock_set else CLOCK_UNSET)
    envelope = ENVELOPE.pack(MAGIC, SCHEMA, flags, block.seq, block.first_seq, boot, catalog_version, 0)
    return envelope + ENVELOPE_BASE.pack(base) if base else envelope


def _optional(base: int, *, clock_set: bool) -> dict[str, object]:
    """The keys of telemetry and events that are there only when they say something."""
    return ({"base": base} if base else {}) | ({} if clock_set else {"clock": "unset"})


def _boot(boot: str) -> str:
    if not boot:
        return _UNKNOWN_BOOT
    if len(boot) != len(_UNKNOWN_BOOT) or not set(boot) <= _HEX:
        raise PayloadError(f"boot {boot!r} is not 32 hexadecimal digits")
    return boot


def _telemetry(
    block: StoredBlock, seqs: tuple[int, int], catalog_version: int, groups: list["_Group"], base: int
) -> bytes:
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
    } | _optional(base, clock_set=block.clock_set)
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


def _groups(
    columns: list[BlockColumn],
    signals: Mapping[int, Signal],
    known: Mapping[int, list[str] | None],
    share: tuple[int, int],
) -> list[_Group]:
    """The share of one message, which one of how many: an equal share of each column's rows."""
    part, parts = share
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
        group.values.append(f'"{column.signal}":[{",".join(_texts(signal, column, (start, end), known[id(column)]))}]')
    return list(groups.values())


def _few_texts(signal: Signal, column: BlockColumn) -> list[str] | None:
    """The values of a whole column as JSON, where few are different: signals repeat themselves."""
    different = set(column.words)
    if len(different) > MAX_JSON_ROWS:
        return None
    texts = list(map(_each_text(signal, different).__getitem__, column.words))
    for position in column.invalid:
        if 0 <= position < len(texts):
            texts[position] = "null"
    return texts


def _each_text(signal: Signal, different: set[int]) -> Mapping[int, str]:
    words = list(different)
    return {word: _number(value) for word, value in zip(words, physical(signal, words), strict=True)}


def _texts(signal: Signal, column: BlockColumn, rows: tuple[int, int], known: list[str] | None) -> list[str]:
    """The values of some rows as JSON; each different word is written once only."""
    start, end = rows
    if known is not None:
        return known[start:end]
    words = column.words[start:end]
    texts = list(map(_each_text(signal, set(words)).__getitem__, words))
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


def _finite(value: Number | None) -> Number | None:
    """A value as ``json`` can say it; the infinities are not known values of a status."""
    return None if value is None or value in _INFINITIES or value != value else value  # noqa: PLR0124 - NaN


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
