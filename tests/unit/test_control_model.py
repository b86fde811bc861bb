"""The station against a reference model of its own: what stands in the device is what the rules C1, C5 and C6 say."""

import asyncio
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.control.model import Origin, Wish
from agent.control.schedule import Act, ScheduleSpec
from agent.core.errors import Unavailable
from agent.core.model import Event
from tests.control_fakes import ENABLED, LIMIT, Rig, settle

STRONG = {Origin.INTERLOCK, Origin.SAFETY, Origin.GRID}
ISSUERS = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(Origin))
HOUR_S, DAY_S = 3600, 86400
#: What somebody may derive at once: whose, on, limit. None twice the same.
DERIVED = st.lists(
    st.tuples(st.sampled_from(Origin), st.sampled_from([None, True, False]), st.sampled_from([None, 0, 6, 16, 32])),
    max_size=3,
    unique=True,
).map(lambda found: [one for one in found if one[1:] != (None, None)])


@dataclass(frozen=True)
class Believed:
    """A wish as the model holds it: one entry for each issuer, origin and subject."""

    origin: Origin
    on: bool | None
    limit_a: float | None
    until_s: float


class StationAgainstModel(RuleBasedStateMachine):
    """Wishes come, run out and are taken back, the device goes away and comes back, the gateway restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        acts = (Act("cp1", set="toggle", limit_a=6),)  # what they may wish
        schedules = [ScheduleSpec(name, "0 0 1 1 *", acts=acts) for name in "ab"]
        self.rig = Rig(schedules=schedules)
        self.wishes: dict[tuple[str, Origin, str], Believed] = {}
        self.derived: dict[str, list[tuple[Origin, bool | None, float | None]]] = {}
        self.switches: list[tuple[float, bool, bool]] = []  # when, to on, a stop that protects
        self.on: bool | None = None  # what it was told last
        self.away = False
        self.touched = False
        self.jumped = False  # then times that outlive a restart are not those of the model

    def teardown(self) -> None:
        self.loop.run_until_complete(self.rig.service.close())
        self.loop.close()

    @initialize()
    def start(self) -> None:
        self.loop.run_until_complete(self.rig.start())
        self.rig.view.put("cp1.power_w", 0)

    @property
    def now_s(self) -> float:
        return self.rig.clock.monotonic_s()

    def live(self) -> list[Believed]:
        return [one for one in self.wishes.values() if one.until_s > self.now_s]

    def expected(self) -> tuple[bool | None, float | None]:
        """By the words of the rules, tier by tier."""
        on = None
        for origin in Origin:
            said = [one.on for one in self.live() if one.origin is origin and one.on is not None]
            if said:
                on = (False if origin in STRONG and False in said else said[-1]) if on is None else on
        limits = [one.limit_a for one in self.live() if one.origin in STRONG and one.limit_a is not None]
        for origin in Origin:
            soft = [one.limit_a for one in self.live() if one.origin is origin and one.limit_a is not None]
            if soft and origin not in STRONG:
                limits.append(soft[-1])
                break
        return on, min(limits, default=None)

    def go_on(self, *, tick: bool = False) -> None:
        async def turn() -> None:
            if tick:
                self.rig.service.tick()
            await settle(25)

        self.loop.run_until_complete(turn())
        for point, value in self.rig.charger.log:
            if point == ENABLED and bool(value) != self.on:
                if self.on is not None or not value:
                    self.switches.append((self.now_s, bool(value), self.protects()))
                self.on = bool(value)
            if point == LIMIT and self.on is None:
                self.on = True
        self.touched = self.touched or bool(self.rig.charger.log)
        self.rig.charger.log.clear()

    def protects(self) -> bool:
        low = min((one.limit_a for one in self.live() if one.limit_a is not None and one.origin in STRONG), default=99)
        origins = [one.origin for one in self.live() if one.on is not None]
        strongest = min(origins, default=None)
        off = any(one.on is False and one.origin is strongest for one in self.live())
        return low < 6 or (off and strongest in STRONG)

    @rule(
        issuer=ISSUERS,
        on=st.booleans(),
        for_s=st.sampled_from([None, 1, 59, 90, 3000]),
    )
    def switch(self, issuer: tuple[str, Origin], on: bool, for_s: float | None) -> None:  # noqa: FBT001 - drawn
        name, origin = issuer
        forbidden = self.expected()[0] is False and on and origin in {Origin.MANUAL, Origin.REMOTE}
        barred = forbidden and any(
            one.on is False and one.origin in {Origin.INTERLOCK, Origin.SAFETY} for one in self.strongest()
        )
        self.command("on" if on else "off", name, origin, for_s)
        if not barred:
            self.believe(name, origin, "on", Believed(origin, on, None, self.until(for_s)))

    def strongest(self) -> list[Believed]:
        opinions = [one for one in self.live() if one.on is not None]
        best = min((one.origin for one in opinions), default=None)
        return [one for one in opinions if one.origin is best]

    @rule(issuer=ISSUERS, limit_a=st.sampled_from([0, 6, 10, 32]), for_s=st.sampled_from([None, 1, 90]))
    def limit(self, issuer: tuple[str, Origin], limit_a: float, for_s: float | None) -> None:
        self.command("limit", *issuer, for_s, limit_a=limit_a)
        self.believe(*issuer, "limit", Believed(issuer[1], None, limit_a, self.until(for_s)))

    @rule(issuer=ISSUERS)
    def release(self, issuer: tuple[str, Origin]) -> None:
        self.command("release", *issuer, None)
        for subject in ("on", "limit"):
            self.wishes.pop((*issuer, subject), None)

    @rule(key=st.sampled_from(["alarm:x", "load"]), wanted=DERIVED)
    def derive(self, key: str, wanted: list[tuple[Origin, bool | None, float | None]]) -> None:
        """All under a key at once; what is said again keeps its place, in whatever order it comes."""
        self.tell_derived({key: wanted})
        self.believe_derived(key, wanted)

    def believe_derived(self, key: str, wanted: list[tuple[Origin, bool | None, float | None]]) -> None:
        for origin, on, limit_a in self.derived.get(key, []):
            if (origin, on, limit_a) not in wanted:
                del self.wishes[key, origin, f"{on} {limit_a}"]
        for origin, on, limit_a in wanted:
            self.wishes.setdefault((key, origin, f"{on} {limit_a}"), Believed(origin, on, limit_a, float("inf")))
        self.derived[key] = wanted

    def tell_derived(self, found: dict[str, list[tuple[Origin, bool | None, float | None]]]) -> None:
        async def tell() -> None:
            for key, wanted in found.items():
                wishes = [Wish("*", "", origin, on, limit_a) for origin, on, limit_a in wanted]
                self.rig.service._stations.derive(key, wishes)

        self.loop.run_until_complete(tell())

    @rule(seconds=st.sampled_from([1, 10, 60, 600]))
    def wait(self, seconds: int) -> None:
        for _ in range(min(seconds, 60)):
            self.rig.clock.advance(seconds / min(seconds, 60))
            if not self.away:
                self.rig.view.put("cp1.power_w", 0)
            self.go_on(tick=True)

    @rule(seconds=st.sampled_from([-7200, -60, 60, 7200]))
    def jump(self, seconds: int) -> None:
        self.jumped = True
        self.rig.clock.jump_wall(seconds)

    @precondition(lambda self: not self.away)
    @rule()
    def vanish(self) -> None:
        self.away = True
        self.rig.charger.fails = Unavailable("set", "the line is cut")

    @precondition(lambda self: self.away)
    @rule()
    def come_back(self) -> None:
        self.away = False
        self.rig.charger.fails = None
        self.rig.service.hear(Event("device.heard", 0, "cp1"))
        self.wait(1)

    @precondition(lambda self: not self.jumped)
    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.rig.service.close())
        self.rig = self.rig.restarted()
        self.loop.run_until_complete(self.rig.start())
        had, self.derived, before = self.derived, {}, dict(self.rig.charger.now)
        self.wishes = {who: one for who, one in self.wishes.items() if who[0] not in had}
        self.tell_derived(had)
        for key, wanted in had.items():
            self.believe_derived(key, wanted)
        self.loop.run_until_complete(settle(25))
        stopped = {**before, ENABLED: 0}
        assert self.rig.charger.now in ((before, stopped) if self.protects() else (before,)), "before the first tick"
        self.wait(1)

    @invariant()
    def the_device_has_what_is_decided(self) -> None:
        self.go_on()
        station = self.rig.service.station("cp1")
        assert station is not None
        on, limit_a = self.expected()
        assert (station.on, station.limit_a) == (on, limit_a)
        if self.away or not (self.live() or self.touched):
            assert self.touched or not self.rig.charger.now
            return
        self.go_on(tick=True)
        off = on is False or (limit_a is not None and limit_a < 6)
        have_off = self.rig.charger.now.get(ENABLED) == 0
        if off != have_off:
            assert self.must_wait(), "what nothing holds is done"
            return
        if not off and limit_a is not None:
            assert self.rig.charger.now[LIMIT] == limit_a

    @invariant()
    def it_is_not_switched_too_often(self) -> None:
        for place, (t_s, _, protects) in enumerate(self.switches):
            before = [one for one, _, _ in self.switches[:place]]
            if not protects and before:
                assert t_s - before[-1] >= 60
                assert sum(t_s - one < HOUR_S for one in before) < 6
                assert sum(t_s - one < DAY_S for one in before) < 60

    def must_wait(self) -> bool:
        times = [one for one, _, _ in self.switches]
        tried = self.rig.service._stations._runners["cp1"]._told.switched.at_s  # also those that the device never got
        times = sorted({*times, *tried})
        recent = bool(times) and self.now_s - times[-1] < 60
        return not self.protects() and (recent or sum(self.now_s - one < HOUR_S for one in times) >= 6)

    def command(self, action: str, name: str, origin: Origin, for_s: float | None, **args: object) -> None:
        if for_s is not None:
            args["for_s"] = for_s
        kind = "schedule" if origin is Origin.SCHEDULE else "user"
        command = replace(self.rig.command(action, f"{kind}:{name}", origin), args=args)
        self.loop.run_until_complete(self.rig.service.execute(command))

    def believe(self, name: str, origin: Origin, subject: str, wish: Believed) -> None:
        self.wishes.pop((name, origin, subject), None)
        self.wishes[name, origin, subject] = wish

    def until(self, for_s: float | None) -> float:
        return float("inf") if for_s is None else self.now_s + for_s


def check(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        StationAgainstModel,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_the_station_is_its_model() -> None:
    check(200, 12)


@pytest.mark.long
def test_the_station_is_its_model_in_ten_thousand_traces() -> None:
    check(10_000, 30)
