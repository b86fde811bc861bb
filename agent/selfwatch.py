"""The gateway watches itself: the device ``gateway``, read like any other, through gate, hub, store, alarms and MQTT.

Rules of this file:

1. What is watched is given as *probes*: point -> a function that gives its value now, or None where it is not known.
   They are called together in a thread, so they may read a file or the store, and must not touch what only the event
   loop may. A probe that hangs leaves the device silent, which is an alarm like any other.
2. A sensor that the machine does not have is no signal: what gives None when the watch is made is left out, but for
   what is known ``later``.
3. A probe raises ``OSError`` or ``AgentError`` at most; its value is unknown then.
"""

import asyncio
import os
import shutil
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from agent.core.clock import Clock, is_set
from agent.core.errors import AgentError, StoreError, Unavailable
from agent.core.model import Batch, Number, SignalSpec
from agent.core.points import POINTS
from agent.core.ports import Sink

DEVICE = "gateway"
EVERY_S = 10.0
#: How often the event loop's lag is measured.
LAG_S = 0.5
MAX_RETRY_S = 60.0

Probe = Callable[[], Number | None]

#: What a word counts in: how exactly a value is kept, so that it does not change each time.
_SCALES: Mapping[str, Number] = {
    "disk_free_bytes": 1 << 20,
    "disk_free_pct": 0.1,
    "cpu_pct": 0.1,
    "memory_bytes": 1 << 20,
    "temperature_degc": 0.1,
    "loop_lag_s": 0.001,
    "written_bytes": 4096,
    "written_day_bytes": 1 << 20,
    "ledger_pct": 0.1,
}
_PLAUSIBLE_DEGC = (-40, 150)


class SelfWatch:
    """``Listener`` over the probes, by point of ``agent/core/points.py``; it adds ``loop_lag_s`` itself.

    ``specs`` may be numbered beforehand, as those of planned devices are; ``run`` declares them in any case.
    """

    def __init__(self, probes: Mapping[str, Probe], clock: Clock, later: Collection[str] = ()) -> None:
        self._clock = clock
        self._probes = {point: probe for point, probe in probes.items() if point in later or _value(probe) is not None}
        self.specs: Sequence[SignalSpec] = [_spec(point) for point in (*self._probes, "loop_lag_s")]

    @property
    def name(self) -> str:
        """The wire, as people know it."""
        return DEVICE

    @property
    def devices(self) -> Sequence[str]:
        """The gateway alone."""
        return (DEVICE,)

    @property
    def max_retry_s(self) -> float:
        """The longest pause before it is tried again."""
        return MAX_RETRY_S

    async def run(self, sink: Sink) -> None:
        """Read all probes every 10 s until cancelled. Raises ``Unavailable`` while nothing can be numbered."""
        try:
            ids = await sink.declare(self.specs)
        except StoreError as error:
            raise Unavailable("watch the gateway", error.reason, error.hint) from error
        lag_s = 0.0
        while True:
            values = await asyncio.to_thread(self._read)
            self._put(sink, ids, [*values, lag_s])
            lag_s = await self._lag_s()

    def _read(self) -> list[Number | None]:
        return [_value(probe) for probe in self._probes.values()]

    def _put(self, sink: Sink, ids: Sequence[int], values: Sequence[Number | None]) -> None:
        now_us = self._clock.now_us()
        known, unknown = array("i"), array("i")
        words = array("q")
        for signal, spec, value in zip(ids, self.specs, values, strict=True):
            if value is None:
                unknown.append(signal)
            else:
                known.append(signal)
                words.append(round(value / spec.scale))
        if known:
            sink.put(Batch(known, array("q", [now_us]) * len(known), words))
        if unknown:
            rows = len(unknown)
            sink.put(Batch(unknown, array("q", [now_us]) * rows, array("q", [0]) * rows, valid=False))

    async def _lag_s(self) -> float:
        """Wait for the next round; gives the longest that the event loop was late meanwhile."""
        worst_s, until_s = 0.0, self._clock.monotonic_s() + EVERY_S
        while (now_s := self._clock.monotonic_s()) < until_s:
            await self._clock.sleep_s(LAG_S)
            worst_s = max(worst_s, self._clock.monotonic_s() - now_s - LAG_S)
        return worst_s


def machine_probes(data_dir: Path, clock: Clock, *, sys: Path = Path("/sys")) -> dict[str, Probe]:
    """What any machine can tell: disk, temperature, processor, memory, and whether its clock is set."""
    sensors = list(_sensors(sys))
    cpu = _Cpu(clock)
    return {
        "disk_free_bytes": lambda: shutil.disk_usage(data_dir).free,
        "disk_free_pct": lambda: _free_pct(data_dir),
        "temperature_degc": lambda: _hottest(sensors),
        "cpu_pct": cpu.pct,
        "memory_bytes": _resident_bytes,
        "clock_good": lambda: int(is_set(clock)),
    }


class _Cpu:
    """What this process took of one core since it was last asked, in %."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at_s = clock.monotonic_s()
        self._used_s = _cpu_s()

    def pct(self) -> float:
        at_s, used_s = self._clock.monotonic_s(), _cpu_s()
        passed_s, spent_s = at_s - self._at_s, used_s - self._used_s
        self._at_s, self._used_s = at_s, used_s
        return 100 * spent_s / passed_s if passed_s > 0 else 0.0


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _free_pct(folder: Path) -> float:
    usage = shutil.disk_usage(folder)
    return 100 * usage.free / usage.total


def _resident_bytes() -> int | None:
    """Linux only; proc(5): the second field of statm is the resident set, in pages."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else None


def _sensors(sys: Path) -> Iterable[Path]:
    """The files of the machine's thermometers: those of the processor, or (where there are none) all others."""
    return sorted(sys.glob("class/thermal/thermal_zone*/temp")) or sorted(sys.glob("class/hwmon/hwmon*/temp*_input"))


def _hottest(sensors: Iterable[Path]) -> float | None:
    """The highest plausible reading, in °C; the kernel gives thousandths."""
    found = []
    for sensor in sensors:
        try:
            value = int(sensor.read_text()) / 1000
        except (OSError, ValueError):
            continue  # a sensor of a part that is asleep
        if _PLAUSIBLE_DEGC[0] <= value <= _PLAUSIBLE_DEGC[1]:
            found.append(value)
    return max(found, default=None)


def _spec(point: str) -> SignalSpec:
    meaning = POINTS[point]
    return SignalSpec(DEVICE, point, meaning.unit, meaning.kind, scale=_SCALES.get(point, 1), source=DEVICE)


def _value(probe: Probe) -> Number | None:
    try:
        return probe()
    except (OSError, AgentError):
        return None
