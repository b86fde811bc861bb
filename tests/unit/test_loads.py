"""Load management over time: overload, silence, restarts, turns, batteries, and what it says."""

from collections.abc import Callable

import pytest

from agent.control.load_inputs import EQUAL, Battery, read_grid
from agent.control.load_model import LoadSettings, StationShare
from agent.control.loads import LoadManager
from agent.control.model import Origin
from agent.control.sharing import Need
from agent.control.station import Target
from agent.core.model import Number
from tests.control_fakes import ENABLED, LIMIT, FakeDevice, Rig, run
from tests.load_site import Charger, Site

THREE = (1, 2, 3)


def steady(base_a: float) -> Callable[[float, int], float]:
    return lambda now_s, phase: base_a


def on_known_phases(chargers: list[Charger], limit_a: float, **more: object) -> LoadSettings:
    shares = tuple(StationShare(one.id, phases=one.phases) for one in chargers)
    return LoadSettings("grid", limit_a, stations=shares, **more)  # type: ignore[arg-type]


def site(chargers: list[Charger], limit_a: float, base_a: Callable[[float, int], float], **more: object) -> Site:
    return Site(chargers, base_a, on_known_phases(chargers, limit_a, **more))


def fleet() -> list[Charger]:
    """Twenty: on turned phases, with vehicles of one and three phases, full ones, slow ones and one that is deaf."""
    turned = ((1, 2, 3), (2, 3, 1), (3, 1, 2))
    return [
        Charger(
            f"cp{n:02}",
            turned[n % 3],
            uses=1 if n % 4 == 3 else 3,
            takes_a=(32, 16, 20, 32, 0)[n % 5],
            lag_s=2 + (n * 7 % 13) / 4,
            meter_lag_s=1 + n % 2,
            deaf=n == 5,
        )
        for n in range(20)
    ]


def test_steps_of_base_load_never_overload_the_site_for_long() -> None:
    """Trials C8: worst-phase overshoot > 10 % never > 5 s, > 0 % never > 30 s; one charger ignores its commands."""
    steps_a = (20, 100, 40, 15, 120, 70, 10, 130, 30)
    depot = site(fleet(), 250, lambda now_s, phase: steps_a[(int(now_s / 45) * 2 + phase) % len(steps_a)])
    depot.run(90)
    depot.forget_worst()
    depot.run(420)
    assert depot.worst_a > 0.1 * 250, "the steps are steep enough to mean something"
    assert depot.longest_s[0.1] <= 5
    assert depot.longest_s[0.0] <= 30
    assert depot.told_of("load.over_limit") == 0


def test_phases_that_nobody_told_are_relieved_too() -> None:
    chargers = fleet()
    depot = Site(chargers, lambda now_s, phase: 90 if now_s > 150 and phase == 2 else 20, LoadSettings("grid", 250))
    depot.run(140)
    depot.forget_worst()
    depot.run(100)
    assert depot.longest_s[0.1] <= 5
    assert depot.longest_s[0.0] <= 30


def test_after_a_power_cut_twenty_chargers_come_up_below_the_limit() -> None:
    chargers = fleet()
    for one in chargers:
        one.limit_a = 6
        one.takes_a = 32
        one.deaf = False
        one.plugged = False
    depot = site(chargers, 160, steady(10))
    depot.run(20)
    for one in chargers:
        one.plugged = True
    depot.run(300)
    assert depot.worst_a <= 0
    assert sum(one.draws_a > 0 for one in chargers) == 20
    assert max(depot.phase_a(phase) for phase in THREE) > 0.85 * 160


def test_a_restart_interrupts_nobody() -> None:
    chargers = [Charger(f"cp{n}", limit_a=10, every_s=10, meter_lag_s=2) for n in range(4)]
    depot = site(chargers, 63, steady(10))
    told = []
    depot.run(60, lambda: told.append(min((one.draws_a for one in chargers), default=0)))
    assert min(told) >= 6
    assert depot.limits(), "and they are managed"


def test_a_restart_in_a_full_site_gives_nobody_what_is_not_there() -> None:
    """One does not follow, two are paused, and the new process knows neither: it had 7 s of overload in a trial."""
    chargers = [Charger(f"cp{n:02}", limit_a=6) for n in range(20)]
    chargers[5] = Charger("cp05", deaf=True)
    chargers[18].limit_a = chargers[19].limit_a = 0
    depot = site(chargers, 160, steady(14))
    depot.run(120)
    assert depot.worst_a <= 0
    assert sum(one.draws_a > 0 for one in chargers) >= 17


