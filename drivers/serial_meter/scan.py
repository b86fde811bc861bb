"""Finding the meter on a serial port: listening first, then asking. A meter is never changed.

Rules of this file:

1. Who speaks by itself is heard before anything is sent. A slower sender is heard at a faster speed too, as garbage:
   where nothing at all comes within the longest period of a meter, nobody pushes, and no other speed is tried.
2. Listening may begin in the middle of a telegram: a speed is given up after two bursts without a telegram, or when the
   time is over. DSMR 4 speaks each 10 s.
3. A telegram counts when its codec says so. Readouts without checksum are D0's or those of old P1 ports: what follows
   their ``!`` and the form of their codes tell which.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from agent.core.clock import Clock
from agent.core.errors import BadData, NoAnswer, Unsupported
from agent.core.model import Batch, Column, Event, SignalSpec
from drivers.codec.d0 import D0Codec
from drivers.codec.dsmr import DsmrCodec
from drivers.codec.sml import SmlCodec
from drivers.codec.telegram import Telegram
from drivers.line import Line
from drivers.serial_meter import settings as config
from drivers.serial_meter.asked import AskedWire
from drivers.serial_meter.d0 import D0Meter
from drivers.serial_meter.push import OpenLine
from drivers.waiting import within

#: Longer than any meter's period.
LISTEN_S = 11.0
#: Speeds of meters that push, the fastest first (see rule 1).
PUSH_LINES = (
    (115_200, "8N1"),
    (9600, "8N1"),
    (9600, "7E1"),
    (19_200, "8N1"),
    (38_400, "8N1"),
    (4800, "7E1"),
    (2400, "7E1"),
)
#: A pause this long ends a burst.
_PAUSE_S = 0.5
_BURSTS = 2
#: P1 telegrams have a checksum behind ``!``, or no value group F in their codes; D0 readouts that look alike have none
#: there, and send group F.
_CRC = re.compile(rb"![0-9A-Fa-f]")
_D0_GROUP = "*"
_HIGH_BIT = 0x80
#: Of characters with parity, half have the eighth bit; noise is less.
_PARITY_SHARE = 0.1
_EXAMPLES = 4
_ENCRYPTED = "it is encrypted: the grid operator gives its key, which goes into a file for `key_file:`"
_TELLING = ("power", "energy", "voltage", "volume", "heat", "flow")


#: Keys of a meter's configuration.
Settings: TypeAlias = dict[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class FoundMeter:
    """A meter that was heard. ``settings`` are the keys of its configuration beside protocol and port."""

    port: str
    protocol: config.Protocol
    settings: tuple[tuple[str, str | int | bool], ...] = ()
    meter: str | None = None  #: its own number
    identity: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[str, str], ...] = ()  #: some of its values, with their units
    notes: tuple[str, ...] = ()


class Watcher(Protocol):
    """Who wants to know how it goes."""

    def step(self, stage: str, detail: str, left_s: float) -> None:
        """What is tried now, where in it, and about how long the rest of it takes."""

    def say(self, text: str) -> None:
        """A finding that stays."""


@dataclass(frozen=True, slots=True)
class PortSearch:
    """One port that is searched. ``found`` is called with each meter as it is found."""

    port: str
    clock: Clock
    watch: Watcher
    found: Callable[[FoundMeter], None]
    opener: OpenLine


def telegram_found(port: str, protocol: config.Protocol, telegram: Telegram, settings: Settings) -> FoundMeter:
    """A meter as its telegram describes it."""
    return FoundMeter(
        port,
        protocol,
        tuple(settings.items()),
        telegram.meter,
        telegram.identity,
        tuple(_examples(telegram)),
    )


def _examples(telegram: Telegram) -> list[tuple[str, str]]:
    """Some values that a person can hold against the meter's display."""
    readings = [one for one in telegram.readings if one.point is not None and not isinstance(one.value, str)]
    readings.sort(
        key=lambda one: next((i for i, word in enumerate(_TELLING) if word in (one.point or "")), len(_TELLING))
    )
    return [(one.point or "", f"{one.value} {one.unit or ''}".strip()) for one in readings[:_EXAMPLES]]


# --- meters that speak by themselves ---


