"""What a meter sends becomes signals: learnt as it comes, for nobody knows before what a meter will turn out to send.

Rules of this file:

1. A value that means a point of ours has that point's name and unit; a number that means none is kept under its own
   code where that is wanted. Of several values of a telegram that mean the same, the first one counts.
2. All words are floats, computed exactly in decimals: 4788.631 kWh are 4788631 Wh, not 4788630.999....
3. One telegram is one batch: words that changed are put, those that did not are touched. After ``lost`` or ``forget``
   the next telegram gives all in full, for a touch would bring an old word back.
4. A signal that the telegrams no longer carry becomes unknown too, though the meter speaks: see ``expire``.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from agent.core.errors import StoreError
from agent.core.model import Batch, Encoding, Event, Kind, Number, SignalSpec, float_to_word
from agent.core.points import find_point
from agent.core.ports import Sink
from drivers.codec.obis import derive
from drivers.codec.telegram import Telegram

#: A meter has some ten values, the largest ones some hundred; what comes beyond that is noise that passed for a code.
MAX_SIGNALS = 500
#: A signal may miss as many of its own periods as a silent meter may miss telegrams.
PERIODS = 3

_Key = tuple[str, str]  #: name and unit: what makes a signal another one


@dataclass(slots=True)
class _Learnt:
    id: int
    seen_s: float
    gap_s: float = 0.0  #: between the last two telegrams that carried it
    word: int | None = None  #: the one last put; None: the next one is given in full
    known: bool = False


class MeterSignals:
    """The signals of one device. ``wire`` is named in its events."""

    def __init__(self, device: str, wire: str, *, keep_unmapped: bool = False) -> None:
        self.device = device
        self._wire = wire
        self._keep_unmapped = keep_unmapped
        self._learnt: dict[_Key, _Learnt] = {}
        self._identity: dict[str, object] = {}

    @property
    def ids(self) -> Sequence[int]:
        """The numbers of all signals that it has delivered so far."""
        return [one.id for one in self._learnt.values()]

    async def take(self, telegrams: Sequence[Telegram], sink: Sink, now_us: int, now_s: float) -> None:
        """Hand over what the meter said at that time, in one telegram or in several that belong together."""
        self._identify(telegrams, sink, now_us)
        values = {key: value for key, value in self._values(telegrams) if math.isfinite(value)}
        await self._learn([key for key in values if key not in self._learnt], sink, now_s)
        put_ids, words, touched = array("i"), array("q"), array("i")
        for key, value in values.items():
            signal = self._learnt.get(key)
            if signal is None:
                continue
            if signal.known or not signal.gap_s:  # an outage is no period, as long as there is a better one
                signal.gap_s = now_s - signal.seen_s
            signal.seen_s, signal.known = now_s, True
            word = float_to_word(value)
            if word == signal.word:
                touched.append(signal.id)
            else:
                signal.word = word
                put_ids.append(signal.id)
                words.append(word)
        if put_ids:
            sink.put(Batch(put_ids, array("q", [now_us]) * len(put_ids), words))
        if touched:
            sink.touch(touched)

    def expire(self, sink: Sink, now_us: int, now_s: float, limit_s: float) -> None:
        """Make unknown what was not heard for ``limit_s``, or for three of its own periods if that is longer."""
        self._lose(
            [one for one in self._learnt.values() if now_s - one.seen_s >= max(limit_s, PERIODS * one.gap_s)],
            sink,
            now_us,
        )

    def lost(self, sink: Sink, now_us: int) -> None:
        """Make all unknown: the meter is silent or the wire is gone."""
        self._lose(list(self._learnt.values()), sink, now_us)

    def forget(self) -> None:
        """The next telegram gives everything in full."""
        for signal in self._learnt.values():
            signal.known, signal.word = False, None

    def _lose(self, signals: Sequence[_Learnt], sink: Sink, now_us: int) -> None:
        ids = array("i", [signal.id for signal in signals if signal.known])
        for signal in signals:
            signal.known, signal.word = False, None
        if ids:
            sink.put(Batch(ids, array("q", [now_us]) * len(ids), array("q", bytes(8 * len(ids))), valid=False))

    def _values(self, telegrams: Sequence[Telegram]) -> Iterator[tuple[_Key, float]]:
        points: dict[str, Number] = {}
        others: dict[_Key, float] = {}
        for reading in (one for telegram in telegrams for one in telegram.readings):
            number = reading.number
            if number is None:
                continue
            if reading.point is not None:
                points.setdefault(reading.point, exact(number, reading.scale))
            elif self._keep_unmapped:
                others.setdefault((reading.code, reading.unit or ""), _float(number))
        for name, value in derive(points.items()).items():
            yield (name, _unit(name)), _float(value)
        yield from others.items()

    async def _learn(self, keys: Sequence[_Key], sink: Sink, now_s: float) -> None:
        room = MAX_SIGNALS - len(self._learnt)
        if len(keys) > room:
            sink.count("too_many_signals", len(keys) - room)
            keys = keys[:room]
        if not keys:
            return
        try:
            ids = await sink.declare([self._spec(*key) for key in keys])
        except StoreError:
            sink.count("undeclared", len(keys))  # they are tried again with the next telegram
            return
        for key, number in zip(keys, ids, strict=True):
            self._learnt[key] = _Learnt(number, now_s)

    def _spec(self, name: str, unit: str) -> SignalSpec:
        point = find_point(name)
        kind = Kind.GAUGE if point is None else point.kind
        return SignalSpec(self.device, name, unit, kind, Encoding.FLOAT)

    def _identify(self, telegrams: Sequence[Telegram], sink: Sink, now_us: int) -> None:
        """Say who the meter is, once for each change; telegrams need not repeat all of it."""
        found: dict[str, object] = dict(self._identity)
        for telegram in telegrams:
            found |= telegram.identity
            if telegram.meter is not None:
                found["meter"] = telegram.meter
        if found != self._identity:
            self._identity = found
            sink.event(Event("device.identity", now_us, self.device, {"wire": self._wire, **found}))


def exact(value: Number, scale: Number) -> Number:
    """``value * scale`` as it is on paper: the decimals that the meter sent are multiplied, not their binary images."""
    if scale == 1:
        return value
    if isinstance(value, int) and isinstance(scale, int):
        return value * scale
    product = Decimal(str(value)) * Decimal(str(scale))
    return float(product)


def _float(value: Number) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of 400 digits
        return math.inf


def _unit(name: str) -> str:
    point = find_point(name)
    return "" if point is None else point.unit
