"""What conditions read: the newest value of each signal, since when it is so, when it was last heard, how it moves.

Rules of this file:

1. No clock: each call brings the time, as monotonic seconds, so that a rehearsal can run over history at any speed.
2. What a batch costs does not depend on what conditions read: some numpy over its rows. Only rows that change a signal
   which somebody watches come out, for a Python loop.
3. Missing is never 0: a signal that was never heard, became unknown, or carries NaN or infinity is unknown (None).
4. A limit compares as it is written: 523 * 0.1 is 52.3 here, not 52.300000000000004.
5. Bounded: some columns per signal, and some samples for each window that a rate reads.
"""

import math
from collections.abc import Callable, Iterable
from decimal import Decimal

import numpy as np

from agent.control.window import Window
from agent.core.model import Encoding, Number, Signal
from agent.pipeline.columns import Places, Rows, Spots

#: With more decimals than that, a scale is no decimal fraction.
_DECIMALS = 15
#: A 64-bit word times less than this is finite.
_LARGE = 1e280

#: (time of its row in µs UTC, signal id, value), a change of a watched signal.
Change = tuple[int, int, Number | None]


class Facts:
    """The value table. Conditions are compiled against it (``when_compile``); an ``Engine`` feeds it."""

    def __init__(self) -> None:
        self.now_s = -math.inf  #: the newest time that was passed in
        self.values: list[Number | None] = []  #: by id, of what is watched; the list stays the same object
        self._signals: dict[str, Signal] = {}
        self._devices: dict[str, Places] = {}
        self._decoders: list[Callable[[int], Number | None] | None] = []  # by id, of what is watched
        self._windows: dict[tuple[int, Number], Window] = {}
        self._spare: dict[tuple[int, Number], Window] = {}  # those before the last `bind`
        self._moving: dict[int, list[Window]] = {}
        self._word = np.zeros(0, dtype=np.int64)
        self._known = np.zeros(0, dtype=np.bool_)
        self._watched = np.zeros(0, dtype=np.bool_)
        self._marked = np.zeros(0, dtype=np.bool_)  # all False between calls
        self._heard_s = np.zeros(0)
        self._since_s = np.zeros(0)
        self._born_s = np.zeros(0)
        self._grow(255)

    # -- what there is

    def bind(self, signals: Iterable[Signal], now_s: float) -> None:
        """Say which signals there are. Nothing is watched then; what was seen of those that stay is kept.

        Who has compiled all conditions anew says so: ``settle``.
        """
        self.now_s = now_s
        found = {signal.full_name: signal for signal in signals}
        ids = {signal.id: signal for signal in found.values()}
        before = {signal.id: signal for signal in self._signals.values()}
        self._grow(max(ids, default=0))
        for number in before.keys() - ids.keys():
            self._known[number] = False
            self._heard_s[number] = -math.inf
        for number in ids.keys() - before.keys():
            self._born_s[number] = now_s
        devices: dict[str, list[int]] = {}
        for signal in found.values():
            devices.setdefault(signal.device, []).append(signal.id)
        self._signals = found
        self._devices = {device: np.array(numbers, dtype=np.intp) for device, numbers in devices.items()}
        self._watched[:] = False
        self._spare = {key: one for key, one in self._windows.items() if before.get(key[0]) == ids.get(key[0])}
        self._windows, self._moving = {}, {}

    def settle(self) -> None:
        """Forget the windows that no condition reads any more."""
        self._spare = {}

    def signal(self, name: str) -> Signal | None:
        """The signal of a full name; None where there is none."""
        return self._signals.get(name)

    def has_device(self, device: str) -> bool:
        """Whether a device has signals."""
        return device in self._devices

    def watch(self, name: str) -> int | None:
        """The place of a signal's value in ``values``, which is kept up to date from now on; None: there is none."""
        signal = self._signals.get(name)
        if signal is None:
            return None
        number = signal.id
        if not self._watched[number]:
            self._watched[number] = True
            self._decoders[number] = decoder(signal)
            self.values[number] = self._decoded(number) if self._known[number] else None
        return number

    def window(self, name: str, seconds: Number) -> Window | None:
        """The window of a signal, which is kept up to date from now on; None where there is no such signal."""
        number = self.watch(name)
        if number is None:
            return None
        window = self._windows.get((number, seconds))
        if window is None:
            window = self._spare.pop((number, seconds), None) or Window(seconds)
            value = self.values[number]
            if value is None or not len(window):
                window.put(float(self._since_s[number]), value)
            self._windows[number, seconds] = window
            self._moving.setdefault(number, []).append(window)
        return window

    # -- what happens

    def news(self, rows: Rows, now_s: float) -> list[Change]:
        """Take a batch; gives what changed of the watched signals, in the order of the rows, for ``accept``."""
        self.now_s = now_s
        places = rows.places
        self._reach(rows.highest)
        if not rows.batch.valid:
            return self._lost(rows)
        self._heard_s[places] = now_s
        changed = rows.words != self._word[places]
        known = self._known[places]
        if np.count_nonzero(known) < len(known):
            changed |= ~known
        if not np.count_nonzero(changed):
            return []
        if not rows.unique:
            # A row may be as the signal was before the batch, and change what an earlier row of it said.
            self._marked[places[changed]] = True
            changed = self._marked[places]
            self._marked[places] = False
        moved = places[changed]
        words = rows.words[changed]
        before = {} if rows.unique else self._before(moved)
        self._since_s[moved] = now_s
        self._word[moved] = words
        self._known[moved] = True
        watched = self._watched[moved]
        if not np.count_nonzero(watched):
            return []
        columns = zip(
            rows.times_us[changed][watched].tolist(), moved[watched].tolist(), words[watched].tolist(), strict=True
        )
        decoders = self._decoders
        if rows.unique:
            return [(t_us, number, decoders[number](word)) for t_us, number, word in columns]
        found: list[Change] = []
        for t_us, number, word in columns:
            if before.get(number) != word:
                before[number] = word
                found.append((t_us, number, decoders[number](word)))
        return found

    def touched(self, spots: Spots, now_s: float) -> list[Change]:
        """Signals that were read again unchanged: they are known again. Gives what that changes, as ``news``."""
        self.now_s = now_s
        places = spots.places
        self._reach(spots.highest)
        known = self._known[places]
        found: list[Change] = []
        if np.count_nonzero(known) < len(known):
            # A touch repeats a word; of a signal that never had one it says nothing.
            heard = self._heard_s[places] > -math.inf
            back = places[heard & ~known]
            places = places[heard]
            self._known[back] = True
            self._since_s[back] = now_s
            found = [(0, number, self._decoded(number)) for number in dict.fromkeys(back[self._watched[back]].tolist())]
        self._heard_s[places] = now_s
        return found

    def accept(self, number: int, value: Number | None) -> None:
        """Let a change that ``news`` gave stand: conditions see it from now on."""
        self.values[number] = value
        if number in self._moving:
            for window in self._moving[number]:
                window.put(self.now_s, value)

    def tick(self, now_s: float) -> None:
        """Time goes on."""
        self.now_s = now_s

    # -- what time does to it

    def age_s(self, subject: str) -> float | None:
        """Seconds since a signal, or any signal of a device, was heard, changed or not; before the first time: since
        it is known that there is one. None: there is no such thing.
        """  # noqa: D205 - one sentence
        places = self._places_of(subject)
        if places is None:
            return None
        since_s = self._heard_s[places].max()
        if since_s == -math.inf:
            since_s = self._born_s[places].min()
        return max(0.0, self.now_s - float(since_s))

    def unchanged_s(self, number: int) -> float:
        """How long a signal that is known was heard with the same word."""
        return max(0.0, float(self._heard_s[number] - self._since_s[number]))

    def was_heard(self, subject: str) -> bool:
        """Whether a signal, or any signal of a device, was ever heard."""
        places = self._places_of(subject)
        return places is not None and bool(self._heard_s[places].max() > -math.inf)

    # -- inside

    def _places_of(self, subject: str) -> Places | None:
        """Of a device's signals, or of one signal."""
        if subject in self._devices:
            return self._devices[subject]
        signal = self._signals.get(subject)
        return None if signal is None else np.array([signal.id], dtype=np.intp)

    def _lost(self, rows: Rows) -> list[Change]:
        lost = self._known[rows.places]
        if not np.count_nonzero(lost):
            return []
        places = rows.places[lost]
        self._known[places] = False
        watched = self._watched[places]
        columns = zip(rows.times_us[lost][watched].tolist(), places[watched].tolist(), strict=True)
        found: dict[int, Change] = {}
        for t_us, number in columns:
            found.setdefault(number, (t_us, number, None))
        return list(found.values())

    def _before(self, places: Places) -> dict[int, int | None]:
        """The words of signals that are known."""
        known = places[self._known[places]]
        return dict(zip(known.tolist(), self._word[known].tolist(), strict=True))

    def _decoded(self, number: int) -> Number | None:
        decode = self._decoders[number]
        return None if decode is None else decode(int(self._word[number]))

    def _reach(self, number: int) -> None:
        if number >= len(self._word):
            self._grow(number)

    def _grow(self, number: int) -> None:
        if number < len(self._word):
            return
        more = max(number + 1, 2 * len(self._word)) - len(self._word)
        self.values.extend([None] * more)
        self._decoders.extend([None] * more)
        self._word = np.r_[self._word, np.zeros(more, dtype=np.int64)]
        self._known = np.r_[self._known, np.zeros(more, dtype=np.bool_)]
        self._watched = np.r_[self._watched, np.zeros(more, dtype=np.bool_)]
        self._marked = np.r_[self._marked, np.zeros(more, dtype=np.bool_)]
        self._heard_s = np.r_[self._heard_s, np.full(more, -np.inf)]
        self._since_s = np.r_[self._since_s, np.full(more, -np.inf)]
        self._born_s = np.r_[self._born_s, np.full(more, -np.inf)]


def decoder(signal: Signal) -> Callable[[int], Number | None]:
    """Word -> physical value as it is written, or None where it is none."""
    physical, scale, offset = signal.physical, signal.scale, signal.offset
    if signal.encoding is not Encoding.FLOAT and isinstance(scale, int) and isinstance(offset, int):
        return physical
    decimals = max(_decimals(scale), _decimals(offset))
    if signal.encoding is Encoding.INT and decimals <= _DECIMALS and abs(scale) < _LARGE and abs(offset) < _LARGE:
        # Whole numbers divided give the float that is next to the decimal fraction.
        power = 10**decimals
        steps, start = round(scale * power), round(offset * power)
        return lambda word: (word * steps + start) / power

    def decode(word: int) -> Number | None:
        try:
            value = physical(word)
            return value if math.isfinite(value) else None
        except OverflowError:
            return None

    return decode


def _decimals(number: Number) -> int:
    """With how many decimals a number is written; very many where it is none."""
    if not math.isfinite(number):
        return _DECIMALS + 1
    exponent = Decimal(repr(number)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
