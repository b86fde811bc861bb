"""Flash wear: who wrote how much, by day, and what that makes on the mean."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.store import schema, wear
from agent.store.wear import DAY_US, Meter

DAY = 20_000
NOON_US = DAY * DAY_US + DAY_US // 2


class Counters:
    """What Linux would tell: of the writer's thread, and of the whole process."""

    def __init__(self) -> None:
        self.thread = 0
        self.process: int | None = 1000

    def write(self, bytes_: int) -> None:
        """The thread writes."""
        self.thread += bytes_
        self.process = (self.process or 0) + bytes_


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    found = Counters()
    monkeypatch.setattr(wear, "process_bytes", lambda: found.process)
    monkeypatch.setattr(Meter, "_thread_bytes", lambda _: found.thread)
    return found


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        schema.migrate(opened)
        yield opened


def test_each_component_has_what_was_written_since_the_one_before(
    counters: Counters, connection: sqlite3.Connection
) -> None:
    meter = Meter()
    for component, bytes_ in (("telemetry", 100), ("records", 20), ("telemetry", 3)):
        counters.write(bytes_)
        meter.note(component)
    assert counters.process is not None
    counters.process += 7  # another thread
    meter.save(connection, NOON_US)
    assert wear.read(connection, NOON_US).days == {DAY: {"other": 7, "records": 20, "telemetry": 103}}
    meter.save(connection, NOON_US)  # nothing twice
    counters.write(1)
    meter.note("upkeep")
    meter.save(connection, NOON_US + DAY_US)
    assert wear.read(connection, NOON_US).days == {
        DAY: {"other": 7, "records": 20, "telemetry": 103},
        DAY + 1: {"upkeep": 1},
    }
    assert meter.sums == {"telemetry": 103, "records": 20, "other": 7, "upkeep": 1}


def test_the_log_is_counted_up_to_its_copying(counters: Counters) -> None:
    meter = Meter()
    counters.write(100)
    meter.note("telemetry")
    counters.write(50)
    meter.note("upkeep")
    assert meter.log_bytes == 150
    counters.write(4000)
    meter.note("checkpoint")
    assert meter.log_bytes == 0


def test_what_could_not_be_saved_is_saved_later(counters: Counters, connection: sqlite3.Connection) -> None:
    meter = Meter()
    counters.write(100)
    meter.note("telemetry")
    connection.execute("PRAGMA query_only = 1")
    with pytest.raises(sqlite3.Error):
        meter.save(connection, NOON_US)
    connection.execute("PRAGMA query_only = 0")
    meter.save(connection, NOON_US)
    assert wear.read(connection, NOON_US).days == {DAY: {"telemetry": 100}}


def test_the_mean_is_of_time_that_passed_and_of_seven_days_at_most(
    counters: Counters, connection: sqlite3.Connection
) -> None:
    meter = Meter()
    for day in range(20):
        counters.write(1000 if day < 10 else 3000)
        meter.note("telemetry")
        meter.save(connection, NOON_US + day * DAY_US)
        mean = wear.read(connection, NOON_US + day * DAY_US).bytes_a_day
        if day == 0:
            assert mean is None
        if day == 1:
            assert mean == pytest.approx(2000)  # both days' in one day: the first began at noon
    found = wear.read(connection, NOON_US + 19 * DAY_US)
    assert found.day_bytes["telemetry"] == pytest.approx(7 * 3000 / 6.5)
    assert found.since_us == NOON_US
    # A gateway that was switched off for two days wears nothing meanwhile.
    assert wear.read(connection, NOON_US + 21 * DAY_US).bytes_a_day == pytest.approx(5 * 3000 / 6.5)


def test_old_days_are_forgotten(counters: Counters, connection: sqlite3.Connection) -> None:
    meter = Meter()
    for day in (0, wear.KEPT_DAYS + 1):
        counters.write(1)
        meter.note("telemetry")
        meter.save(connection, NOON_US + day * DAY_US)
    assert list(wear.read(connection, NOON_US).days) == [DAY + wear.KEPT_DAYS + 1]


def test_a_system_that_does_not_say_is_not_guessed_at(counters: Counters, connection: sqlite3.Connection) -> None:
    counters.process = None
    meter = Meter()
    meter.note("telemetry")
    meter.save(connection, NOON_US)
    assert wear.read(connection, NOON_US + 2 * DAY_US) == wear.Wear(None, {}, {})
    assert meter.log_bytes == 0
