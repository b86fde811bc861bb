"""Devices whose rows clients post: vehicles and batteries of another system, meters whose consumption is told.

They are no configured devices: their signals are numbered as they come, and from then on stand in the catalogue, in
history, on the page and in the uplink like all others. Rules of this file:

1. What was posted is answered after its commit, and shown after that. The event loop is never held up: columns are made
   in a thread, and what is shown is shown in slices.
2. The newest by time is what is shown, whatever order rows come in. Rows of the last minutes are shown one after the
   other, so that rules see each; of older ones only the newest counts.
3. A configured device is read, not posted: its id is refused.
4. After a start nothing is known until it is posted again, as of any device; who asks for a device is told the newest
   of each of its values from the store, with its time, which need not be of its newest row.
"""

import asyncio
import threading
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from agent.api.view import PostedRow, Taken
from agent.core.clock import Clock
from agent.core.model import POSTED_ENERGY, POSTED_READINGS, Batch, Column, Encoding, Kind, Number, Signal, SignalSpec
from agent.core.points import find_point
from agent.core.ports import Latest
from agent.pipeline.columns import batch_of
from agent.pipeline.flow import Flow
from agent.pipeline.hub import Hub
from agent.store.db import Store
from agent.store.posting import MAX_PER_MINUTE, Fate, Posting
from agent.store.rollup import MINUTE_US

MAX_DEVICES = 2000
MAX_POINTS = 64
RECENT_US = 300_000_000
#: Notes of this kind name devices that were taken out, until something is posted of them again.
FORGOTTEN = "posted_forgotten"
#: Samples that are shown at once.
SLICE = 1000

_INT = Encoding.INT  # Python 3.11 takes a microsecond to look a member up
_REASONS = {
    Fate.TOO_OLD: "`ts` is too old: raw readings from then are no longer kept",
    Fate.TOO_MANY: f"its device has {MAX_PER_MINUTE} rows in this minute already",
}


@dataclass(frozen=True, slots=True)
class _Plan:
    """The rows that can be taken, what is wrong with the others, and what must be numbered first."""

    rows: Sequence[PostedRow]
    refused: Sequence[tuple[int, str]]
    new: Sequence[SignalSpec]


