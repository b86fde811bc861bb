"""The demo's director: its scenario, the faults, and what the grid's meter is told. And which bus the site takes."""

import asyncio
import socket
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from agent.cli.demo_director import Director, UnknownFaultError
from agent.cli.demo_places import Claims, find_bus
from agent.cli.demo_script import FAULTS, MORNING_H, STEPS, Fault
from agent.control.switching import REMEMBERED
from agent.core.clock import FakeClock
from agent.core.errors import Unavailable
from drivers.sim import battery, broker, charger_modbus, charger_ocpp, meter_port, modbus_line
from drivers.sim.charger_ocpp_model import Quirk
from drivers.sim.inverter_sunspec import PEAK_W, sun

ROOT = Path(__file__).resolve().parents[2]
#: What the program of each counterpart can be told to fail with.
KNOWN = {
    "battery1": {*battery.Fault},
    "broker": {*broker.Fault},
    "cp1": {*Quirk, charger_ocpp.OFFLINE, charger_ocpp.BROKEN},
    "cp2": {*charger_modbus.Fault, modbus_line.OFFLINE},
    "cp3": {*Quirk, charger_ocpp.OFFLINE, charger_ocpp.BROKEN},
    "grid": {*meter_port.Fault},
    "pv1": {modbus_line.OFFLINE},
    "sub1": {*meter_port.Fault},
}
SHOWN = [fault for fault in FAULTS if not fault.hidden]


