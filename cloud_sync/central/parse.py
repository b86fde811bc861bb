"""One MQTT message -> what it says: telemetry, an event, the catalogue, the state, or why nobody can read it. Pure."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agent.core.model import Signal
from cloud_sync.central.rows import MAX_US
from cloud_sync.subscriber import (
    ENVELOPE,
    MAGIC,
    SCHEMA,
    Catalog,
    EventMessage,
    PayloadError,
    State,
    Telemetry,
    decode_event,
    decode_state,
    decode_telemetry,
)

TELEMETRY = "telemetry"
EVENT = "event"
#: What is received, by the last level of its topic. Records are shared out among workers, the others all of them get.
RECORDS = (TELEMETRY, EVENT)
RETAINED = ("state", "catalog")

MAX_SEQ = (1 << 63) - 1
_BOOT_DIGITS = 32
_MAX_ID = 1 << 31
#: What a name in the database may take; MQTT allows more, and nobody reads it.
_MAX_SITE = 200


@dataclass(frozen=True, slots=True)
class Numbers:
    """Which record a message is."""

    stream: str
    first_seq: int
    seq: int
    boot: str
    base: int
    clock_set: bool


@dataclass(frozen=True, slots=True)
class TelemetryIn:
    """Samples of a site."""

    site: str
    numbers: Numbers
    message: Telemetry
    payload: bytes


@dataclass(frozen=True, slots=True)
class EventIn:
    """One event of a site; ``data`` is what PostgreSQL's JSONB takes."""

    site: str
    numbers: Numbers
    message: EventMessage
    data: str


@dataclass(frozen=True, slots=True)
class CatalogIn:
    """The catalogue of a site."""

    site: str
    catalog: Catalog
    payload: bytes


@dataclass(frozen=True, slots=True)
class StateIn:
    """The state of a site."""

    site: str
    state: State


@dataclass(frozen=True, slots=True)
class Bad:
    """A message that is refused. ``numbers``: it is that record nonetheless, which need not come again."""

    site: str
    topic: str
    reason: str
    payload: bytes
    numbers: Numbers | None = None


Parsed: TypeAlias = TelemetryIn | EventIn | CatalogIn | StateIn | Bad


def parse(topic: str, payload: bytes) -> Parsed | None:
    """What a message says; None for an empty one, which takes a retained message back. Never raises."""
    site, _, name = topic.rpartition("/")
    site = site.rpartition("/")[2]
    if not payload and name in RETAINED:
        return None
    if not 0 < len(site) <= _MAX_SITE or "\0" in site:
        return Bad("", topic, f"the site's name has {len(site)} characters: 1 to {_MAX_SITE} are taken", payload)
    try:
        return _parsed(site, name, payload)
    except PayloadError as error:
        numbers = _block_numbers(payload) if name == TELEMETRY else None
        return Bad(site, topic, str(error), payload, numbers)


def _parsed(site: str, name: str, payload: bytes) -> Parsed:
    if name == TELEMETRY:
        message = decode_telemetry(payload)
        signals = [column.signal for column in message.columns]
        if signals and not 0 < min(signals) <= max(signals) < _MAX_ID:
            raise PayloadError("a signal's number is none")
        checked = _checked(TELEMETRY, message.first_seq, message)
        return TelemetryIn(site, checked, message, payload)
    if name == EVENT:
        event = decode_event(payload)
        if not 0 <= event.t_us < MAX_US:
            raise PayloadError("its time is outside of the years 1970 to 9999")
        return EventIn(site, _checked(EVENT, event.seq, event), event, _json_text(event.data))
    if name == "catalog":
        catalog = Catalog.from_payload(payload)
        _check_catalog(catalog)
        return CatalogIn(site, catalog, payload)
    state = decode_state(payload)
    if state.since_us is not None and not 0 <= state.since_us < MAX_US:
        raise PayloadError("its time is outside of the years 1970 to 9999")
    return StateIn(site, state)


def _checked(stream: str, first_seq: int, message: Telemetry | EventMessage) -> Numbers:
    if not 0 < first_seq <= message.seq <= MAX_SEQ:
        raise PayloadError(f"numbers {first_seq} to {message.seq} are none")
    if len(message.boot) != _BOOT_DIGITS or not message.boot.isalnum() or not message.boot.isascii():
        raise PayloadError("its boot is not 32 hexadecimal digits")
    # All up to base is confirmed: that can't be said of the message itself.
    base = min(max(message.base, 0), first_seq - 1)
    return Numbers(stream, first_seq, message.seq, message.boot, base, message.clock_set)


def _block_numbers(payload: bytes) -> Numbers | None:
    """Which record a message of blocks is whose block is damaged: its envelope may say so."""
    if payload[: len(MAGIC)] != MAGIC or len(payload) < ENVELOPE.size:
        return None
    _, version, _, seq, first_seq, boot, _, _ = ENVELOPE.unpack_from(payload)
    if version != SCHEMA or not 0 < first_seq <= seq <= MAX_SEQ:
        return None
    return Numbers(TELEMETRY, first_seq, seq, bytes(boot).hex(), 0, clock_set=True)


def _check_catalog(catalog: Catalog) -> None:
    if not 0 <= catalog.version <= MAX_SEQ:
        raise PayloadError("its version is none")
    for signal in catalog.signals.values():
        if not 0 < signal.id < _MAX_ID:
            raise PayloadError(f"a signal has the number {signal.id}")
        try:
            finite = math.isfinite(float(signal.scale)) and math.isfinite(float(signal.offset))
        except OverflowError:
            finite = False
        if not finite:
            raise PayloadError(f"signal {signal.id} has a scale or offset that is none")


def clean(text: str) -> str:
    """Text that PostgreSQL takes: the character NUL, and halves of surrogate pairs, as signs that can be seen."""
    return text.replace("\0", "␀").encode(errors="replace").decode()


def labels_text(signal: Signal) -> str:
    """A signal's labels as JSON."""
    return _json_text({str(word): text for word, text in signal.labels.items()})


def _json_text(data: Mapping[str, object]) -> str:
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"its data is no JSON: {error}") from error
    if "\\u0000" in text or not _encodable(text):
        text = json.dumps(_cleaned(data), ensure_ascii=False)
    return text


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _cleaned(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_cleaned(one) for one in value]
    return value