class PostedDevices:
    """All of them; ``agent.api.view.PostedDevices``. ``configured`` tells whose ids are refused; ``learn`` is told of
    new signals.
    """  # noqa: D205 - one sentence

    def __init__(
        self,
        clock: Clock,
        store: Store,
        flow: Flow,
        hub: Hub,
        configured: Callable[[], Collection[str]],
        learn: Callable[[Sequence[Signal]], None],
    ) -> None:
        self._clock = clock
        self._store = store
        self._flow = flow
        self._hub = hub
        self._configured = configured
        self._learn = learn
        self._known: dict[str, dict[str, Signal]] = {}
        gone = store.notes(FORGOTTEN)
        for signal in store.catalog()[1]:
            if signal.source in {POSTED_READINGS, POSTED_ENERGY} and signal.device not in gone:
                self._known.setdefault(signal.device, {})[signal.name] = signal
        self._declaring = asyncio.Lock()
        self._showing = asyncio.Lock()
        self._newest_us = _Newest()
        #: The newest values of each device from before this start with their times, as soon as somebody asked for it.
        self._before: dict[str, Mapping[int, tuple[int, Number]]] = {}
        self._looking = threading.Lock()

    def devices(self) -> Sequence[str]:
        """The names of those that post telemetry, sorted."""
        own = set(self._configured())
        found = (device for device, known in self._known.items() if device not in own)
        return sorted(
            device for device in found if any(one.source == POSTED_READINGS for one in self._known[device].values())
        )

    def signals(self) -> list[Signal]:
        """All that they have ever posted."""
        own = set(self._configured())
        return [signal for device, known in self._known.items() if device not in own for signal in known.values()]

    def signal(self, device: str, name: str) -> Signal | None:
        """One of them."""
        return self._known.get(device, {}).get(name)

    def oldest_us(self) -> int:
        """From when on raw readings are kept."""
        return self._store.raw_from_us()

    async def post(self, rows: Sequence[PostedRow]) -> Taken:
        """Store and show rows. Raises ``StoreError``: then nothing of them is stored."""
        async with self._declaring:
            plan = await asyncio.to_thread(self._plan, rows)
            await self._declare(plan.new)
        posting = await asyncio.to_thread(self._columns, plan.rows)
        fates: Sequence[Fate] = ()
        if plan.rows:
            fates = await asyncio.wrap_future(self._store.post(posting))
        if Fate.STORED in fates:
            await self.show(await asyncio.to_thread(posting.batch, fates))
        refused = [*plan.refused]
        refused += [(row.place, _REASONS[fate]) for row, fate in zip(plan.rows, fates, strict=True) if fate in _REASONS]
        return Taken(fates.count(Fate.STORED), fates.count(Fate.DUPLICATE), sorted(refused))

    async def forget(self, device: str) -> bool:
        """Take a device out: it is shown no more, until something is posted of it again. What it told stays stored.

        Whether there was one. Raises ``StoreError``.
        """
        async with self._declaring:
            if device not in self._known or device in self._configured():
                return False
            await self._store.write(FORGOTTEN, device, {"t_us": self._clock.now_us()})
            ids = array("i", (signal.id for signal in self._known.pop(device).values()))
            self._before.pop(device, None)
        times_us = array("q", [self._clock.now_us()]) * len(ids)
        self._flow.show(Batch(ids, times_us, array("q", [0]) * len(ids), valid=False))
        self._learn(())
        return True

    async def declare(self, specs: Sequence[SignalSpec]) -> None:
        """Number signals of posted devices. Raises ``StoreError``."""
        async with self._declaring:
            await self._declare(specs)

    async def _declare(self, specs: Sequence[SignalSpec]) -> None:
        if not specs:
            return
        signals = await asyncio.to_thread(self._store.assign, specs)
        for device in {spec.device for spec in specs} & self._store.notes(FORGOTTEN).keys():
            await self._store.write(FORGOTTEN, device, None)
        for signal in signals:
            if signal.device not in self._known:
                self._known[signal.device] = {}
                self._before[signal.device] = {}
            self._known[signal.device][signal.name] = signal
        self._learn(signals)

    def refusal(self, device: str, fresh: int = 0) -> str:
        """Why a device can't be posted; empty when it can. ``fresh``: how many others are about to come."""
        if device in self._configured():
            return f"{device!r} is a configured device: it is read, not posted"
        if device not in self._known and len(self._known) + fresh >= MAX_DEVICES:
            return f"there are {MAX_DEVICES} posted devices already"
        return ""

    async def show(self, batch: Batch) -> None:
        """Rows that were stored, in order of time: those that are newer than what is shown."""
        async with self._showing:
            chosen = await asyncio.to_thread(self._newest_us.news, batch, self._clock.now_us() - RECENT_US)
            for part in chosen:
                self._flow.show(part)
                await asyncio.sleep(0)

    async def latest(self, devices: Sequence[str]) -> dict[str, list[Latest]]:
        """The newest values of devices; ages are those of the rows' own times. Raises ``StoreError``."""
        unasked = [device for device in devices if device in self._known and device not in self._before]
        if unasked:
            await asyncio.to_thread(self._look_before, unasked)
        now_us = self._clock.now_us()
        return {device: self._latest(device, now_us) for device in devices if device in self._known}

    def _latest(self, device: str, now_us: int) -> list[Latest]:
        before = self._before.get(device, {})
        found: list[Latest] = []
        for one in self._hub.latest(self._known[device].values()):
            value, t_us = one.value, one.t_us
            if t_us is None and one.signal.id in before:
                t_us, value = before[one.signal.id]
            age_s = None if t_us is None else max(0.0, (now_us - t_us) / 1e6)
            found.append(Latest(one.signal, value, t_us, age_s))
        return found

    def _look_before(self, devices: Iterable[str]) -> None:
        """Read the newest values from before this start. Only newer ones are shown from now on."""
        with self._looking:
            for device in devices:
                if device in self._before:
                    continue  # somebody else looked meanwhile, and newer rows may have come since
                t_us = self._store.newest_posted_us(device)
                ids = [signal.id for signal in self._known[device].values()]
                found: dict[int, tuple[int, Number]] = {}
                if t_us is not None:
                    self._read_newest(ids, t_us, found)
                    for one in ids:
                        self._newest_us.at_least([one], found[one][0] if one in found else t_us)
                self._before[device] = found

    def _read_newest(self, ids: Sequence[int], t_us: int, found: dict[int, tuple[int, Number]]) -> None:
        """The newest value of each of these signals. ``t_us``: the time of the newest row, which has most of them."""
        self._keep_newest(ids, t_us, t_us + 1, found)
        lacking = [one for one in ids if one not in found]
        if lacking:
            end_us = (t_us // MINUTE_US + 1) * MINUTE_US
            together: dict[tuple[int, int], list[int]] = {}
            for one, bucket in self._store.rolled(lacking, "minute", [(end_us, end_us)], before=True).items():
                for begin_us, width_us in zip(bucket.t_us.tolist(), bucket.width_us.tolist(), strict=True):
                    together.setdefault((begin_us, begin_us + width_us), []).append(one)
            for (begin_us, behind_us), several in together.items():
                self._keep_newest(several, begin_us, behind_us, found)

    def _keep_newest(self, ids: Sequence[int], from_us: int, to_us: int, found: dict[int, tuple[int, Number]]) -> None:
        for t_us, number, value in self._store.rows(ids, from_us, to_us):
            if value is not None and (number not in found or t_us >= found[number][0]):
                found[number] = t_us, value

    def _plan(self, rows: Sequence[PostedRow]) -> _Plan:
        """What can be taken. In a thread, while nobody else declares anything. Raises ``StoreError``."""
        good: list[PostedRow] = []
        refused: list[tuple[int, str]] = []
        new: dict[str, dict[str, SignalSpec]] = {}
        reasons: dict[str, str] = {}
        fresh = 0
        for row in rows:
            device = row.device
            if device not in reasons:
                reasons[device] = self.refusal(device, fresh)
                fresh += device not in self._known and not reasons[device]
            reason = reasons[device] or self._lacking(row, new)
            if reason:
                refused.append((row.place, reason))
            else:
                good.append(row)
        self._look_before(device for device in reasons if device in self._known and device not in self._before)
        return _Plan(good, refused, [spec for specs in new.values() for spec in specs.values()])

    def _lacking(self, row: PostedRow, new: dict[str, dict[str, SignalSpec]]) -> str:
        """Note what must be numbered for a row; why it can't be taken, or nothing."""
        known, coming = self._known.get(row.device, {}), new.get(row.device, {})
        lacking: dict[str, SignalSpec] = {}
        for point in row.values:
            signal = known.get(point)
            if signal is None and point not in coming:
                lacking[point] = spec_of(row.device, point)
            elif signal is not None and signal.source == POSTED_ENERGY:
                return f"`{point}` of this device is what is posted to /api/energy"
        if lacking:
            if len(known) + len(coming) + len(lacking) > MAX_POINTS:
                return f"a posted device has at most {MAX_POINTS} points"
            new[row.device] = {**coming, **lacking}
        return ""

    def _columns(self, rows: Sequence[PostedRow]) -> Posting:
        ids, values, counts = array("i"), array("d"), array("i")
        whole: set[int] = set()
        for device in {row.device for row in rows}:
            whole.update(signal.id for signal in self._known[device].values() if signal.encoding is _INT)
        for row in rows:
            known = self._known[row.device]
            ids.extend([known[point].id for point in row.values])
            values.extend(row.values.values())
            counts.append(len(row.values))
        numbers = np.asarray(values, np.float64)
        # The word of a float are its bits. Whole ones are below 2**53, so that a float holds them exactly.
        words = np.where(np.isin(ids, list(whole)), numbers.astype(np.int64), numbers.view(np.int64))
        times = array("q", (row.t_us for row in rows))
        return Posting([row.device for row in rows], times, counts, ids, cast("Column", words))


class _Newest:
    """The newest time that is shown of each signal."""

    def __init__(self) -> None:
        self._time_us: NDArray[np.int64] = np.zeros(256, np.int64)

    def at_least(self, ids: Sequence[int], t_us: int) -> None:
        """Nothing older than that is news of these signals."""
        self._reach(max(ids))
        places = np.array(ids, np.intp)
        self._time_us[places] = np.maximum(self._time_us[places], t_us)

    def news(self, batch: Batch, recent_us: int) -> list[Batch]:
        """What of a batch, which is in order of time, is to be shown, in slices: it counts as shown."""
        ids, times = np.asarray(batch.ids, np.int32), np.asarray(batch.times_us, np.int64)
        words = np.asarray(batch.words, np.int64)
        self._reach(int(ids.max(initial=0)))
        last = np.zeros(len(ids), np.bool_)
        last[len(ids) - 1 - np.unique(ids[::-1], return_index=True)[1]] = True
        chosen = (times >= self._time_us[ids]) & (last | (times >= recent_us))
        ids, times, words = ids[chosen], times[chosen], words[chosen]
        self._time_us[ids] = times  # of several the last one stays, which is the newest
        return [
            batch_of(ids[at : at + SLICE], times[at : at + SLICE], words[at : at + SLICE])
            for at in range(0, len(ids), SLICE)
        ]

    def _reach(self, number: int) -> None:
        if number >= len(self._time_us):
            more = np.zeros(max(number + 1, 2 * len(self._time_us)) - len(self._time_us), np.int64)
            self._time_us = np.r_[self._time_us, more]


def spec_of(device: str, name: str) -> SignalSpec:
    """The signal of a point that is posted: exactly the number that was sent."""
    point = find_point(name)
    if point is None:
        raise ValueError(f"there is no point {name!r}")
    encoding = Encoding.INT if point.kind is Kind.STATE else Encoding.FLOAT
    return SignalSpec(device, name, point.unit, point.kind, encoding, source=POSTED_READINGS)
