"""A rehearsal tells what the site itself would have told: the same code over the same rows, at the times of history."""

import asyncio
import random
from array import array
from collections.abc import Callable, Sequence
from datetime import UTC
from itertools import pairwise

import numpy as np
import pytest

from agent.control.alarm_model import RuleAct, RuleSpec, Severity
from agent.control.alarms import AlarmBook
from agent.control.memory import Memory
from agent.control.model import Command, Origin, Outcome, Result
from agent.control.rehearsal import ORDER, ObedientDevice, Rehearsal, Summary
from agent.control.stations import Stations, Surroundings, Target
from agent.control.when import parse, parse_clear
from agent.core.clock import FakeClock
from agent.core.model import Batch, Encoding, Event, Number, Signal, float_to_word
from agent.core.ports import Setting
from agent.pipeline.columns import rows_of
from agent.store.catalogue import Catalogue
from agent.store.recording import Piece
from agent.store.unpack import Rows
from tests.control_fakes import NOON_US, FakeDevice, FakeNotebook, FakeValues, settle

SECOND_US = 1_000_000
SOC = Signal("battery1", "soc_pct", "%", id=1)
HOT = Signal("battery1", "temperature_max_degc", "°C", scale=0.1, id=2)
VOLTS = Signal("battery1", "voltage_v", "V", encoding=Encoding.FLOAT, id=3)
POWER = Signal("cp1", "power_w", "W", id=4)
SIGNALS = (SOC, HOT, VOLTS, POWER)

#: (µs since the beginning, signal, word; None: it is not known any more).
Row = tuple[int, Signal, int | None]
Told = tuple[str, str, int, object]


def spec(name: str, when: str, clear: str | None = None, **more: object) -> RuleSpec:
    condition = parse(when)
    fields = {"clear_for_s": 0, "severity": Severity.WARNING, **more}
    return RuleSpec(name, condition, None if clear is None else parse_clear(clear, condition), **fields)  # type: ignore[arg-type]


SPECS = (
    spec("hot", "battery1.temperature_max_degc > 50", "< 45", for_s=3, acts=(RuleAct("cp1", on=False),), hold_s=20),
    spec("low", "battery1.soc_pct < 20", "> 25", severity=None, acts=(RuleAct("*", limit_a=8),), origin=Origin.RULE),
    spec("both", "battery1.soc_pct < 50 and battery1.voltage_v > 48.5", clear_for_s=7, suppressed_by=("hot",)),
    spec("latched", "battery1.temperature_max_degc >= 52.3", latch=True, acts=(RuleAct("cp1", do="stop"),)),
    spec("unsure", "battery1.voltage_v < 1000", unknown="raise"),
)
TIMED = (
    spec("silent", "silent(battery1, 20s)", acts=(RuleAct("cp1", on=False),)),
    spec("falling", "rate(battery1.soc_pct, 30s) < -0.5"),
    spec("frozen", "unchanged(battery1.voltage_v, 15s)", for_s=2),
)


def target(device: object) -> Target:
    return Target("cp1", "cp1", 0, commandable=device)  # type: ignore[arg-type] # a Commandable


def random_rows(rng: random.Random, seconds: int) -> list[Row]:
    """Readings of a site, several at one time as often as not, with gaps."""
    rows: list[Row] = []
    t_us, silent_until_us = 0, 0
    soc, hot = 40, 450
    while t_us < seconds * SECOND_US:
        t_us += rng.choice((0, 1, 250_000, 1_000_000, 1_000_000, 1_370_000))
        if rng.random() < 0.02:
            silent_until_us = t_us + rng.choice((5, 40)) * SECOND_US
        if t_us < silent_until_us:
            continue
        soc = min(100, max(0, soc + rng.choice((-3, -1, 0, 0, 1, 3))))
        hot = min(560, max(380, hot + rng.choice((-12, -3, 0, 3, 12))))
        volts = float_to_word(rng.choice((48.0, 48.6, 49.0)))
        words = {1: soc, 2: hot, 3: volts, 4: rng.choice((0, 11000))}
        chosen = rng.sample(SIGNALS, rng.randrange(1, 4))
        rows += [(t_us, signal, None if rng.random() < 0.03 else words[signal.id]) for signal in chosen]
    return rows


