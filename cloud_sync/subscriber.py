"""What a subscriber needs: pure decoders of everything that the gateway publishes, without the rest of the program.

Standard library and ``agent.core`` only. The write side is ``cloud_sync/payload.py``, the JSON Schemas stand in
``cloud_sync/schemas``. Rules of the payloads, schema version 1:

1. ``telemetry`` is JSON (first byte ``{``) or, with ``payload: blocks``, an envelope of 41 bytes, little-endian, and
   then one stored block (``agent/core/blocks.py``) unchanged::

       magic b"ET" | version u8 = 1 | flags u8 | seq u64 | first_seq u64 | boot 16 bytes | catalog u32 | reserved u8

   Flag 1: ``base`` u64 follows the envelope; flag 2: the clock was not set (rule 8). With ``payload: json+zlib`` the
   JSON is compressed (RFC 1950; first byte 0x78). Other flags: a newer schema.

2. A message covers the sequence numbers ``first_seq`` to ``seq``. The same numbers always carry the same rows: who
   keeps (site, stream, seq) as a key has every record exactly once, whatever was repeated. After an outage live data
   is sent beside the backlog, so numbers come in any order: what is missing below ``base`` (rule 6) is gone, dropped or
   set aside, and what is missing above it will come.
3. JSON telemetry: ``{"schema": 1, "seq", "first_seq", "boot", "catalog", "t0", "n", "groups": [{"t": [µs since t0],
   "v": {"<signal id>": [physical values]}}]}``. The signals of a group were read together and share ``t``. ``n`` counts
   the values. ``null`` says that the signal became unknown then. Whole numbers are exact to 64 bits; the rare infinity
   is written as 1e999, which every JSON reader takes as infinity.
4. Blocks carry 64-bit words: their physical values need the catalogue, whose version must be at least ``catalog``.
5. All times are µs since 1970 UTC. Within a signal the rows stand in the order of arrival.
6. ``base`` of telemetry and events: all numbers of the stream up to there are confirmed, or gone for good (dropped,
   set aside, never given). What is missing above it will still come; what is missing below it never does.
7. ``status``, retained, says at the start of each connection what every signal was then, before any backlog:
   ``"values": {"<signal id>": [physical value or null, µs UTC of its reading]}``.
8. ``"clock": "unset"``: taken before the gateway's clock was set, so its times may be wrong; an event
   ``clock.corrected`` ``{"boot", "offset_us", "from_us", "to_us"}`` says that ``offset_us`` is to be added, once, to
   the times from ``from_us`` to ``to_us`` of that boot's records that say so, whenever they come.
"""

import json
import math
import struct
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TypeVar

from agent.core.blocks import BlockColumn, BlockError, decode
from agent.core.model import Encoding, Kind, Number, Signal, SignalSpec

SCHEMA = 1
MAGIC = b"ET"
ENVELOPE = struct.Struct("<2sBBQQ16sIB")
ENVELOPE_BASE = struct.Struct("<Q")
HAS_BASE = 1
CLOCK_UNSET = 2
ZLIB = b"\x78"
#: A JSON message is some 50 kB; one that unpacks to more than this is an attack.
MAX_UNPACKED_BYTES = 64 << 20

_UINT_SPAN = 1 << 64
_Kind = TypeVar("_Kind")


class PayloadError(ValueError):
    """The bytes are no payload that this code reads: damaged, hostile, or of a newer schema."""


@dataclass(slots=True)  # not frozen: a message has hundreds, and that would triple their cost
class Column:
    """The values of one signal in a message. None says that the signal became unknown at that time.

    In a message of ``blocks`` the values are 64-bit words, which need the catalogue to become physical, and
    ``invalid`` holds the positions of the unknown ones.
    """

    signal: int
    times_us: Sequence[int]
    values: Sequence[Number | None] = ()
    words: Sequence[int] | None = None
    invalid: Sequence[int] = ()

    def physical(self, signal: SignalSpec) -> Sequence[Number | None]:
        """The physical values."""
        if self.words is None:
            return self.values
        values = physical(signal, self.words)
        for position in self.invalid:
            values[position] = None
        return values