def test_one_that_follows_at_once_is_not_taken_as_deaf_by_its_first_reading() -> None:
    """It lost its place in the queue by that, and was paused again."""
    chargers = [Charger("cp1"), Charger("cp2")]
    depot = site(chargers, 32, lambda now_s, phase: 20 if 100 < now_s < 200 else 2)
    depot.run(190)
    assert min(depot.limits().values()) == 0, "one is paused"
    paused = min(depot.limits(), key=depot.limits().__getitem__)
    while not depot.limits()[paused]:
        depot.run(1)
    depot.clock.advance(0.9)
    for number in THREE:
        depot.put(f"{paused}.current_l{number}_a", 3.0)
    depot.clock.advance(0.1)
    depot.manager.tick()
    status = depot.manager.status()
    assert status is not None
    assert {one.station: one.follows for one in status.stations} == {"cp1": True, "cp2": True}


def test_chargers_that_obey_before_the_meter_shows_it_are_not_all_paused() -> None:
    """A trial over real protocols: all of eleven were, where four had room."""
    chargers = [Charger(f"cp{n:02}", limit_a=6, lag_s=0, meter_lag_s=0, deaf=n == 2) for n in range(12)]
    chargers[2].limit_a = None
    depot = site(chargers, 100, lambda now_s, phase: 40 if now_s > 100 else 10)
    depot.meter_lag_s = 2
    depot.run(100)
    assert sum(one.draws_a > 0 for one in chargers) >= 9
    told = []
    depot.run(30, lambda: told.append(sum(limit_a > 0 for limit_a in depot.limits().values())))
    assert min(told) == 5, "the deaf one, and four of 6 A"
    assert depot.worst_a <= 30
    assert depot.longest_s[0.1] <= 5


def test_why_says_that_the_meter_is_silent_also_where_that_changes_no_limit() -> None:
    chargers = [Charger("cp1"), Charger("cp2")]
    depot = site(chargers, 32, steady(19))
    depot.run(60)
    assert depot.limits() == {"cp1": 6, "cp2": 6}
    depot.meter_dead = True
    depot.run(15)
    assert depot.limits() == {"cp1": 6, "cp2": 6}
    assert "meter grid is silent" in depot.stations.wishes["cp1"].reason
    depot.meter_dead = False
    depot.run(5)
    assert "carries" in depot.stations.wishes["cp1"].reason


def test_a_silent_meter_brings_all_to_their_failsafe_and_back() -> None:
    """Trials C12, target 10 s."""
    chargers = [Charger("cp1"), Charger("cp2", safe_a=None), Charger("cp3", safe_a=8)]
    depot = site(chargers, 63, steady(5))
    depot.run(120)
    assert min(depot.limits().values()) >= 18
    depot.meter_dead = True
    depot.run(9)
    assert min(depot.limits().values()) >= 18
    depot.run(3)
    assert depot.limits() == {"cp1": 6, "cp2": 0, "cp3": 8}
    assert "meter grid is silent" in depot.stations.wishes["cp1"].reason
    status = depot.manager.status()
    assert status is not None
    assert status.silent
    depot.run(60)
    assert depot.told_of("load.meter_silent") == 1
    depot.meter_dead = False
    depot.run(10)
    assert depot.told_of("load.meter_back") == 1
    assert depot.limits() == {"cp1": 6, "cp2": 0, "cp3": 8}, "nobody rises at once"
    depot.run(120)
    assert min(depot.limits().values()) >= 16


def test_a_frozen_meter_counts_as_silent_before_stations_fill_what_it_does_not_show() -> None:
    """A converter that repeats what it read last left 259 A to chargers behind a fuse of 63 A."""
    chargers = [Charger(f"cp{n}", plugged=False) for n in range(8)]
    depot = site(chargers, 63, steady(5))
    depot.run(60)
    depot.meter_shows = dict.fromkeys(THREE, 5.0)
    depot.run(60)
    assert depot.told_of("load.meter_silent") == 0, "nothing changes, and so nothing shows"
    for one in chargers:
        one.plugged = True
    depot.run(60)
    assert depot.worst_a <= 0
    assert max(depot.limits().values()) <= 6
    assert [event.data["frozen"] for event in depot.events if event.kind == "load.meter_silent"] == [True]
    assert "is frozen" in depot.stations.wishes["cp0"].reason
    depot.meter_shows = None
    depot.run(60)
    assert depot.told_of("load.meter_back") == 1
    assert "carries" in depot.stations.wishes["cp0"].reason
    assert max(depot.phase_a(phase) for phase in THREE) > 0.85 * 63


