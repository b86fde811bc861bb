"""The store while the clock is not set, and what becomes of it: put right once, under one content."""

import asyncio
import sqlite3
from array import array
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.core.blocks import decode_rows
from agent.core.clock import FakeClock, HeldClock
from agent.core.model import Batch, Encoding, Event, Kind, Session, SignalSpec
from agent.core.ports import StoredBlock
from agent.store import boots, correcting, sealing
from agent.store.db import Store
from agent.store.energy import Level
from agent.store.opening import connect
from agent.store.posting import Posting
from agent.store.rollup import HOUR_US, MINUTE_US
from agent.store.settings import StoreSettings
from agent.store.transaction import transaction

WAIT_S = 60.0
RIGHT_US = 1_800_000_000_000_000 // HOUR_US * HOUR_US
DAY_US = 24 * HOUR_US
#: How far the clock is off when the gateway starts: 1970, a year, an hour, some seconds; behind and ahead.
OFF_US = [-RIGHT_US, -365 * DAY_US, -HOUR_US - 17, -5_000_000, 5_000_000, HOUR_US + 17, 365 * DAY_US]


@dataclass
class Gateway:
    """A store over a clock that is off by some time until somebody sets it, and what truly was."""

    path: Path
    off_us: int
    true: list[tuple[int, int]] = field(default_factory=list)
    left: dict[int, tuple[int, bytes]] = field(default_factory=dict)  #: what may have left: seq -> (first, bytes)
    sending: bool = False

    def start(self) -> None:
        self.machine = FakeClock(RIGHT_US + self.off_us)
        self.clock = HeldClock(self.machine)
        self.store = Store.open(self.path, self.clock, StoreSettings(seal_s=1e9))
        self.signal = self.store.assign([SignalSpec("m", "energy_import_wh", "Wh", Kind.COUNTER)])[0].id

    @property
    def right_us(self) -> int:
        return self.machine.now_us() - (0 if self.set else self.off_us)

    @property
    def set(self) -> bool:
        return self.clock.trusted()

    def put(self, rows: int) -> None:
        for _ in range(rows):
            self.machine.advance(7)
            self.true.append((self.right_us, len(self.true)))
            times, words = array("q", [self.clock.now_us()]), array("q", [self.true[-1][1]])
            self.store.append(Batch(array("i", [self.signal]), times, words))
        self.store.flush().result(WAIT_S)

    def set_clock(self) -> None:
        if not self.set:
            self.machine.jump_wall(-self.off_us / 1e6)
            now_us = self.clock.now_us()
            self.store.set_clock(self.machine.now_us() - now_us, now_us, self.clock.let_go).result(WAIT_S)

    def connect(self) -> None:
        self.store.hold("telemetry", None).result(WAIT_S)
        self.sending = True
        self.look()

    def look(self) -> None:
        """Send all that is there; nothing leaves under two contents."""
        for one in self.blocks():
            for seq, (first_seq, data) in self.left.items():
                if seq > self.store.acked("telemetry") and one.first_seq <= seq and first_seq <= one.seq:
                    assert (one.first_seq, one.seq, one.data) == (first_seq, seq, data)
            if self.sending:
                self.left[one.seq] = (one.first_seq, one.data)

    def blocks(self) -> list[StoredBlock]:
        return self.store.blocks(self.store.acked("telemetry"), 10_000)

    def disconnect(self) -> None:
        if self.sending:
            self.look()
            self.store.hold("telemetry", max(self.left, default=0)).result(WAIT_S)
            self.sending = False

    def ack(self) -> None:
        if self.left:
            self.store.ack("telemetry", max(self.left), at_once=True).result(WAIT_S)

    def tidy(self) -> None:
        self.store.maintain().result(WAIT_S)

    def rows(self) -> list[tuple[int, int]]:
        """All rows as the store shows them, in the order in which they came."""
        found = [(t_us, int(value or 0)) for t_us, _, value in self.store.rows([self.signal], 0, 2 * RIGHT_US)]
        return sorted(found, key=lambda row: row[1])

    def rolled(self, level: Level, width_us: int) -> dict[int, tuple[float, float, float, int]]:
        found = self.store.rolled([self.signal], level, [(0, 2 * RIGHT_US // HOUR_US * HOUR_US)])[self.signal]
        columns = (found.t_us, found.lo, found.hi, found.last, found.count)
        assert set(found.width_us.tolist()) <= {width_us}
        return {t: tuple(rest) for t, *rest in zip(*(one.tolist() for one in columns), strict=True)}

    def expected(self, width_us: int) -> dict[int, tuple[float, float, float, int]]:
        result: dict[int, tuple[float, float, float, int]] = {}
        for t_us, value in self.true:
            lo, _, _, count = result.get(t_us // width_us * width_us, (value, 0, 0, 0))
            result[t_us // width_us * width_us] = (lo, value, value, count + 1)
        return result

    def check_all_is_right(self) -> None:
        assert self.rows() == self.true
        levels: tuple[tuple[Level, int], ...] = (("minute", MINUTE_US), ("hour", HOUR_US))
        for level, width_us in levels:
            assert self.rolled(level, width_us) == self.expected(width_us)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 12)),
        st.tuples(st.sampled_from(["connect", "disconnect", "ack", "tidy", "look"]), st.just(0)),
    ),
    max_size=12,
)


def do(gateway: Gateway, steps: Sequence[tuple[str, int]]) -> None:
    for step, count in steps:
        if step == "put":
            gateway.put(count)
        else:
            getattr(gateway, step)()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(off_us=st.sampled_from(OFF_US), before=STEPS, after=STEPS)
# What may have left stays hot, what came behind it was sealed: the roll-ups took the earlier row for the last one.
@example(off_us=-RIGHT_US, before=[("connect", 0), ("disconnect", 0), ("put", 1), ("tidy", 0)], after=[])
def test_what_was_stored_before_the_clock_was_set_is_put_right_and_leaves_under_one_content(
    tmp_path_factory: pytest.TempPathFactory, off_us: int, before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    gateway = Gateway(tmp_path_factory.mktemp("clock") / "enlace.db", off_us)
    gateway.start()
    with closing(gateway.store):
        gateway.put(3)
        do(gateway, before)
        assert gateway.store.rolled([gateway.signal], "hour", [(0, 2 * RIGHT_US)])[gateway.signal].count.sum() == 0
        gateway.set_clock()
        do(gateway, after)
        gateway.look()
        gateway.disconnect()
        gateway.tidy()
        gateway.check_all_is_right()  # also while some of it is not acknowledged
        gateway.look()
        gateway.ack()
        gateway.tidy()
        gateway.check_all_is_right()
    with closing(connect(gateway.path)) as connection:
        acked = connection.execute("SELECT ifnull(max(acked), 0) FROM cursor").fetchone()[0]
        assert connection.execute("SELECT count(*) FROM block WHERE clock <> 0 AND seq <= ?", (acked,)).fetchone() == (
            0,
        )


def test_a_central_server_that_reads_the_event_has_the_same_times(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "enlace.db", -365 * DAY_US)
    gateway.start()
    with closing(gateway.store) as store:
        store.record(Event("device.online", gateway.clock.now_us(), "m")).result(WAIT_S)
        gateway.put(5)
        gateway.connect()
        sent = gateway.blocks()
        gateway.set_clock()
        gateway.put(5)
        sent += gateway.blocks()[len(sent) :]
        store.record(Event("device.offline", gateway.clock.now_us(), "m")).result(WAIT_S)
        events = store.events(0, 10)
    assert [one.clock_set for one in sent] == [False, True]
    assert [(one.event.kind, one.clock_set) for one in events] == [
        ("device.online", False),
        ("clock.corrected", True),
        ("device.offline", True),
    ]
    told = events[1].event.data
    assert told["boot"] == store.boot == sent[0].boot
    correction = boots.Correction(*(int(str(told[name])) for name in ("offset_us", "from_us", "to_us")))
    times = [t_us if one.clock_set else correction.time(t_us) for one in sent for _, t_us, _ in decode_rows(one.data)]
    assert times == [t_us for t_us, _ in gateway.true]
    assert correction.time(events[0].event.t_us) == RIGHT_US
    assert events[1].event.t_us >= RIGHT_US


def test_a_boot_whose_clock_was_never_set_stays_marked_and_is_not_purged(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "enlace.db", -RIGHT_US)
    gateway.start()
    with closing(gateway.store):
        gateway.put(30)
        gateway.tidy()
    before = gateway.true
    gateway.true, gateway.off_us = [], 0
    machine = FakeClock(RIGHT_US)
    with closing(Store.open(gateway.path, machine, StoreSettings(raw_age_s=86400.0))) as store:
        store.append(Batch([gateway.signal], [machine.now_us()], [7]))
        store.flush().result(WAIT_S)
        for _ in range(3):
            machine.advance(3700)
            store.maintain().result(WAIT_S)
        found = [row[0] for row in store.rows([gateway.signal], 0, 2 * RIGHT_US)]
        assert found == [t_us - RIGHT_US for t_us, _ in before] + [RIGHT_US], "nobody knows when that was"
        assert [one.clock_set for one in store.blocks(0, 10)] == [False, True]
        assert store.rolled([gateway.signal], "hour", [(0, 2 * RIGHT_US)])[gateway.signal].count.tolist() == [1]


def test_sessions_that_began_before_the_clock_was_set_are_put_right_also_from_a_drivers_memory(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "enlace.db", -365 * DAY_US)
    gateway.start()

    async def check(store: Store) -> None:
        machine, clock = gateway.machine, gateway.clock
        # From a charger that kept the right time while the gateway did not: its times stay.
        other, _ = await store.begin(Session(device="cp2", outlet=1, key="k2", start_us=RIGHT_US - HOUR_US))
        begun, _ = await store.begin(Session(device="cp1", outlet=1, key="k1", start_us=clock.now_us()))
        machine.advance(60)
        begun = replace(begun, last_wh=5.0, last_us=clock.now_us())
        await store.change(begun)
        gateway.set_clock()
        stored = store.session(begun.id)
        assert stored is not None
        assert (stored.start_us, stored.last_us) == (RIGHT_US, RIGHT_US + 60_000_000)
        machine.advance(60)
        await store.change(replace(begun, stop_us=clock.now_us(), energy_wh=9.0))
        stored = store.session(begun.id)
        assert stored is not None
        assert (stored.start_us, stored.last_us, stored.stop_us) == (
            RIGHT_US,
            RIGHT_US + 60_000_000,
            RIGHT_US + 120_000_000,
        )
        late, _ = await store.begin(Session(device="cp1", outlet=1, key="k3", start_us=clock.now_us()))
        assert late.start_us == clock.now_us()
        assert store.session(other.id) == other

    with closing(gateway.store) as store:
        asyncio.run(check(store))


def test_what_clients_post_bears_their_times(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "enlace.db", -3 * HOUR_US)
    gateway.start()
    with closing(gateway.store) as store:
        gateway.put(2)
        at_us = RIGHT_US - 2 * HOUR_US - 30 * MINUTE_US  # the wrong clock shows that time as well
        gateway.machine.advance(HOUR_US / 1e6)
        store.post(Posting(["m"], [at_us], [1], [gateway.signal], [99])).result(WAIT_S)
        gateway.set_clock()
        gateway.tidy()
        assert gateway.rows() == [*gateway.true, (at_us, 99)]


def test_what_a_driver_still_held_when_the_clock_was_set_is_put_right(tmp_path: Path) -> None:
    for number, off_us in enumerate(OFF_US):
        gateway = Gateway(tmp_path / f"{number}.db", off_us)
        gateway.start()
        with closing(gateway.store) as store:
            gateway.put(2)
            stamped_us, true_us = gateway.clock.now_us(), gateway.right_us
            gateway.set_clock()
            store.append(Batch(array("i", [gateway.signal]), array("q", [stamped_us]), array("q", [2])))
            gateway.true.append((true_us, 2))
            gateway.put(2)
            gateway.tidy()
            gateway.check_all_is_right()


class _Killed(BaseException):
    """The process ends here."""


class Mortal(sqlite3.Connection):
    """Dies before its n-th statement; what was not committed is gone."""

    left = 10**9

    def _live(self) -> None:
        Mortal.left -= 1
        if Mortal.left < 0:
            raise _Killed

    def execute(self, *arguments: Any) -> sqlite3.Cursor:  # noqa: ANN401 - whatever sqlite3 takes
        self._live()
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:  # noqa: ANN401 - as above
        self._live()
        return super().executemany(*arguments)


def put_right(connection: sqlite3.Connection, signal: int) -> None:
    """What a pass of the upkeep does."""
    encodings = {signal: Encoding.INT}
    for marked in correcting.due(connection):
        correcting.put_right(connection, marked, encodings, 1, RIGHT_US)
    for group in sealing.groups(connection, 2**62, 4):
        sealing.work_on(connection, group, encodings, 1, RIGHT_US)


def test_killed_at_any_statement_it_is_done_once_or_not_at_all(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "enlace.db", -365 * DAY_US)
    gateway.start()
    with closing(gateway.store) as store:
        gateway.put(6)
        gateway.tidy()  # sealed with its mark
        gateway.connect()
        gateway.put(3)
        gateway.disconnect()  # and some that may have left
        gateway.put(3)  # and some that surely did not
        now_us, boot = gateway.clock.now_us(), store.boot
    image = gateway.path.read_bytes()
    died, deaths = True, 0
    while died:
        path = tmp_path / f"killed{deaths}.db"
        path.write_bytes(image)
        mortal = sqlite3.connect(path, factory=Mortal, isolation_level=None)
        Mortal.left, died = deaths, False
        with closing(mortal), suppress(_Killed):
            died = True
            with transaction(mortal):
                boots.correct(mortal, 1, -gateway.off_us, now_us)
            put_right(mortal, gateway.signal)
            died = False
        Mortal.left = 10**9
        with closing(connect(path)) as again:
            corrected = again.execute("SELECT clock FROM boot WHERE boot = ?", (boot,)).fetchone() == ("corrected",)
            put_right(again, gateway.signal)
            again.execute("UPDATE cursor SET acked = 2 * acked + sent + 1000, sending = 0")
            put_right(again, gateway.signal)
            put_right(again, gateway.signal)
        check_file(gateway, path, corrected=corrected)
        path.unlink()
        deaths += 1
    assert deaths >= 30
    assert corrected


def check_file(gateway: Gateway, path: Path, *, corrected: bool) -> None:
    with closing(Store.open(path, FakeClock(RIGHT_US), StoreSettings(seal_s=1e9))) as store:
        found = replace(gateway, path=path, true=gateway.true)
        found.store, found.signal = store, gateway.signal
        if corrected:
            found.check_all_is_right()
        else:
            assert found.rows() == [(t_us + gateway.off_us, value) for t_us, value in gateway.true]
            assert found.rolled("minute", MINUTE_US) == {}