@dataclass(frozen=True, slots=True)
class Row:
    """One value with its name and meaning."""

    signal: Signal
    t_us: int
    value: Number | None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every signal that the site ever had, by id."""

    version: int
    signals: Mapping[int, Signal]

    @classmethod
    def from_payload(cls, payload: bytes) -> "Catalog":
        """Read the retained ``catalog`` message. Raises ``PayloadError``."""
        document = read_json(payload, "catalog")
        entries = _take(document, "signals", list)
        signals = [_signal(entry) for entry in entries]
        return cls(_take(document, "version", int), {signal.id: signal for signal in signals})


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One telemetry message: its numbers, the boot that took its samples, the catalogue that names them."""

    seq: int
    first_seq: int
    boot: str
    catalog: int
    columns: Sequence[Column]
    base: int = 0  #: rule 6; 0: nothing is confirmed yet
    clock_set: bool = True

    def rows(self, catalog: Catalog) -> Iterator[Row]:
        """Each value as physical number with its signal, signal by signal in order of arrival.

        Raises ``PayloadError`` when the catalogue is older than the message needs.
        """
        for column in self.columns:
            signal = catalog.signals.get(column.signal)
            if signal is None:
                raise PayloadError(
                    f"signal {column.signal} is not in catalogue version {catalog.version}:"
                    f" the message needs version {self.catalog}"
                )
            yield from map(Row, repeat(signal), column.times_us, column.physical(signal))


@dataclass(frozen=True, slots=True)
class EventMessage:
    """One message of the ``event`` stream."""

    seq: int
    boot: str
    kind: str
    t_us: int
    subject: str
    data: Mapping[str, object]
    hash: str = ""  #: of the chain over the site's ledger; keep it, and nobody can change the ledger unseen later on
    base: int = 0  #: rule 6; 0: nothing is confirmed yet
    clock_set: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """The retained ``state`` message. ``since_us`` is None in the will: the broker sends it, and knows no time."""

    online: bool
    since_us: int | None
    version: str
    boot: str


@dataclass(frozen=True, slots=True)
class Status:
    """The retained ``status`` message: by signal id the value (None: not known) and when it was read, µs UTC."""

    t_us: int
    boot: str
    catalog: int
    values: Mapping[int, tuple[Number | None, int]]


def decode_status(payload: bytes) -> Status:
    """The retained ``status`` message. Raises ``PayloadError``."""
    document = read_json(payload, "status")
    values: dict[int, tuple[Number | None, int]] = {}
    for signal, pair in _take(document, "values", dict).items():
        if not isinstance(pair, list) or len(pair) != 2:  # noqa: PLR2004 - value and time
            raise PayloadError("status: no pair of value and time")
        column = _json_column(signal, pair[1:], pair[:1])
        if type(pair[1]) is not int:
            raise PayloadError("status: a time is no whole number")
        values[column.signal] = column.values[0], pair[1]
    return Status(_take(document, "t", int), _take(document, "boot", str), _take(document, "catalog", int), values)


def decode_telemetry(payload: bytes) -> Telemetry:
    """A telemetry message, JSON, compressed JSON or blocks. Raises ``PayloadError`` on anything else."""
    if payload[:1] == b"{":
        return _telemetry_json(payload)
    if payload[:1] == ZLIB:
        return _telemetry_json(_unpacked(payload))
    if payload[: len(MAGIC)] != MAGIC:
        raise PayloadError(f"starts with {bytes(payload[:2])!r}: neither JSON nor a block envelope")
    if len(payload) < ENVELOPE.size:
        raise PayloadError(f"{len(payload)} bytes are too short for a block envelope")
    _, version, flags, seq, first_seq, boot, catalog, _ = ENVELOPE.unpack_from(payload)
    if version != SCHEMA or flags & ~(HAS_BASE | CLOCK_UNSET):
        raise PayloadError(f"schema version {version}, flags {flags:#x}: this code reads {SCHEMA} and flags to 0x3")
    start = ENVELOPE.size + (ENVELOPE_BASE.size if flags & HAS_BASE else 0)
    if len(payload) < start:
        raise PayloadError(f"{len(payload)} bytes are too short for a block envelope")
    base: int = ENVELOPE_BASE.unpack_from(payload, ENVELOPE.size)[0] if flags & HAS_BASE else 0
    block = payload[start:]
    try:
        columns = _words_columns(decode(block))
    except BlockError as error:
        raise PayloadError(str(error)) from error
    return Telemetry(seq, first_seq, bytes(boot).hex(), catalog, columns, base, clock_set=not flags & CLOCK_UNSET)


def decode_event(payload: bytes) -> EventMessage:
    """A message of the ``event`` stream. Raises ``PayloadError``."""
    document = read_json(payload, "event")
    return EventMessage(
        _take(document, "seq", int),
        _take(document, "boot", str),
        _take(document, "kind", str),
        _take(document, "t", int),
        _take(document, "subject", str),
        _take(document, "data", dict),
        _take(document, "hash", str) if "hash" in document else "",
        _base(document),
        clock_set=_clock_set(document),
    )


def decode_state(payload: bytes) -> State:
    """The retained ``state`` message. Raises ``PayloadError``."""
    document = read_json(payload, "state")
    since = document.get("since")
    if since is not None and type(since) is not int:
        raise PayloadError("state: since is no whole number")
    return State(_take(document, "online", bool), since, _take(document, "version", str), _take(document, "boot", str))