def test_a_meter_that_shows_the_same_while_vehicles_go_or_nothing_changes_is_not_frozen() -> None:
    """Of a vehicle that went a charger may tell long after the meter did; alone on its line it leaves exactly 0 A."""
    chargers = [Charger("cp1", meter_lag_s=40), Charger("cp2", takes_a=0)]
    depot = site(chargers, 63, steady(0))
    depot.run(120)
    chargers[0].plugged = False
    depot.run(120)
    assert depot.told_of("load.meter_silent") == 0
    chargers[0].plugged = True
    depot.run(120)
    assert depot.told_of("load.meter_silent") == 0
    assert chargers[0].draws_a >= 6


def test_a_configured_failsafe_counts_for_all_and_raises_nobody() -> None:
    depot = site([Charger("cp1"), Charger("cp2", takes_a=32)], 20, steady(5), failsafe_a=10, silent_s=5)
    depot.run(60)
    assert sorted(depot.limits().values()) == [7, 7]
    depot.meter_dead = True
    depot.run(20)
    assert sorted(depot.limits().values()) == [7, 7]


def test_a_meter_that_was_never_heard_means_failsafe() -> None:
    depot = site([Charger("cp1")], 63, steady(5))
    depot.meter_dead = True
    depot.run(9)
    assert depot.limits() == {}
    depot.run(4)
    assert depot.limits() == {"cp1": 6}


def test_turns_when_not_all_minimums_fit() -> None:
    chargers = [Charger(f"cp{n}", min_a=6) for n in range(3)]
    depot = site(chargers, 20, steady(5.5))
    depot.run(60)
    depot.forget_worst()
    depot.run(3600)
    assert depot.worst_a <= 0
    assert depot.longest_wait_s <= 1800
    shares = sorted(depot.energy_as.values())
    assert shares[0] > 0.55 * shares[-1], "each had its turns"


def test_a_full_vehicle_gives_its_share_back_within_a_minute_and_can_resume() -> None:
    chargers = [Charger("cp1"), Charger("cp2")]
    depot = site(chargers, 50, steady(5))
    depot.run(90)
    depot.forget_worst()
    assert sorted(depot.limits().values()) == [21.5, 22]
    chargers[0].takes_a = 0
    depot.run(60)
    assert depot.limits()["cp1"] == 6, "so that it can resume"
    depot.run(30)
    assert depot.limits() == {"cp1": 6, "cp2": 32}
    chargers[0].takes_a = 32
    depot.run(60)
    assert sorted(depot.limits().values()) == [21.5, 22]
    assert depot.worst_a <= 0


def test_a_vehicle_that_takes_less_leaves_the_rest_to_others() -> None:
    chargers = [Charger("cp1", takes_a=10), Charger("cp2")]
    depot = site(chargers, 50, steady(5))
    depot.run(150)
    assert depot.limits()["cp1"] == 13
    assert depot.limits()["cp2"] >= 30


def test_a_vehicle_on_one_phase_frees_the_others() -> None:
    chargers = [Charger("cp1", (2, 3, 1), uses=1), Charger("cp2", (1, 2, 3), uses=1)]
    depot = site(chargers, 40, steady(5))
    depot.run(60)
    assert max(depot.limits().values()) < 20
    depot.run(120)
    assert depot.limits() == {"cp1": 32, "cp2": 32}, "one is on L2, the other on L1"
    assert depot.worst_a <= 0


def test_stations_without_a_vehicle_stand_within_the_limit_too() -> None:
    chargers = [Charger(f"cp{n}", plugged=False) for n in range(12)]
    depot = site(chargers, 63, steady(20))
    depot.run(30)
    assert sum(depot.limits().values()) <= 63 - 1.89 - 20
    assert sorted(set(depot.limits().values())) == [0, 6]
    late = next(one for one in chargers if depot.limits()[one.id] == 0)
    for one in (chargers[0], late):
        one.plugged = True
    depot.run(25)
    assert depot.limits()[late.id] >= 6, "it got its minimum within seconds"
    depot.run(300)
    assert depot.worst_a <= 0
    assert chargers[0].draws_a + late.draws_a > 35