@dataclass(slots=True)
class Ear:
    """Recognises what a meter pushes. Pure: bytes in, a protocol and its telegram out (None: it is encrypted)."""

    _sml: SmlCodec = field(default_factory=SmlCodec)
    _dsmr: DsmrCodec = field(default_factory=DsmrCodec)
    _dsmr_7_bits: DsmrCodec = field(default_factory=DsmrCodec)  #: without the eighth bit, which may be parity
    _d0: D0Codec = field(default_factory=D0Codec)
    _last: bytes = b""
    _waiting: Telegram | None = None  #: a readout of which it is not known yet what follows its ``!``
    _has_crc: bool = False  #: checksums behind ``!`` were seen: this is a P1 port, also when they are wrong
    _heard: int = 0
    _high: int = 0

    def feed(self, data: bytes) -> tuple[config.Protocol, Telegram | None] | None:
        """What is sure now; None while nothing is."""
        self._heard += len(data)
        self._high += sum(byte >= _HIGH_BIT for byte in data)
        for telegram in _telegrams(self._sml.feed(data)):
            return "sml", telegram
        plain = bytes(byte & ~_HIGH_BIT for byte in data)
        for one in (*self._dsmr.feed(data), *self._dsmr_7_bits.feed(plain)):
            if isinstance(one, Telegram):
                if not any(_D0_GROUP in reading.code for reading in one.readings):
                    return "dsmr", one
            elif one.reason == "encrypted":
                return "dsmr", None
        for telegram in _telegrams(self._d0.feed(data)):
            self._waiting = telegram
        plain = self._last + plain
        self._last = plain[-1:]
        self._has_crc = self._has_crc or _CRC.search(plain) is not None
        if self._waiting is None or self._has_crc or self._last == b"!":
            return None
        return "d0", self._waiting

    @property
    def has_parity(self) -> bool:
        """Whether characters of seven bits with parity were read as eight bits."""
        return self._high > _PARITY_SHARE * self._heard


def _telegrams(found: Sequence[object]) -> list[Telegram]:
    return [one for one in found if isinstance(one, Telegram)]


async def listen(search: PortSearch, seconds: float = LISTEN_S) -> FoundMeter | None:
    """The meter that speaks by itself on this port, if there is one. Raises ``Unavailable``."""
    heard = 0
    for number, (baud, framing) in enumerate(PUSH_LINES):
        left_s = (len(PUSH_LINES) - number if heard else 1) * seconds
        search.watch.step(f"{search.port} {baud} {framing}: listening", "", left_s)
        try:
            line = await search.opener(search.port, baud, framing)
        except Unsupported:
            continue
        try:
            found, count = await _hear(search, line, baud, framing, seconds)
        finally:
            line.close()
        if found is not None:
            return found
        heard += count
        if not heard or line.fixed:
            break
    if heard:
        search.watch.say(
            f"{search.port}: something speaks by itself here, in no protocol that is known ({heard} bytes)"
        )
    return None


async def _hear(
    search: PortSearch, line: Line, baud: int, framing: str, seconds: float
) -> tuple[FoundMeter | None, int]:
    """What is heard at one speed: the meter, and how many bytes came."""
    ear, heard, bursts, speaking = Ear(), 0, 0, False
    give_up_s = search.clock.monotonic_s() + seconds
    while bursts < _BURSTS and (left_s := give_up_s - search.clock.monotonic_s()) > 0:
        data = await within(search.clock, min(left_s, _PAUSE_S) if speaking else left_s, line.read())
        if data is None:
            bursts += speaking
            speaking = False
            continue
        speaking = True
        heard += len(data)
        recognised = ear.feed(data)
        if recognised is not None:
            protocol, telegram = recognised
            if framing == "8N1" and protocol != "sml" and telegram is not None and ear.has_parity:
                framing = "7E1"
            settings = {} if line.fixed else _line_settings(protocol, baud, framing)
            if telegram is None:
                return FoundMeter(search.port, protocol, tuple(settings.items()), notes=(_ENCRYPTED,)), heard
            return telegram_found(search.port, protocol, telegram, settings), heard
    return None, heard


def _line_settings(protocol: config.Protocol, baud: int, framing: str) -> Settings:
    """The keys for a line that is not the protocol's usual one."""
    usual_baud, usual_framing = config.MeterSettings("scan", protocol, "/").line
    settings: Settings = {}
    if baud != usual_baud:
        settings["baud"] = baud
    if framing != usual_framing:
        settings["framing"] = framing
    return settings


# --- meters that are asked ---


async def ask_d0(search: PortSearch) -> FoundMeter | None:
    """The meter that answers a request of IEC 62056-21 with a readout, if there is one. Raises ``Unavailable``."""
    settings = config.MeterSettings("scan", "d0", search.port, request=True)
    search.watch.step(f"{search.port} {settings.line[0]} {settings.line[1]}: asking for a D0 readout", "", 2)
    wire = AskedWire(search.port, settings.line, search.clock, search.opener)
    try:
        await wire.open()
        (telegram,) = await D0Meter(settings, wire).readout(_Nowhere())
    except NoAnswer:
        return None
    except (BadData, Unsupported) as error:
        search.watch.say(f"{search.port}: asked for a D0 readout: {error.reason}")
        return None
    finally:
        await wire.close()
    return telegram_found(search.port, "d0", telegram, {"request": True})


class _Nowhere:
    """A ``Sink`` for what nobody wants to keep."""

    def put(self, batch: Batch) -> None:
        """See ``Sink``."""

    def touch(self, ids: Column) -> None:
        """See ``Sink``."""

    def event(self, event: Event) -> None:
        """See ``Sink``."""

    def count(self, name: str, amount: int = 1) -> None:
        """See ``Sink``."""

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        """See ``Sink``."""
        return range(len(specs))