def physical(signal: SignalSpec, words: Sequence[int]) -> list[Number | None]:
    """The physical values of words, each as ``Signal.physical`` gives it; a NaN becomes None, for it says "unknown"."""
    scale, offset = signal.scale, signal.offset
    if signal.encoding is Encoding.FLOAT:
        floats = array("d", array("q", words).tobytes()).tolist()
        scaled = floats if scale == 1 and offset == 0 else [value * scale + offset for value in floats]
        return [None if math.isnan(value) else value for value in scaled]
    raw = [word + _UINT_SPAN if word < 0 else word for word in words] if signal.encoding is Encoding.UINT else words
    if scale == 1 and offset == 0:
        return list(raw)
    return [word * scale + offset for word in raw]


def read_json(payload: bytes, what: str) -> dict[str, object]:
    """A JSON object of our schema version. Raises ``PayloadError``, on hostile input too."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{what}: no JSON: {error}") from error
    if not isinstance(document, dict):
        raise PayloadError(f"{what}: no JSON object")
    if document.get("schema") != SCHEMA:
        raise PayloadError(f"{what}: schema version {document.get('schema')!r}, this code reads {SCHEMA}")
    return document


def _take(document: Mapping[str, object], key: str, kind: type[_Kind]) -> _Kind:
    value = document.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise PayloadError(f"{key} is missing or no {kind.__name__}")
    return value


def _words_columns(columns: Sequence[BlockColumn]) -> list[Column]:
    for column in columns:
        if column.invalid and not 0 <= min(column.invalid) <= max(column.invalid) < len(column.words):
            raise PayloadError("damaged: an invalid row that is not there")
    return [Column(column.signal, column.times_us, (), column.words, column.invalid) for column in columns]


def _telemetry_json(payload: bytes) -> Telemetry:
    document = read_json(payload, "telemetry")
    t0 = _take(document, "t0", int)
    columns: list[Column] = []
    for group in _take(document, "groups", list):
        if not isinstance(group, dict):
            raise PayloadError("a group is no object")
        offsets = _take(group, "t", list)
        if not all(type(offset) is int for offset in offsets):
            raise PayloadError("a time is no whole number")
        times = [t0 + offset for offset in offsets]
        for signal, values in _take(group, "v", dict).items():
            columns.append(_json_column(signal, times, values))
    return Telemetry(
        _take(document, "seq", int),
        _take(document, "first_seq", int),
        _take(document, "boot", str),
        _take(document, "catalog", int),
        columns,
        _base(document),
        clock_set=_clock_set(document),
    )


def _base(document: Mapping[str, object]) -> int:
    return _take(document, "base", int) if "base" in document else 0


def _clock_set(document: Mapping[str, object]) -> bool:
    clock = document.get("clock", "set")
    if clock not in {"set", "unset"}:
        raise PayloadError("clock is neither set nor unset")
    return clock == "set"


def _unpacked(payload: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        document = unpacker.decompress(payload, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise PayloadError(f"telemetry: can't be unpacked: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise PayloadError("telemetry: its compressed data is cut, has something behind it, or is far too long")
    return document


def _json_column(signal: str, times: list[int], values: object) -> Column:
    if not isinstance(values, list) or len(values) != len(times):
        raise PayloadError("values and times differ in number")
    if not all(value is None or type(value) is int or type(value) is float for value in values):
        raise PayloadError("a value is no number")
    if not (signal.isascii() and signal.isdecimal() and len(signal) <= len(str(_UINT_SPAN))):
        raise PayloadError("a signal id is no whole number")
    return Column(int(signal), times, values)


def _signal(entry: object) -> Signal:
    if not isinstance(entry, dict):
        raise PayloadError("a signal is no object")
    try:
        labels = {int(word): str(text) for word, text in _take(entry, "labels", dict).items()}
        return Signal(
            device=_take(entry, "device", str),
            name=_take(entry, "point", str),
            unit=_take(entry, "unit", str),
            kind=Kind(_take(entry, "kind", str)),
            encoding=Encoding[_take(entry, "encoding", str).upper()],
            scale=_number(entry, "scale"),
            offset=_number(entry, "offset"),
            labels=labels,
            source=_take(entry, "source", str),
            id=_take(entry, "id", int),
        )
    except (ValueError, KeyError) as error:
        raise PayloadError(f"a signal can't be read: {error}") from error


def _number(entry: Mapping[str, object], key: str) -> Number:
    value = entry.get(key)
    if type(value) is int or type(value) is float:
        return value
    raise PayloadError(f"{key} is missing or no number")
