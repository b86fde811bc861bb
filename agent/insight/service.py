"""Insight as a whole: what the API asks, in a thread. Every answer is bounded, and kept for a minute.

Costly questions (anomalies, recommendations) are worked out one at a time, so that ten who ask at once cost one answer.
"""

import threading
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import TypeVar

from agent.control.model import Station
from agent.core.clock import Clock
from agent.core.model import Session, Signal
from agent.insight import anomalies, statistics
from agent.insight.anomalies import Finding, Hours
from agent.insight.energy import Direction, Energy, cost_of
from agent.insight.periods import DAY_US, HOUR_US, WEEK_US, Period, bounds
from agent.insight.reading import Reader, hour_energy, read_energy
from agent.insight.recommendations import Recommendation
from agent.insight.site import Advisor
from agent.insight.statistics import Extremes, SessionEnergy
from agent.insight.tariff import Tariff
from agent.store.energy import join

T = TypeVar("T")

KEEP_S = 60.0
#: Answers that are kept; the oldest goes first.
MAX_KEPT = 256
MAX_ANOMALY_DAYS = 35
MAX_SESSIONS = 20_000
_PAGE = 1000
SUMMARY_POINTS = ("soc_pct", "temperature_max_degc", "temperature_min_degc")


@dataclass(frozen=True, slots=True)
class InsightSettings:
    """What insight knows of the site beside its history."""

    zone: tzinfo = UTC
    tariff: Tariff | None = None
    grid: str | None = None  #: device that measures the grid connection; None: the one meter that there is
    limit_w: float | None = None  #: what the grid connection carries, where the tariff has no contract
    ambient: str | None = None  #: full name of the signal of the air around the batteries
    rated_w: Mapping[str, float] = field(default_factory=dict)  #: what a device can draw at most


@dataclass(frozen=True, slots=True)
class Anomalies:
    """What was unusual of a device, which of its signals were judged, and which have too little history."""

    findings: Sequence[Finding]
    judged: Sequence[str]
    too_new: Sequence[str]