def test_a_charger_without_a_meter_is_reserved_at_its_limit() -> None:
    chargers = [Charger("blind", metered=False), Charger("cp2")]
    depot = site(chargers, 60, steady(5))
    depot.run(30)
    depot.forget_worst()
    depot.run(170)
    assert depot.worst_a <= 0
    status = depot.manager.status()
    assert status is not None
    blind, seen = status.stations
    assert (blind.drawn_a, seen.drawn_a) == (None, chargers[1].draws_a)
    assert chargers[1].draws_a >= 6


def test_a_charger_that_is_away_keeps_its_limit_and_is_not_given_more() -> None:
    chargers = [Charger("away", takes_a=32), Charger("cp2")]
    depot = site(chargers, 50, lambda now_s, phase: 5 if now_s < 100 else -30)
    depot.run(90)
    before_a = depot.limits()["away"]
    assert before_a >= 21.5
    chargers[0].quiet = True
    for name in list(depot.values):
        if name.startswith("away."):
            depot.put(name, None)
    depot.run(60)
    assert depot.limits() == {"away": before_a, "cp2": 32}
    chargers[0].quiet = False
    depot.run(60)
    assert depot.limits() == {"away": 32, "cp2": 32}


def test_one_that_does_not_follow_costs_the_others_what_it_draws() -> None:
    chargers = [Charger("deaf", deaf=True, takes_a=20), Charger("cp2")]
    depot = site(chargers, 40, lambda now_s, phase: 5 if now_s < 100 else 12)
    depot.run(130)
    depot.forget_worst()
    depot.run(60)
    assert depot.worst_a <= 0
    status = depot.manager.status()
    assert status is not None
    assert [one.follows for one in status.stations] == [False, True]
    assert depot.limits() == {"deaf": 6, "cp2": 6.5}


def test_what_control_found_out_about_following_counts() -> None:
    chargers = [Charger("deaf", metered=False, following=False, limit_a=16), Charger("cp2")]
    depot = site(chargers, 40, steady(2))
    depot.run(60)
    status = depot.manager.status()
    assert status is not None
    assert status.stations[0].follows is False


def test_limits_are_told_only_when_they_change() -> None:
    depot = site([Charger("cp1"), Charger("cp2")], 50, lambda now_s, phase: 5 + (now_s % 4) / 10)
    depot.run(120)
    told, changes = depot.stations.derived, depot.stations.changes
    depot.run(600)
    assert (depot.stations.derived, depot.stations.changes) == (told, changes)


def test_the_reason_has_the_numbers_and_the_wish_its_inputs() -> None:
    depot = site([Charger("cp1"), Charger("cp2", takes_a=8)], 63, lambda now_s, phase: 30 if phase == 2 else 5)
    depot.run(30)
    wish = depot.stations.wishes["cp1"]
    assert (wish.origin, wish.key) == (Origin.GRID, "load")
    assert wish.reason.startswith("load management: L2 carries ")
    assert wish.reason.endswith(" of 63 A, 31 A left for 2 stations")
    assert set(wish.inputs) == {"grid.current_l1_a", "grid.current_l2_a", "grid.current_l3_a"}
    status = depot.manager.status()
    assert status is not None
    assert [round(load.rest_a) for load in status.phases] == [5, 30, 5]
    assert [one.need for one in status.stations] == [Need.WANTS, Need.WANTS]
    assert status.meter_age_s == 0


def test_nobody_is_limited_any_more_when_it_is_taken_out_of_the_configuration() -> None:
    depot = site([Charger("cp1")], 63, steady(5))
    depot.run(30)
    assert depot.limits()
    depot.manager.apply(None)
    assert depot.limits() == {}
    assert depot.manager.status() is None
    depot.run(10)
    assert depot.limits() == {}


def test_an_overload_that_no_station_can_end_is_told_once() -> None:
    depot = site([Charger("cp1")], 30, lambda now_s, phase: 40 if 100 < now_s < 200 else 5)
    depot.run(300)
    assert (depot.told_of("load.over_limit"), depot.told_of("load.within_limit")) == (1, 1)


def test_what_is_exported_leaves_the_more() -> None:
    depot = site([Charger("cp1"), Charger("cp2")], 25, steady(-35))
    depot.run(120)
    assert depot.limits() == {"cp1": 29.5, "cp2": 29.5}