class Rig:
    """A director whose orders are written down."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.said: list[str] = []
        self.director = Director(self.clock, lambda name, order: self.told.append((name, order)), self.said.append)

    def run(self, what: Coroutine[Any, Any, None]) -> None:
        """Run it, and stop the scenario behind it."""

        async def main() -> None:
            await what
            await self.director.play(running=False)

        asyncio.run(main())

    async def pass_by(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for _ in range(5):
            await asyncio.sleep(0)

    def step(self) -> str | None:
        step: str | None = self.director.state()["scenario"]["step"]
        return step

    def active(self) -> set[str]:
        return {one["id"] for one in self.director.state()["faults"] if one["active"]}

    def faults_of(self, counterpart: str) -> list[tuple[str, bool]]:
        return [
            (order["name"], order["on"]) for name, order in self.told if name == counterpart and order["do"] == "fault"
        ]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_steps_follow_each_other_and_begin_again(rig: Rig) -> None:
    async def rounds() -> None:
        await rig.director.play(running=True)
        for _ in range(2):
            for step in STEPS:
                assert rig.step() == step.id
                scenario = rig.director.state()["scenario"]
                assert scenario["since_us"] == rig.clock.now_us()
                assert scenario["text"] == step.text
                await rig.pass_by(step.lasts_s)
        assert rig.step() == STEPS[0].id

    rig.run(rounds())
    texts = [step.text["en"] for step in STEPS]
    assert rig.said == [*texts, *texts, texts[0]]


def test_a_round_takes_about_five_minutes_and_leaves_the_battery_as_it_was() -> None:
    assert 240 <= sum(step.lasts_s for step in STEPS) <= 360
    current_a = charge_as = moved_as = 0.0
    for step in STEPS:
        for name, order in step.orders:
            if name == "battery1":
                current_a = order["current_a"]
        charge_as += current_a * step.lasts_s
        moved_as += abs(current_a) * step.lasts_s
    assert abs(charge_as) < 0.01 * moved_as


def test_the_sun_goes_through_a_day_in_a_round_and_gives_to_the_grid_when_the_vehicles_have_left() -> None:
    round_s = sum(step.lasts_s for step in STEPS)
    began_s = {}
    passed_s = 0.0
    for step in STEPS:
        began_s[step.id] = passed_s
        passed_s += step.lasts_s

    def given_w(step: str, after_s: float) -> float:
        return PEAK_W * sun((MORNING_H + 24 * (began_s[step] + after_s) / round_s) % 24)

    assert STEPS[0].orders[-1] == ("pv1", {"do": "hour", "hour": MORNING_H})
    assert given_w("sharing", 0) > 0.8 * PEAK_W
    assert given_w("support", 30) < given_w("support", 0) / 2
    assert given_w("cooling", 20) == 0
    house_w = 1700
    assert given_w("departure", 25) > 2 * house_w


def test_the_scenario_can_go_on_for_days() -> None:
    """The alarm of its heat switches twice a round, and load management may do so, too."""
    switches = 24 * 3600 / sum(step.lasts_s for step in STEPS) * 2
    for one in YAML().load((ROOT / "config" / "demo.yaml").read_text())["stations"]:
        assert REMEMBERED >= one["per_day"] > 1.5 * switches
        assert one["per_hour"] > 4 * switches / 24


def test_who_comes_leaves_in_the_same_round() -> None:
    def outlet(order: Mapping[str, Any]) -> int:
        return int(order.get("outlet", order.get("number", 1)))

    told = [(name, order) for step in STEPS for name, order in step.orders]
    came = {(name, outlet(order)) for name, order in told if order["do"] == "plug"}
    left = {(name, outlet(order)) for name, order in STEPS[-1].orders if order["do"] == "unplug"}
    assert came == left


def test_a_fault_of_the_scenario_ends_with_its_step(rig: Rig) -> None:
    async def through() -> None:
        await rig.director.play(running=True)
        for step in STEPS:
            assert rig.active() == {fault for fault in step.faults if fault != "battery_warm"}
            await rig.pass_by(step.lasts_s)

    rig.run(through())
    assert rig.faults_of("battery1") == [("warm", True), ("warm", False)]
    assert rig.faults_of("broker") == [("down", True), ("down", False)]


def test_stopped_the_scenario_takes_back_its_faults_and_no_others(rig: Rig) -> None:
    async def until_the_line_is_cut() -> None:
        await rig.director.play(running=True)
        rig.director.switch("grid_silent", active=True)
        while rig.step() != "uplink_lost":
            await rig.pass_by(5)
        assert rig.active() == {"broker_down", "grid_silent"}
        await rig.director.play(running=False)
        assert rig.active() == {"grid_silent"}
        assert rig.step() is None
        await rig.pass_by(1000)
        assert rig.step() is None

    rig.run(until_the_line_is_cut())
    assert ("battery1", {"do": "ask", "current_a": None}) in rig.told


def test_a_persons_fault_outlives_the_scenarios_and_off_by_hand_is_off(rig: Rig) -> None:
    async def both_want_it() -> None:
        rig.director.switch("broker_down", active=True)
        await rig.director.play(running=True)
        while rig.step() != "uplink_back":
            await rig.pass_by(5)
        assert rig.active() == {"broker_down"}
        rig.director.switch("broker_down", active=False)
        assert rig.active() == set()
        while rig.step() != "uplink_lost":
            await rig.pass_by(5)
        rig.director.switch("broker_down", active=False)
        assert rig.active() == set()

    rig.run(both_want_it())
    assert rig.faults_of("broker") == [("down", True), ("down", False), ("down", True), ("down", False)]


def test_switching_twice_is_told_once(rig: Rig) -> None:
    for active in (True, True, False, False):
        rig.director.switch("cp2_mute", active=active)
    assert rig.faults_of("cp2") == [("mute", True), ("mute", False)]


@pytest.mark.parametrize("name", ["nonsense", "battery_warm", ""])
def test_what_is_no_button_is_refused(rig: Rig, name: str) -> None:
    with pytest.raises(UnknownFaultError):
        rig.director.switch(name, active=True)
    assert rig.told == []


def test_the_grids_meter_is_told_the_sum_of_all(rig: Rig) -> None:
    rig.director.heard("grid", {"grid_w": [1, 2, 3]})
    rig.director.heard("battery1", {"power_w": [-1000.0, -1000.0, -1000.0]})
    rig.director.heard("cp1", {"power_w": [3680.0, 3680.0, 0.0]})
    rig.director.heard("cp1", {"power_w": [1380.0, 1380.0, 0.0]})
    assert [name for name, _ in rig.told] == ["grid"] * 3
    assert rig.told[-1][1] == {"do": "draw", "power_w": [380.0, 380.0, -1000.0]}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_each_fault_is_one_that_its_counterpart_has(fault: Fault) -> None:
    assert fault.name in KNOWN[fault.counterpart]


def test_ids_are_unique_and_each_text_is_told_in_both_languages() -> None:
    assert len({fault.id for fault in FAULTS}) == len(FAULTS)
    assert len({step.id for step in STEPS}) == len(STEPS)
    texts = [text for fault in SHOWN for text in (fault.title, fault.text)] + [step.text for step in STEPS]
    for text in texts:
        assert set(text) == {"en", "es"}
        assert text["en"].strip()
        assert text["es"].strip() != text["en"].strip()


def test_each_device_of_the_demo_can_fail() -> None:
    devices = {one["id"] for one in YAML().load((ROOT / "config" / "demo.yaml").read_text())["devices"]}
    assert {fault.counterpart for fault in SHOWN} == {*devices, "broker"}


class NoMulticast(socket.socket):
    """A machine without a route for multicast."""

    def setsockopt(self, *_: object) -> None:
        raise OSError(19, "No such device")


def test_no_vcan_and_no_multicast_is_told_with_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", NoMulticast)
    with pytest.raises(Unavailable) as caught:
        find_bus(interfaces=["lo"])
    assert "No such device" in caught.value.reason
    assert "ip route add" in caught.value.hint
    assert "vcan0" in caught.value.hint


def test_what_one_demo_has_no_other_one_takes() -> None:
    name = f"test-{id(NoMulticast)}-{socket.gethostname()}"
    one, other = Claims(), Claims()
    assert one.take(name)
    assert not other.take(name)
    one.close()
    assert other.take(name)
    other.close()
