"""When the watchdog is fed, and when it is not: each that must live gets stuck, and comes round again."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from agent.alive import EXTEND_EVERY_S, GRACE_S, LOOK_S, OPENING_S, STUCK_S, Vitals, Watchman
from agent.core.clock import FakeClock
from agent.notify_systemd import ServiceManager
from tests.polled import pass_s

WATCHDOG_S = 30.0


@dataclass
class Rig:
    """A watchman over signs that the test moves."""

    clock: FakeClock = field(default_factory=FakeClock)
    told: list[tuple[float, str]] = field(default_factory=list)
    ages: dict[str, float | None] = field(default_factory=lambda: {"control": 0.0, "store": 0.0, "can0": None})
    lacks: str = ""
    line: str = "3 of 3 devices online, no alarms"

    def __post_init__(self) -> None:
        environ = {"WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}
        self.begun_s = self.clock.monotonic_s()
        self.manager = ServiceManager(self.clock, environ, self.hear)
        self.watchman = Watchman(self.manager, self.clock)
        self.vitals = Vitals(lambda: list(self.ages.items()), lambda: self.lacks, lambda: self.line)

    def hear(self, data: bytes) -> None:
        self.told.append((self.clock.monotonic_s() - self.begun_s, data.decode()))

    def times(self, word: str) -> list[float]:
        return [round(t_s, 3) for t_s, text in self.told if text == word]

    def statuses(self) -> list[str]:
        return [text.removeprefix("STATUS=") for _, text in self.told if text.startswith("STATUS=")]


def run(test: Callable[[Rig], Coroutine[object, object, None]], lacks: str = "") -> None:
    async def main() -> None:
        rig = Rig(lacks=lacks)
        watching = asyncio.create_task(rig.watchman.run(rig.vitals))
        try:
            await test(rig)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(main())


def test_it_is_fed_at_a_third_of_its_time_while_all_is_well() -> None:
    async def test(rig: Rig) -> None:
        await pass_s(rig.clock, 60)
        fed = rig.times("WATCHDOG=1")
        assert fed[0] == 0
        assert max(later - former for former, later in pairwise(fed)) <= WATCHDOG_S / 3 + LOOK_S
        assert rig.times("WATCHDOG=trigger") == []

    run(test)


@pytest.mark.announced_warnings
@pytest.mark.parametrize("who", ["control", "can0"])
def test_whoever_is_stuck_stops_the_feed_and_is_named_before_it_acts(
    who: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(rig: Rig) -> None:
        await pass_s(rig.clock, 10)
        rig.ages[who] = STUCK_S + 1
        stuck_s = 10.0
        await pass_s(rig.clock, 60)
        assert max(rig.times("WATCHDOG=1")) <= stuck_s + LOOK_S
        named = [t_s for t_s, text in rig.told if text.startswith(f"STATUS=stuck: {who}")]
        assert len(named) == 1
        (acted_s,) = rig.times("WATCHDOG=trigger")
        assert named[0] + GRACE_S <= acted_s <= named[0] + GRACE_S + LOOK_S
        assert [one.message for one in caplog.records if "stuck" in one.message] == [
            f"{who} is stuck: it has shown nothing for {STUCK_S + 1:.0f} s"
        ]

    run(test)


def test_from_the_fault_to_the_act_it_takes_less_than_the_45_s_that_are_wanted() -> None:
    assert STUCK_S + LOOK_S + GRACE_S + LOOK_S < 45


@pytest.mark.announced_warnings
def test_who_comes_round_in_time_is_forgiven(caplog: pytest.LogCaptureFixture) -> None:
    async def test(rig: Rig) -> None:
        caplog.set_level("INFO")
        await pass_s(rig.clock, 10)
        rig.ages["store"] = STUCK_S + 1
        await pass_s(rig.clock, LOOK_S + 0.5)
        rig.ages["store"] = 0.0
        await pass_s(rig.clock, 30)
        assert rig.times("WATCHDOG=trigger") == []
        assert max(rig.times("WATCHDOG=1")) > 35
        assert rig.statuses()[-1] == rig.line
        assert "store is at work again" in [one.message for one in caplog.records]

    run(test)


@pytest.mark.announced_warnings
def test_it_acts_again_when_somebody_gets_stuck_again() -> None:
    async def test(rig: Rig) -> None:
        for _ in range(2):
            rig.ages["store"] = STUCK_S + 1
            await pass_s(rig.clock, 20)
            rig.ages["store"] = 0.0
            await pass_s(rig.clock, 20)
        assert len(rig.times("WATCHDOG=trigger")) == 2

    run(test)


def test_after_a_pause_of_the_whole_process_nobody_is_judged_before_his_turn() -> None:
    async def test(rig: Rig) -> None:
        await pass_s(rig.clock, 10)
        rig.ages["store"] = rig.ages["control"] = 100.0
        rig.clock.advance(100)  # stopped: everybody's last sign is as old
        await pass_s(rig.clock, 0.1)
        rig.ages["store"] = rig.ages["control"] = 0.0
        await pass_s(rig.clock, 10)
        assert not any("stuck" in text for _, text in rig.told)

    run(test)


def test_it_is_ready_when_nothing_is_missing_and_says_what_it_waits_for() -> None:
    async def test(rig: Rig) -> None:
        await pass_s(rig.clock, 300)
        assert rig.times("READY=1") == []
        extended = [t_s for t_s, text in rig.told if text.startswith("EXTEND_TIMEOUT_USEC=")]
        assert max(later - former for former, later in pairwise(extended)) < EXTEND_EVERY_S + 1
        assert rig.statuses() == ["starting: the API (Address already in use)"]
        rig.lacks = ""
        await pass_s(rig.clock, 10)
        (ready_s,) = rig.times("READY=1")
        assert 300 <= ready_s < 301
        assert rig.statuses()[-1] == rig.line

    run(test, "the API (Address already in use)")


@pytest.mark.announced_warnings
def test_a_start_that_is_stuck_is_extended_no_more() -> None:
    async def test(rig: Rig) -> None:
        await pass_s(rig.clock, 20)
        rig.ages["store"] = STUCK_S + 1
        await pass_s(rig.clock, 1)
        told = len(rig.told)
        await pass_s(rig.clock, 60)
        assert [text for _, text in rig.told[told:]] == ["WATCHDOG=trigger"]

    run(test, "control")


def test_opening_extends_the_start_but_not_for_ever() -> None:
    async def main() -> None:
        rig = Rig()
        opening = asyncio.create_task(rig.watchman.opening())
        await pass_s(rig.clock, 2 * OPENING_S)
        assert opening.done()
        extended = [t_s for t_s, text in rig.told if text.startswith("EXTEND_TIMEOUT_USEC=")]
        assert len(extended) == OPENING_S / EXTEND_EVERY_S
        assert max(extended) < OPENING_S
        assert rig.statuses() == ["opening the store"]

    asyncio.run(main())