@pytest.mark.parametrize(
    ("values", "currents", "note"),
    [
        ({"current_l1_a": 10, "current_l2_a": 11, "current_l3_a": 12}, (10, 11, 12), ""),
        ({"current_a": 7, "power_w": -1600}, (-7,), ""),
        ({"current_l1_a": 9}, (9,), ""),
        ({"power_w": 6900}, (10, 10, 10), EQUAL),
        ({"power_import_w": 0, "power_export_w": 6900, "voltage_l1_v": 230}, (-10, -10, -10), EQUAL),
        ({"power_l1_w": 2300, "power_l2_w": -2300, "power_l3_w": 0, "voltage_l2_v": 115.5}, (10, -19.9, 0), ""),
        (
            {f"current_l{n}_a": 5 for n in THREE}
            | {f"power_import_l{n}_w": 0 for n in THREE}
            | {f"power_export_l{n}_w": 1000 * (n == 2) for n in THREE},
            (5, -5, 5),
            "",
        ),
    ],
)
def test_how_the_meter_is_read(values: dict[str, float], currents: tuple[float, ...], note: str) -> None:
    depot = site([], 63, steady(0))
    for name, value in values.items():
        depot.put(f"main.{name}", value)
    depot.clock.advance(2)
    reading = read_grid(depot, depot.find, "main")
    assert reading is not None
    assert tuple(round(value, 1) for value in reading.currents_a) == currents
    assert (reading.note, reading.age_s) == (note, 2)


def test_a_phase_that_is_not_known_is_never_nothing() -> None:
    depot = site([], 63, steady(0))
    assert read_grid(depot, depot.find, "main") is None
    for number in THREE:
        depot.put(f"main.current_l{number}_a", 5 if number != 2 else None)
    depot.put("main.power_w", 2000)
    assert read_grid(depot, depot.find, "main") is None


def test_a_battery_counts_only_as_far_as_it_is_allowed_and_heard() -> None:
    depot = site([], 63, steady(0))
    battery = Battery("pack", depot.clock.monotonic_s())

    def unsure(seconds: float = 0) -> float:
        depot.clock.advance(seconds)
        return battery.unsure_w(depot, depot.find, depot.clock.monotonic_s())

    def says(**values: float) -> None:
        for name, value in values.items():
            depot.put(f"pack.{name}", value)

    assert unsure(20) == 0
    says(power_w=-6000, voltage_v=50, discharge_current_limit_a=200)
    assert unsure() == 0
    says(discharge_current_limit_a=40)
    assert unsure() == 4000, "50 V x 40 A are allowed"
    says(power_w=-6000, discharge_enabled=0)
    assert unsure() == 6000
    says(power_w=3000)
    assert unsure() == 0, "it charges: the meter has that"
    says(power_w=-6000, discharge_enabled=1, discharge_current_limit_a=200)
    assert unsure() == 0
    assert unsure(4.9) == 0
    assert unsure(0.2) == 6000, "silent for 5 s: none of it can be relied on"
    assert battery.silent
    for _ in range(9):
        says(power_w=-5000, voltage_v=50)
        assert unsure(1) == 5000, "one frame does not clear it"
    for _ in range(3):
        says(power_w=-5000)
        left = unsure(1)
    assert left == 0
    assert not battery.silent


def test_a_silent_battery_takes_its_discharge_from_the_stations() -> None:
    depot = site([Charger("cp1")], 40, steady(15), batteries=("pack",))

    def says() -> None:
        depot.put("pack.power_w", -6900)

    depot.run(90, says)
    assert depot.limits()["cp1"] == 23.5
    depot.run(9)
    assert depot.limits()["cp1"] == 13.5
    assert depot.told_of("load.battery_silent") == 1
    depot.run(60, says)
    assert depot.limits()["cp1"] == 23.5
    assert depot.told_of("load.battery_back") == 1


