"""The signals of one charger: values by name become words in the sink.

Rules of this file:

1. Words that changed are put, those that did not are touched; what becomes unknown is said once.
2. Signals that every charger has are numbered before; the others are declared with their first value. While the store
   can't number them they are tried again with each value.
3. Words are whole numbers with the decimal scale of the point's unit. The time of a sample is that of its arrival.
"""

from array import array
from collections.abc import Iterable, Mapping

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Batch, Number, SignalSpec
from agent.core.points import CHARGER_STATUS
from agent.core.ports import Sink
from drivers.codec.ocpp_values import form, word_of

#: A charger has some ten values for each outlet and phase; what comes beyond is noise.
MAX_SIGNALS = 1000


def spec_of(device: str, name: str) -> SignalSpec:
    """What a signal of a charger is. ``name`` is a point, with ``.N`` of an outlet."""
    known = form(name)
    labels = dict(enumerate(CHARGER_STATUS)) if name.startswith("charger_status") else {}
    return SignalSpec(device, name, known.unit, known.kind, scale=known.scale, labels=labels)


class Board:
    """All signals of one charger."""

    def __init__(self, device: str, ids: Mapping[str, int], clock: Clock) -> None:
        self._device = device
        self._ids = dict(ids)
        self._clock = clock
        self._words: dict[str, int] = {}  #: of those that are known now
        self._sink: Sink | None = None

    def open(self, sink: Sink | None) -> None:
        """From now on values go there; all in full, for it may have forgotten them."""
        self._sink = sink
        self._words.clear()

    def known(self, name: str) -> bool:
        """Whether it has a value now."""
        return name in self._words

    async def learn(self, names: Iterable[str]) -> None:
        """Have numbers for signals that may be new."""
        new = [name for name in names if name not in self._ids]
        if not new or self._sink is None:
            return
        if len(self._ids) + len(new) > MAX_SIGNALS:
            self._sink.count("too_many_signals", len(new))
            return
        try:
            numbers = await self._sink.declare([spec_of(self._device, name) for name in new])
        except StoreError:
            self._sink.count("undeclared", len(new))
            return
        self._ids.update(zip(new, numbers, strict=True))

    def show(self, values: Mapping[str, Number | None]) -> None:
        """These are the values now; None: unknown. Those without a number are left out."""
        if self._sink is None:
            return
        put, words, same = array("i"), array("q"), array("i")
        for name, value in values.items():
            number = self._ids.get(name)
            if number is None or value is None:
                continue
            word = word_of(name, value)
            if self._words.get(name) == word:
                same.append(number)
            else:
                self._words[name] = word
                put.append(number)
                words.append(word)
        if put:
            self._sink.put(Batch(put, array("q", [self._clock.now_us()]) * len(put), words))
        if same:
            self._sink.touch(same)
        self.lose([name for name, value in values.items() if value is None])

    def lose(self, names: Iterable[str] | None = None) -> None:
        """These become unknown, or all."""
        lost = [name for name in (list(self._words) if names is None else names) if name in self._words]
        for name in lost:
            del self._words[name]
        if lost and self._sink is not None:
            ids = array("i", [self._ids[name] for name in lost])
            times = array("q", [self._clock.now_us()]) * len(ids)
            self._sink.put(Batch(ids, times, array("q", bytes(8 * len(ids))), valid=False))
