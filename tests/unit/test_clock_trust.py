"""Whether the clock is believed: at the start, when it is set, and what a jump does then."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from agent.clock_trust import AHEAD_US, HOLD_S, KEEP_S, WAIT_S, ClockTrust, Sources, machine_sources
from agent.core.clock import GOOD_CLOCK_US, FakeClock, HeldClock, battery_clock, is_set
from agent.core.errors import StoreError
from agent.core.model import Event

NOW_US = GOOD_CLOCK_US + 200 * 86_400_000_000
YEAR_S = 365 * 86400.0


class House:
    """A clock that is watched, what is known of it, and what the store and the ledger are told."""

    def __init__(
        self, now_us: int, *, believed_us: int = 0, synced: bool | None = False, expected: bool = False
    ) -> None:
        self.machine = FakeClock(now_us)
        self.clock = HeldClock(self.machine)
        self.synced, self.expected = synced, expected
        self.trust = ClockTrust(self.clock, Sources(lambda: self.synced, lambda: self.expected))
        self.events: list[Event] = []
        self.corrected: list[tuple[int, int]] = []
        self.believed: list[int] = []
        self.twice: list[tuple[int, int]] = []
        self.disk: StoreError | None = None
        self.trust.begin(believed_us)

    def set_clock(self, offset_us: int, now_us: int, let_go: Callable[[], None]) -> Future[None]:
        future: Future[None] = Future()
        if self.disk is not None:
            future.set_exception(self.disk)
        else:
            self.corrected.append((offset_us, now_us))
            let_go()
            future.set_result(None)
        return future

    async def show_twice(self, from_us: int, to_us: int) -> None:
        self.twice.append((from_us, to_us))

    def believe(self, now_us: int) -> Future[None]:
        self.believed.append(now_us)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def go(self, seconds: float) -> None:
        """Time passes, and the clock is looked at once a second."""

        async def ticks() -> None:
            for _ in range(round(seconds)):
                self.machine.advance(1)
                await self.trust.tick(self, self.events.append)

        asyncio.run(ticks())

    def good(self) -> bool:
        return self.trust.good

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.mark.parametrize(
    ("now_us", "believed_us", "why"),
    [
        (NOW_US, 0, ""),
        (NOW_US, NOW_US, ""),
        (NOW_US, NOW_US - 3 * AHEAD_US // 10, ""),  # three years in a store room
        (NOW_US, NOW_US + 1_000_000, "1 s behind"),
        (5_000_000, 0, "before this program"),
        (GOOD_CLOCK_US - 1, 0, "before this program"),
        (GOOD_CLOCK_US + AHEAD_US + 1, 0, "ten years ahead"),
    ],
)
def test_a_clock_is_judged_at_the_start(now_us: int, believed_us: int, why: str) -> None:
    house = House(now_us, believed_us=believed_us)
    assert house.good() is (not why)
    assert why in house.trust.reason
    assert is_set(house.clock) is (not why)


def test_who_knows_it_from_the_network_is_believed_whatever_was_before() -> None:
    assert House(NOW_US, believed_us=NOW_US + 10**15, synced=True).good()
    assert not House(5_000_000, synced=True).good(), "no time server says 1970"


def test_without_a_network_and_without_a_word_from_the_kernel_a_plausible_clock_is_good() -> None:
    house = House(NOW_US, synced=None)
    house.go(3)
    assert house.good()
    assert house.events == []


def test_a_time_service_that_is_there_is_waited_for_but_not_for_ever() -> None:
    house = House(NOW_US, expected=True)
    house.go(WAIT_S - 1)
    assert not house.good()
    house.go(HOLD_S + 2)
    assert house.good(), "a site without a network is never kept waiting"
    assert house.corrected == [(0, house.corrected[0][1])]


def test_wall_time_runs_straight_on_until_it_is_believed() -> None:
    house = House(5_000_000)
    house.go(30)
    assert house.clock.now_us() == 35_000_000
    house.machine.jump_wall(-4)
    assert house.clock.now_us() == 35_000_000
    house.machine.jump_wall((NOW_US - house.machine.now_us()) / 1e6)
    assert house.clock.now_us() == 35_000_000
    house.synced = True
    house.go(1)
    assert house.clock.now_us() == NOW_US + 1_000_000
    assert house.corrected == [(NOW_US - 35_000_000, 36_000_000)]
    assert house.kinds == ["clock.set"]
    assert house.events[0].data == {"by": "synchronised", "offset_us": NOW_US - 35_000_000}


def test_a_step_to_a_possible_time_must_hold() -> None:
    house = House(5_000_000, believed_us=NOW_US)
    house.machine.jump_wall((NOW_US - house.machine.now_us()) / 1e6)
    house.go(HOLD_S - 1)
    house.machine.jump_wall(100)  # and once more: whoever sets it is not done
    house.go(HOLD_S)
    assert not house.good()
    house.go(1)
    assert house.good()


def test_a_step_that_lands_before_what_was_believed_is_none() -> None:
    house = House(5_000_000, believed_us=NOW_US)
    house.machine.jump_wall((NOW_US - 3_600_000_000 - house.machine.now_us()) / 1e6)
    house.go(60)
    assert "behind" in house.trust.reason
    house.go(3600)
    assert house.good(), "it has come to where it was"
    assert house.twice == [(NOW_US - 3_600_000_000, NOW_US)]


def test_who_sets_it_far_back_by_hand_knows_better() -> None:
    house = House(NOW_US, believed_us=NOW_US + 4 * AHEAD_US // 10)
    house.go(60)
    assert not house.good()
    house.machine.jump_wall(3600)
    house.go(HOLD_S + 1)
    assert house.good()
    house.go(KEEP_S)
    assert house.believed[-1] < NOW_US + 10**10, "and the next start goes by that"


@pytest.mark.parametrize("by_s", [-YEAR_S, YEAR_S, -3600.0, 3600.0, -2.0])
@pytest.mark.announced_warnings
def test_a_jump_of_a_believed_clock_is_told_once_and_changes_nothing_else(by_s: float) -> None:
    house = House(NOW_US)
    house.go(5)
    house.machine.jump_wall(by_s)
    house.go(5)
    assert [(event.kind, event.data) for event in house.events] == [("clock.jumped", {"by_s": by_s})]
    assert house.good()
    assert house.trust.jumps == 1
    assert house.corrected == []
    assert house.believed[-1] == round(NOW_US + 6e6 + by_s * 1e6)
    at_us = NOW_US + 6_000_000
    assert house.twice == ([(at_us + round(by_s * 1e6), at_us)] if by_s < 0 else [])


def test_slewing_and_a_leap_second_are_no_jumps() -> None:
    house = House(NOW_US)
    for _ in range(100):
        house.machine.jump_wall(0.0005)  # 500 ppm, as fast as the kernel slews
        house.go(1)
    house.machine.jump_wall(-1)
    house.go(5)
    assert house.events == []


def test_a_store_whose_queue_is_full_is_asked_again() -> None:
    house = House(5_000_000)
    house.disk = StoreError("store", "full")
    house.synced = True
    house.machine.jump_wall((NOW_US - house.machine.now_us()) / 1e6)
    house.go(3)
    assert not house.good()
    house.disk = None
    house.go(1)
    assert house.good()
    assert house.kinds == ["clock.set"]


@pytest.mark.announced_warnings
def test_control_does_not_wait_for_a_disk() -> None:
    house = House(5_000_000, synced=True)
    house.machine.jump_wall((NOW_US - house.machine.now_us()) / 1e6)
    stuck: Future[None] = Future()

    async def check(patch: pytest.MonkeyPatch) -> None:
        patch.setattr("agent.clock_trust.STORE_S", 0.01)
        patch.setattr(house, "set_clock", lambda *_: stuck)
        await house.trust.tick(house, house.events.append)

    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(check(patch))
    assert house.good()
    stuck.cancel()


@pytest.mark.announced_warnings
def test_both_edges_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    house = House(5_000_000)

    async def check() -> None:
        task = asyncio.create_task(house.trust.run(house, house.events.append))
        for _ in range(20):
            await asyncio.sleep(0)
            house.machine.advance(1)
        house.machine.jump_wall((NOW_US - house.machine.now_us()) / 1e6)
        house.synced = True
        for _ in range(20):
            await asyncio.sleep(0)
            house.machine.advance(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.INFO):
        asyncio.run(check())
    assert house.kinds == ["clock.unset", "clock.set"]
    assert "before this program" in str(house.events[0].data["reason"])
    assert [record.levelname for record in caplog.records if record.name == "agent.clock_trust"] == ["WARNING", "INFO"]


def test_what_a_machine_says(tmp_path: Path) -> None:
    run, sys = tmp_path / "run", tmp_path / "sys"
    sources = machine_sources(run, sys)
    assert not sources.expected(), "no time service runs"
    (run / "systemd" / "timesync").mkdir(parents=True)
    battery = sys / "class" / "rtc" / "rtc0" / "hctosys"
    battery.parent.mkdir(parents=True)
    battery.write_text("0\n")
    assert not battery_clock(sys)
    assert sources.expected() is (not sources.synchronised())
    battery.write_text("1\n")
    assert battery_clock(sys)
    assert not sources.expected()
    battery.unlink()
    (run / "systemd" / "timesync" / "synchronized").touch()
    assert sources.synchronised() is True
    assert not sources.expected()