def test_limits_reach_the_device_and_others_wishes_count() -> None:
    async def check() -> None:
        rig = await Rig().start()
        manager = LoadManager(rig.clock, rig.view, rig.view.find, rig.service._stations, rig.recorded.append)
        manager.apply(LoadSettings("grid", 30, stations=(StationShare("cp1", phases=THREE),)))

        async def live(seconds: int, base_a: float) -> None:
            for _ in range(seconds):
                limit_a = rig.charger.now.get(LIMIT, 32) if rig.charger.now.get(ENABLED, 1) else 0
                for number in THREE:
                    rig.view.put(f"cp1.current_l{number}_a", limit_a)
                    rig.view.put(f"grid.current_l{number}_a", base_a + limit_a)
                manager.tick()
                await rig.wait(1)

        def need() -> Need:
            status = manager.status()
            assert status is not None
            return status.stations[0].need

        async with rig.service:
            await live(60, 10)
            assert rig.charger.now[LIMIT] == 19
            await rig.do("limit", limit_a=10)
            await live(30, 10)
            assert rig.charger.now[LIMIT] == 10
            station = rig.service.station("cp1")
            assert station is not None
            assert station.limit_a == 10
            wishes = {wish.key: wish for wish in rig.service.why("cp1", 1)[0].wishes}
            assert (wishes["load"].limit_a, wishes["user:ana"].limit_a) == (10, 10), "the rest would be others'"
            await rig.do("release")
            await live(60, 10)
            assert rig.charger.now[LIMIT] == 19
            await live(2, 40)
            assert rig.charger.now[ENABLED] == 0, "an overload pauses it at once"
            await live(55, 10)
            assert rig.charger.now[ENABLED] == 0, "not before its least time off"
            await live(60, 10)
            assert (rig.charger.now[ENABLED], rig.charger.now[LIMIT]) == (1, 19)
            assert "load management: " in rig.service.why("cp1", 1)[0].reason
            assert need() is Need.WANTS
            await rig.do("off")
            await live(65, 10)
            assert need() is Need.IDLE

    run(check)


def test_a_restart_frees_no_station_while_nothing_is_decided_yet() -> None:
    """Each was told its most for the seconds until meter and stations were read."""

    async def check() -> None:
        settings = LoadSettings("grid", 30, stations=(StationShare("cp1", phases=THREE),))
        rig = Rig()
        told: list[Number] = []

        async def live(seconds: int, *, read: bool) -> None:
            for _ in range(seconds):
                limit_a = rig.charger.now.get(LIMIT, 32) if rig.charger.now.get(ENABLED, 1) else 0
                for number in THREE if read else ():
                    rig.view.put(f"cp1.current_l{number}_a", limit_a)
                    rig.view.put(f"grid.current_l{number}_a", 10 + limit_a)
                await rig.wait(1)
                told.append(rig.charger.now.get(LIMIT, 32))

        await rig.start()
        rig.service.loads.apply(settings)
        await live(60, read=True)
        assert rig.charger.now[LIMIT] == 19
        await rig.service.close()
        for number in THREE:
            rig.view.put(f"grid.current_l{number}_a", None)
        told.clear()
        rig = rig.restarted()
        await rig.start()
        rig.service.loads.apply(settings)
        async with rig.service:
            await live(8, read=False)
            assert told == [19] * 8, "the meter was not heard yet"
            assert "as before" in rig.service.why("cp1", 1)[0].reason
            await live(30, read=True)
            assert told == [19] * 38
            assert "carries" in rig.service.why("cp1", 1)[0].reason

    run(check)


def test_outlets_take_part_and_the_fuse_of_their_line_holds_for_the_whole_charger() -> None:
    async def check() -> None:
        rig = Rig()
        device = FakeDevice(LIMIT, f"{LIMIT}.1", f"{LIMIT}.2")
        targets = [Target("cp1", "cp1", 0, "", device), *(Target(f"cp1.{n}", "cp1", n, "", device) for n in (1, 2))]
        await rig.service.apply(targets, (), "UTC")
        manager = LoadManager(rig.clock, rig.view, rig.view.find, rig.service._stations, rig.recorded.append)
        manager.apply(
            LoadSettings("grid", 63, stations=(StationShare("cp1", max_a=25), StationShare("cp1.2", max_a=16)))
        )
        for number in THREE:
            rig.view.put(f"grid.current_l{number}_a", 5)
        for number in (1, 2):
            rig.view.put(f"cp1.power_w.{number}", 0)
        async with rig.service:
            manager.tick()
            await rig.wait(1)
            status = manager.status()
            assert status is not None
            assert [one.station for one in status.stations] == ["cp1.1", "cp1.2"]
            assert device.now == {LIMIT: 25, f"{LIMIT}.1": 6, f"{LIMIT}.2": 6}
            manager.apply(None)
            await rig.wait(1)
            assert device.now == {LIMIT: 32, f"{LIMIT}.1": 32, f"{LIMIT}.2": 32}

    run(check)