def instants(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one time that are all known or all unknown, as they follow each other."""
    found: list[list[Row]] = []
    for row in rows:
        if found and found[-1][0][0] == row[0] and (found[-1][0][2] is None) == (row[2] is None):
            found[-1].append(row)
        else:
            found.append([row])
    return found


def told_of(event: Event) -> Told:
    return event.kind, event.subject, event.t_us - NOON_US, event.data.get("why")


async def live(
    specs: Sequence[RuleSpec], rows: Sequence[Row], seconds: int
) -> tuple[list[Told], list[tuple[str, Number]], list[tuple[str, str]]]:
    """What the site tells and does while the rows come."""
    clock = FakeClock(NOON_US)
    told: list[Event] = []
    device = FakeDevice()
    orders: list[tuple[str, str]] = []
    values = FakeValues(clock)
    memory = Memory(FakeNotebook())
    stations = Stations(Surroundings(clock, memory, told.append, values, lambda _device, _name: None))

    async def order(command: Command) -> Result:
        orders.append((command.target, command.action))
        return Result(command.id, Outcome.DONE)

    book = AlarmBook(clock, memory, told.append, stations, order, told.append)
    await stations.apply([target(device)], UTC)
    book.apply(specs, SIGNALS)
    stations.tick()
    await settle()
    second = 1

    async def pass_to(t_us: int) -> None:
        nonlocal second
        while second * SECOND_US <= t_us:
            clock.advance(second - (clock.now_us() - NOON_US) / SECOND_US)
            book.tick()
            stations.tick()
            await settle()
            second += 1
        clock.advance((NOON_US + t_us - clock.now_us()) / SECOND_US)

    for part in instants(rows):
        await pass_to(part[0][0])
        columns = [one.id for _, one, _ in part], [NOON_US + t_us for t_us, _, _ in part], [w or 0 for _, _, w in part]
        batch = Batch(
            array("i", columns[0]), array("q", columns[1]), array("q", columns[2]), valid=part[0][2] is not None
        )
        book.engine.rows(rows_of(batch), clock.monotonic_s())
        await settle()
    await pass_to(seconds * SECOND_US)
    await book.close()
    await stations.close()
    return transitions(told), device.log, orders


async def rehearsed(
    specs: Sequence[RuleSpec],
    rows: Sequence[Row],
    seconds: int,
    *,
    every: bool,
    pieces: int = 3,
    begin_s: int = 0,
    boots: Callable[[int], int] = lambda _: 1,
    signals: Sequence[Signal] = SIGNALS,
) -> tuple[list[Event], Summary, ObedientDevice]:
    told: list[Event] = []
    catalogue = Catalogue(1, tuple(signals), tuple(range(len(signals))))
    settings = FakeDevice().settings
    stations = [target(ObedientDevice(settings))]
    rehearsal = Rehearsal(specs, catalogue, stations, UTC, NOON_US, told.append, every=every)
    assert await rehearsal.open() == []
    wanted = rehearsal.signal_ids
    kept = [row for row in rows if row[1].id in wanted]
    size = -(-len(kept) // pieces) or 1
    if not begin_s:
        await rehearsal.begin(NOON_US)
    starts = [0]
    while starts[-1] < len(kept):  # a block ends where an instant does
        end = starts[-1] + size
        while 0 < end < len(kept) and kept[end][0] == kept[end - 1][0]:
            end += 1
        starts.append(end)
    for number, (start, end) in enumerate(pairwise(starts)):
        part = kept[start:end]
        if begin_s and part[0][0] >= begin_s * SECOND_US:
            await rehearsal.begin(NOON_US + begin_s * SECOND_US)
            begin_s = 0
        columns = Rows(
            np.array([one.id for _, one, _ in part], dtype=np.int32),
            np.array([NOON_US + t_us for t_us, _, _ in part], dtype=np.int64),
            np.array([word or 0 for _, _, word in part], dtype=np.int64),
            np.array([word is None for _, _, word in part], dtype=np.bool_),
        )
        await rehearsal.piece(Piece(boots(number), columns))
    summary = await rehearsal.close(NOON_US + seconds * SECOND_US)
    device = rehearsal._targets[0].commandable
    assert isinstance(device, ObedientDevice)
    return told, summary, device


def transitions(events: Sequence[Event]) -> list[Told]:
    return [told_of(one) for one in events if one.kind.startswith(("alarm.", "rule."))]


# -- the same as on the site


@pytest.mark.parametrize("seed", range(8))
def test_it_tells_and_does_what_the_site_would_have(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret
    rows = random_rows(rng, 400)
    expected, written, ordered = asyncio.run(live((*SPECS, *TIMED), rows, 420))
    told, summary, device = asyncio.run(rehearsed((*SPECS, *TIMED), rows, 420, every=True))
    assert transitions(told) == expected
    assert len(expected) > 10
    assert [(one.subject, one.data["action"]) for one in told if one.kind == ORDER] == ordered
    assert device.now == dict(written)
    raised = sum(kind in {"alarm.raised", "rule.active"} for kind, *_ in expected)
    assert sum(one.raised for one in summary.rules.values()) >= raised > 0


@pytest.mark.parametrize("seed", range(8))
def test_what_did_not_change_need_not_be_there(seed: int) -> None:
    """Stored is what changed; conditions that do not ask for time come to the same."""
    rows = random_rows(random.Random(seed), 400)  # noqa: S311 - no secret
    words: dict[int, int | None] = {}
    changed = []
    for row in rows:
        if row[1].id not in words or words[row[1].id] != row[2]:
            changed.append(row)
        words[row[1].id] = row[2]
    assert len(changed) < len(rows)
    expected, *_ = asyncio.run(live(SPECS, rows, 420))
    told, *_ = asyncio.run(rehearsed(SPECS, changed, 420, every=False, pieces=7))
    assert transitions(told) == expected


# -- what it comes to


def readings(signal: Signal, *values: tuple[int, Number | None]) -> list[Row]:
    words = {t_s: None if value is None else round((value - signal.offset) / signal.scale) for t_s, value in values}
    return [(t_s * SECOND_US, signal, word) for t_s, word in words.items()]


def test_a_stopped_station_counts_its_time_and_what_it_drew_meanwhile() -> None:
    stop = spec("hot", "battery1.temperature_max_degc > 50", acts=(RuleAct("cp1", on=False),))
    rows = sorted(
        [*readings(HOT, (0, 30), (100, 55), (400, 40), (500, 60)), *readings(POWER, (0, 3600), (200, 7200), (390, 0))],
        key=lambda row: row[0],
    )
    told, summary, _ = asyncio.run(rehearsed((stop,), rows, 600, every=False))
    rule, station = summary.rules["hot"], summary.stations["cp1"]
    assert (rule.raised, rule.active) == (2, True)
    assert rule.active_s == pytest.approx(400, abs=2)
    assert (station.switched_off, station.off) == (2, True)
    # It is held off for 60 s at least; the power counted is that of the history.
    assert station.off_s == pytest.approx(400, abs=3)
    assert station.not_delivered_wh == pytest.approx(100 * 1 + 190 * 2, abs=5)
    decided = [one for one in told if one.kind == "station.decided"]
    assert [one.data["on"] for one in decided][:2] == [False, None]
    assert decided[0].t_us == NOON_US + 100 * SECOND_US
    assert summary.seconds == 600


def test_a_station_whose_power_nobody_knows_has_no_figure_for_it() -> None:
    stop = spec("hot", "battery1.temperature_max_degc > 50", acts=(RuleAct("cp1", on=False),))
    _, summary, _ = asyncio.run(rehearsed((stop,), readings(HOT, (0, 55)), 100, every=False))
    assert summary.stations["cp1"].not_delivered_wh is None
    assert summary.stations["cp1"].off_s == pytest.approx(100, abs=1)


def test_a_piece_of_history_that_holds_nothing_new_is_passed_over() -> None:
    stop = spec("hot", "battery1.temperature_max_degc > 50", acts=(RuleAct("cp1", on=False),))
    rows = readings(HOT, (0, 55), (10, 55), (20, 55), (30, 40))
    told, summary, _ = asyncio.run(rehearsed((stop,), rows, 100, every=False, pieces=4))
    assert [one.kind for one in told if one.subject == "hot"] == ["alarm.raised", "alarm.cleared"]
    assert summary.rules["hot"].active_s == pytest.approx(30, abs=2)


def test_what_was_stored_as_it_is_counts_as_heard_until_it_is_unknown() -> None:
    """Nothing is stored for hours where nothing changes; the device is not silent for that."""
    silent = spec("silent", "silent(battery1, 60s)")
    told, *_ = asyncio.run(rehearsed((silent,), readings(HOT, (0, 30), (3000, None)), 3600, every=False))
    (raised,) = told
    assert raised.kind == "alarm.raised"
    assert (raised.t_us - NOON_US) / 1e6 == pytest.approx(3060, abs=2)


def test_between_two_runs_of_the_gateway_nothing_is_known() -> None:
    unsure = spec("unsure", "battery1.temperature_max_degc > 50", unknown="raise")
    rows = readings(HOT, (0, 30), (20, 31), (200, 32), (300, 33))
    told, *_ = asyncio.run(rehearsed((unsure,), rows, 400, every=False, pieces=2, boots=lambda number: number))
    assert [(one.kind, one.t_us - NOON_US) for one in told] == [
        ("alarm.raised", 21 * SECOND_US),
        ("alarm.cleared", 200 * SECOND_US),
    ]


def test_it_may_come_to_stand_as_it_stood_before_anything_is_told() -> None:
    hot = spec("hot", "battery1.temperature_max_degc > 50", acts=(RuleAct("cp1", on=False),))
    rows = readings(HOT, (0, 55), (50, 60), (150, 58), (200, 40))
    told, summary, _ = asyncio.run(rehearsed((hot,), rows, 300, every=False, pieces=2, begin_s=100))
    assert [one.kind for one in told if one.subject == "hot"] == ["alarm.cleared"]
    assert (summary.rules["hot"].raised, summary.seconds) == (0, 200)
    assert summary.stations["cp1"].off_s == pytest.approx(100, abs=3)


def test_a_signal_that_had_another_meaning_then_is_read_in_that_one() -> None:
    tenths = Signal("battery1", "temperature_max_degc", "°C", scale=0.1, id=1)
    whole = Signal("battery1", "temperature_max_degc", "°C", id=2)
    hot = spec("hot", "battery1.temperature_max_degc > 50")
    rows = [*readings(tenths, (0, 30), (50, 55), (60, 49)), *readings(whole, (100, 49), (150, 51))]
    told, *_ = asyncio.run(rehearsed((hot,), rows, 200, every=False, signals=(tenths, whole)))
    assert [(one.kind, (one.t_us - NOON_US) / 1e6) for one in told] == [
        ("alarm.raised", 50),
        ("alarm.cleared", 60),
        ("alarm.raised", 150),
    ]


def test_an_outlet_is_off_with_its_charger() -> None:
    device = ObedientDevice({"charging_enabled": Setting("cp1", "charging_enabled", "", 0, 1)})
    assert not device.is_off(2)
    asyncio.run(device.set("charging_enabled.2", 0))
    assert (device.is_off(0), device.is_off(1), device.is_off(2)) == (False, False, True)
    asyncio.run(device.set("current_limit_a", 0))
    assert (device.is_off(0), device.is_off(1)) == (True, True)