class Insight:
    """Answers from the store's history. All methods block for some ms to some s: call them in a thread.

    They raise ``StoreError``, and ``ValueError`` with a sentence for the client when the question is out of bounds.
    """

    def __init__(self, reader: Reader, clock: Clock, settings: InsightSettings | None = None) -> None:
        self._reader = reader
        self._clock = clock
        self._settings = settings or InsightSettings()
        self._lock = threading.Lock()
        self._costly = threading.Lock()
        self._kept: dict[tuple[Hashable, ...], tuple[float, object]] = {}

    def configure(self, settings: InsightSettings) -> None:
        """From now on these hold; what was worked out with others is forgotten."""
        with self._lock:
            self._settings = settings
            self._kept.clear()

    @property
    def settings(self) -> InsightSettings:
        """What is known of the site beside its history."""
        return self._settings

    def changed(self, device: str) -> None:
        """Something was added to the energy of a device just now: what was counted of it is forgotten."""
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if key[:2] != ("energy", device)}

    def warm(self) -> None:
        """Sum up what was stored since the last question: called now and then, the next question need not.

        Ten minutes of a busy site take some 100 ms, half a minute of it a few.
        """
        now_us = self._clock.now_us()
        ids = [one.id for one in self._reader.catalog()[1][:1]]
        self._reader.rolled(ids, "hour", [(now_us - HOUR_US, now_us + DAY_US)])

    def energy(self, device: str, period: Period, from_us: int, to_us: int, direction: Direction = "import") -> Energy:
        """The energy of a device by the hours, days or months that the range touches, in the site's time zone."""
        settings = self._settings

        def work() -> Energy:
            found = bounds(period, from_us, to_us, settings.zone)
            max_w = settings.rated_w.get(device)
            return read_energy(self._reader, device, direction, period, found, self._clock.now_us(), max_w)

        return self._keep(("energy", device, period, from_us, to_us, direction), work)

    def cost(self, device: str, period: Period, from_us: int, to_us: int, direction: Direction) -> float | None:
        """What the energy of ``energy`` costs by the tariff, or earns where it is given; None: that is not known.

        By UTC hours where the price changes, so in zones of half hours the first and the last are so, too; what flowed
        in a silence has the mean price of that time.
        """
        settings = self._settings
        tariff = settings.tariff
        if tariff is None:
            return None
        price = tariff.export_price_per_kwh if direction == "export" else tariff.cheapest if tariff.flat else None
        if price is not None:
            wh = self.energy(device, period, from_us, to_us, direction).total_wh
            return None if wh is None else wh / 1000 * price
        if direction == "export":
            return None
        found = bounds(period, from_us, to_us, settings.zone)

        def work() -> float | None:
            hours = range(found[0] // HOUR_US * HOUR_US, found[-1] + HOUR_US, HOUR_US)
            max_w, now_us = settings.rated_w.get(device), self._clock.now_us()
            each = read_energy(self._reader, device, direction, "hour", hours, now_us, max_w, coarse=True)
            return cost_of(each, tariff, settings.zone)

        return self._keep(("energy", device, "cost", period, from_us, to_us), work)

    def sessions(
        self, period: Period, from_us: int, to_us: int, stations: Sequence[Station], device: str | None = None
    ) -> list[SessionEnergy]:
        """The sessions that began in these periods by station: how many, their energy, and how long they lasted.

        ``stations``: those of the site, which say whether a charger has outlets. At most ``MAX_SESSIONS`` are read.
        """
        found = bounds(period, from_us, to_us, self._settings.zone)
        read: list[Session] = []
        while len(read) < MAX_SESSIONS:
            _, page = self._reader.list_sessions(
                device, None, found[0], found[-1], newest_first=False, limit=_PAGE, offset=len(read)
            )
            read += page
            if len(page) < _PAGE:
                break
        return statistics.session_energy(read[:MAX_SESSIONS], found, stations, self._clock.now_us())

    def summary(
        self, device: str, from_us: int, to_us: int, points: Collection[str] = SUMMARY_POINTS
    ) -> dict[str, Extremes]:
        """How often each point of a device was read in ``from_us`` <= time < ``to_us``, its lowest and highest value.

        From roll-ups, but for parts of minutes at both ends: these are read row by row where the rows are still there.
        """
        if from_us >= to_us:
            raise ValueError("the range is empty: `from` must be before `to`")
        ids = statistics.newest(self._signals(device), points)
        every = [one for numbers in ids.values() for one in numbers]
        levels, rest = statistics.split_range(from_us, to_us)
        rolled = [self._reader.rolled(every, level, ranges) for level, ranges in levels.items() if ranges]
        rows: dict[int, list[float]] = {one: [] for one in every}
        for one, two in rest:
            for _, number, value in self._reader.rows(every, one, two):
                if value is not None:
                    rows[number].append(float(value))
        return {
            name: statistics.extremes(
                [part[one] for part in rolled for one in numbers], [value for one in numbers for value in rows[one]]
            )
            for name, numbers in ids.items()
        }

    def anomalies(self, device: str, from_us: int, to_us: int) -> Anomalies:
        """What was unusual of a device in a range of no more than ``MAX_ANOMALY_DAYS``, against the weeks before."""
        if not 0 < to_us - from_us <= MAX_ANOMALY_DAYS * DAY_US:
            raise ValueError(f"ask for more than nothing and no more than {MAX_ANOMALY_DAYS} days")
        first_us, last_us = from_us // HOUR_US * HOUR_US, -(-to_us // HOUR_US) * HOUR_US

        def work() -> Anomalies:
            return self._anomalies(device, first_us, last_us)

        with self._costly:
            return self._keep(("anomalies", device, first_us, last_us), work)

    def recommendations(self) -> list[Recommendation]:
        """What the last four weeks say about the whole site, the most urgent first."""

        def work() -> list[Recommendation]:
            settings = self._settings
            return Advisor(self._reader, settings.zone, settings.tariff, settings.limit_w).advise(
                self._clock.now_us(), settings.grid, settings.ambient, settings.rated_w
            )

        with self._costly:
            return self._keep(("recommendations",), work)

    def _anomalies(self, device: str, from_us: int, to_us: int) -> Anomalies:
        zone, begin_us = self._settings.zone, from_us - anomalies.HISTORY_WEEKS * WEEK_US
        signals = [one for one in self._signals(device) if anomalies.judged(one)]
        names = list(dict.fromkeys(one.name for one in signals))[: anomalies.MAX_SIGNALS]
        findings: list[Finding] = []
        known: list[str] = []
        too_new: list[str] = []

        def judge(signal: Signal, resolution: float, *series: Hours) -> None:
            told: list[Finding] | None = None
            for one in series:
                early = one.t_us < from_us
                before, now = Hours(one.t_us[early], one.values[early]), Hours(one.t_us[~early], one.values[~early])
                found = anomalies.unusual(signal.full_name, signal.unit, before, now, zone, resolution)
                # Where an hour has one reading, its lowest and its highest tell the same twice.
                told_of = {(each.from_us, each.to_us, each.direction) for each in told or ()}
                new = [each for each in found or () if (each.from_us, each.to_us, each.direction) not in told_of]
                told = told if found is None else [*(told or []), *new]
            (too_new if told is None else known).append(signal.full_name)
            findings.extend(told or [])

        for name in names:
            meanings = [one for one in signals if one.name == name]
            found = self._reader.rolled([one.id for one in meanings], "hour", [(begin_us, to_us)])
            rolled = join(list(found.values()))
            rolled = rolled.take(rolled.count > 0)
            newest = meanings[-1]
            judge(newest, abs(float(newest.scale)), Hours(rolled.t_us, rolled.hi), Hours(rolled.t_us, rolled.lo))
        direction: Direction
        for direction in ("import", "export"):
            hours = hour_energy(
                self._reader, device, direction, begin_us, to_us, self._clock.now_us(), registers_only=True
            )
            if hours is not None:
                signal = Signal(device, hours.signal.removeprefix(f"{device}."), "Wh")
                judge(signal, 1.0, Hours(hours.t_us, hours.wh))
        return Anomalies(anomalies.worst(findings), known, too_new)

    def _signals(self, device: str) -> list[Signal]:
        return [one for one in self._reader.catalog()[1] if one.device == device]

    def _keep(self, key: tuple[Hashable, ...], work: Callable[[], T]) -> T:
        """The answer that was worked out less than a minute ago, or a new one."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            until_s, value = self._kept.get(key, (float("-inf"), None))
            settings = self._settings
        if now_s < until_s:
            return value  # type: ignore[return-value] # kept under the key of this question
        answer = work()
        with self._lock:
            if self._settings is settings:
                self._kept.pop(key, None)
                while len(self._kept) >= MAX_KEPT:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[key] = now_s + KEEP_S, answer
        return answer
