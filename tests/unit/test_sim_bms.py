"""The simulated BMS: its frames are those of the DBC files, its battery keeps the laws that it claims to keep."""

import argparse
import asyncio
from collections import Counter
from itertools import pairwise

import can
import cantools
import cantools.database.can
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.share import share_path
from drivers.sim.battery import CAPACITY_AH, CELL_MAX_V, MAX_HOT_DEGC, PHASES, Battery, Fault, State
from drivers.sim.bms import MAX_CATCH_UP_S, PROFILES, SimulatedBms, bus_options, main, send_all
from drivers.sim.faults import FaultPlan, parse_fault
from drivers.sim.packing import Field, Frame

CYCLE_S = sum(seconds for seconds, _ in PHASES)


def database(profile: str) -> cantools.database.can.Database:
    loaded = cantools.database.load_file(share_path("dbc") / f"{profile}.dbc")
    assert isinstance(loaded, cantools.database.can.Database)
    return loaded


def decode(db: cantools.database.can.Database, frame: Frame) -> dict[str, float]:
    values = db.decode_message(frame.can_id, frame.data, decode_choices=False)
    assert isinstance(values, dict)
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def latest(bms: SimulatedBms, t_s: float, profile: str = "demo_pack") -> dict[str, float]:
    """The last value of each signal of all frames up to a time."""
    db = database(profile)
    values: dict[str, float] = {}
    last = {(frame.can_id, frame.data[0] if frame.can_id == 0x1A2 else 0): frame for frame in bms.frames(t_s)}
    for frame in last.values():
        values.update(decode(db, frame))
    return values


def run_to(bms: SimulatedBms, t_s: float, from_s: float = 0.0) -> None:
    """Let time pass in pieces that no catch-up skips."""
    while from_s < t_s:
        from_s = min(from_s + MAX_CATCH_UP_S / 2, t_s)
        bms.frames(from_s)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_simulator_s_own_tables_say_what_the_dbc_says(profile: str) -> None:
    db = database(profile)
    made = {layout.can_id: layout for layout in PROFILES[profile]()}
    for message in db.messages:
        if message.senders == ["Inverter"]:
            continue
        layout = made.pop(message.frame_id)
        assert layout.cycle_ms == message.cycle_time, message.name
        assert layout.length >= message.length, message.name
        for name, field in layout.fields.items():
            signal = message.get_signal_by_name(name)
            assert signal.byte_order == "little_endian"
            assert Field(signal.start, signal.length, signal.scale, signal.offset, signal.is_signed) == field, name
    assert made == {}


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_frame_decodes_and_every_message_is_sent_at_its_cycle(profile: str) -> None:
    db = database(profile)
    frames = SimulatedBms(profile).frames(19.95)
    counts = Counter(frame.can_id for frame in frames)
    for message in db.messages:
        if message.senders == ["Inverter"]:
            assert message.frame_id not in counts
            continue
        assert message.cycle_time
        each = 4 if message.is_multiplexed() else 1
        assert counts[message.frame_id] == each * (20_000 // message.cycle_time), message.name
    for frame in frames:
        assert not frame.extended
        assert decode(db, frame)


def test_a_frame_carries_the_battery_s_values_to_the_field_s_resolution() -> None:
    bms = SimulatedBms()
    values = latest(bms, 30.0)
    battery = bms.battery
    assert values["Voltage"] == pytest.approx(battery.voltage_v, abs=0.005 + 1e-9)
    assert values["Current"] == pytest.approx(battery.current_a, abs=0.05 + 1e-9)
    assert values["Power"] == pytest.approx(battery.voltage_v * battery.current_a, abs=0.5 + 1e-9)
    assert values["SoC"] == pytest.approx(battery.soc_pct, abs=0.005 + 1e-9)
    cells = [values[f"Cell_{number}"] for number in range(1, 17)]
    assert cells == pytest.approx(battery.cell_voltages_v, abs=0.00025 + 1e-9)
    assert values["MaxCellVoltage"] == max(cells)
    assert cells.index(max(cells)) + 1 == values["MaxCellNumber"]
    assert values["State"] == 3
    assert values["MainContactor"] == values["ChargeEnabled"] == values["DischargeEnabled"] == 1
    assert values["AnyFault"] == values["AnyWarning"] == 0


def test_equal_seeds_give_equal_frames_however_time_is_cut() -> None:
    whole = SimulatedBms(seed=3).frames(20.0)
    bms = SimulatedBms(seed=3)
    pieces = [frame for step in range(201) for frame in bms.frames(step / 10)]
    assert pieces == whole
    assert bms.frames(20.0) == []
    assert SimulatedBms(seed=4).frames(20.0) != whole


def test_the_alive_counter_moves_with_each_frame_and_wraps() -> None:
    counters = [frame.data[6] for frame in SimulatedBms().frames(59.0) if frame.can_id == 0x1A0]
    assert all((after - before) % 256 == 1 for before, after in pairwise(counters))
    assert len(counters) > 256


def test_a_long_pause_is_skipped_and_not_made_up_for() -> None:
    bms = SimulatedBms()
    bms.frames(1.0)
    frames = bms.frames(1.0 + 10 * MAX_CATCH_UP_S)
    assert sum(frame.can_id == 0x1A0 for frame in frames) == 1
    assert sum(frame.can_id == 0x1A0 for frame in bms.frames(1.1 + 10 * MAX_CATCH_UP_S)) == 1


def test_charge_and_energy_are_the_integrals_of_current_and_power() -> None:
    battery = Battery(seed=2)
    soc_pct, charged_wh, discharged_wh = battery.soc_pct, battery.charged_wh, battery.discharged_wh
    moved_ah, in_wh, out_wh = 0.0, 0.0, 0.0
    for _ in range(int(CYCLE_S * 10)):
        battery.step(0.1)
        moved_ah += battery.current_a * 0.1 / 3600
        energy_wh = battery.current_a * battery.voltage_v * 0.1 / 3600
        in_wh, out_wh = in_wh + max(energy_wh, 0), out_wh - min(energy_wh, 0)
    # The emptiest cell has up to 2 % more capacity than the pack is sold with; balancing bleeds a little.
    assert battery.soc_pct - soc_pct == pytest.approx(100 * moved_ah / CAPACITY_AH, abs=0.05)
    assert battery.charged_wh - charged_wh == pytest.approx(in_wh, rel=1e-3)
    assert battery.discharged_wh - discharged_wh == pytest.approx(out_wh, rel=1e-3)
    assert in_wh > 100
    assert out_wh > 100


def test_the_pack_charges_rests_and_discharges_and_stays_within_limits_for_hours() -> None:
    battery = Battery(seed=5)
    seen: set[State] = set()
    warmest = coldest = battery.temperatures_degc[0]
    for _ in range(4 * 3600):
        battery.step(1.0)
        seen.add(battery.state)
        assert -battery.discharge_limit_a - 1 <= battery.current_a <= battery.charge_limit_a + 1
        warmest, coldest = max(warmest, *battery.temperatures_degc), min(coldest, *battery.temperatures_degc)
        assert max(battery.cell_voltages_v) < CELL_MAX_V
    assert seen == {State.IDLE, State.CHARGING, State.DISCHARGING}
    assert battery.alarms == frozenset()
    assert 20 < battery.soc_pct < 95
    assert 20 < coldest < warmest < 45
    assert warmest - coldest > 2


def test_a_full_battery_takes_no_more_and_an_empty_one_gives_no_more() -> None:
    full, empty = Battery(soc=0.999), Battery(soc=0.001)
    for _ in range(200):
        full.step(1.0)
    for _ in range(int(PHASES[0][0] + PHASES[1][0]) - 1):
        empty.step(1.0)
    assert full.soc_pct <= 100
    assert max(full.cell_voltages_v) <= CELL_MAX_V
    assert empty.soc_pct > 0


def test_silence_is_silence_and_ends() -> None:
    bms = SimulatedBms(plan=[FaultPlan(Fault.SILENT, 10, 5)])
    assert bms.frames(9.95)
    assert bms.frames(14.95) == []
    assert bms.frames(15.05)


def test_a_frozen_bms_repeats_itself_with_a_standing_counter() -> None:
    bms = SimulatedBms()
    run_to(bms, 10.0)
    bms.switch(Fault.FROZEN, on=True)
    frames = [frame for frame in bms.frames(13.0) if frame.can_id == 0x1A0]
    assert len(frames) == 30
    assert len(set(frames)) == 1
    bms.switch(Fault.FROZEN, on=False)
    assert len({frame for frame in bms.frames(14.0) if frame.can_id == 0x1A0}) == 10


def test_a_failing_fan_warms_warns_protects_and_recovers() -> None:
    bms = SimulatedBms(plan=[FaultPlan(Fault.OVERTEMPERATURE, 10, 60)])
    assert latest(bms, 5.0)["WarningOvertemperature"] == 0
    run_to(bms, 40.0, 5.0)
    warned = latest(bms, 41.0)
    assert warned["WarningOvertemperature"] == warned["AnyWarning"] == 1
    run_to(bms, 59.0, 41.0)
    tripped = latest(bms, 60.0)
    assert tripped["FaultOvertemperature"] == tripped["AnyFault"] == 1
    assert tripped["State"] == 5
    assert tripped["Current"] == tripped["MainContactor"] == tripped["ChargeEnabled"] == 0
    assert tripped["ChargeCurrentLimit"] == tripped["DischargeCurrentLimit"] == 0
    assert tripped["MaxTemperature"] >= MAX_HOT_DEGC
    assert tripped["MaxTemperatureSensor"] == 4
    run_to(bms, 200.0, 60.0)
    cool = latest(bms, 201.0)
    assert cool["FaultOvertemperature"] == cool["WarningOvertemperature"] == 0
    assert cool["State"] == 3


def test_an_unbalanced_cell_shows_in_extremes_and_faults() -> None:
    bms = SimulatedBms()
    bms.switch(Fault.IMBALANCE, on=True)
    run_to(bms, 29.0)
    values = latest(bms, 30.0)
    assert values["FaultImbalance"] == 1
    assert values["MaxCellNumber"] == 3
    assert values["MaxCellVoltage"] - values["MinCellVoltage"] > 0.2
    bms.switch(Fault.IMBALANCE, on=False)
    run_to(bms, 59.0, 30.0)
    assert latest(bms, 60.0)["FaultImbalance"] == 0


def test_pylontech_frames_say_the_same_battery() -> None:
    bms = SimulatedBms("pylontech_lv")
    values = latest(bms, 30.0, "pylontech_lv")
    assert values["Voltage"] == pytest.approx(bms.battery.voltage_v, abs=0.005 + 1e-9)
    assert values["Current"] == pytest.approx(bms.battery.current_a, abs=0.05 + 1e-9)
    assert values["ChargeEnabled"] == values["DischargeEnabled"] == values["ModuleCount"] == 1
    assert int(values["ManufacturerText"]).to_bytes(5, "little") == b"PYLON"
    frames = {frame.can_id: frame.data for frame in SimulatedBms("pylontech_lv").frames(0.0)}
    assert frames[0x359].endswith(b"\x01PN")


@given(
    st.builds(
        Field,
        start=st.integers(0, 32),
        bits=st.integers(1, 32),
        scale=st.sampled_from([0.0005, 0.01, 0.1, 0.5, 1.0, 100.0]),
        offset=st.sampled_from([0.0, -40.0, -1600.0]),
        signed=st.booleans(),
    ),
    st.floats(-1e9, 1e9),
)
@settings(max_examples=300)
def test_a_field_holds_the_nearest_value_that_it_can(field: Field, value: float) -> None:
    raw = field.raw(value)
    assert 0 <= raw < 1 << field.bits
    low, high = (-(1 << field.bits - 1), (1 << field.bits - 1) - 1) if field.signed else (0, (1 << field.bits) - 1)
    number = raw - (1 << field.bits) if field.signed and raw >> field.bits - 1 else raw
    physical = number * field.scale + field.offset
    clipped = min(max(value, low * field.scale + field.offset), high * field.scale + field.offset)
    assert physical == pytest.approx(clipped, abs=field.scale / 2 * (1 + 1e-6) + 1e-6)


def test_fault_plans_are_read_and_refused() -> None:
    assert parse_fault(Fault, "silent") == FaultPlan(Fault.SILENT)
    assert parse_fault(Fault, "frozen@60+2.5") == FaultPlan(Fault.FROZEN, 60.0, 2.5)
    assert parse_fault(Fault, "imbalance@5") == FaultPlan(Fault.IMBALANCE, 5.0, None)
    for text in ("", "melted", "silent@x", "silent@1+y"):
        with pytest.raises(argparse.ArgumentTypeError, match="write NAME, NAME@60 or NAME@60"):
            parse_fault(Fault, text)


def test_options_of_the_interface_go_through_and_multicast_stays_on_this_machine() -> None:
    assert bus_options("udp_multicast", "239.74.163.2", ["--port", "43113"]) == {
        "interface": "udp_multicast",
        "channel": "239.74.163.2",
        "port": 43113,
        "hop_limit": 0,
    }
    assert bus_options("udp_multicast", None, ["--hop-limit=1"])["hop_limit"] == 1
    assert bus_options("socketcan", "vcan0", ["--fd", "true", "--ratio=0.5", "--name", "x"]) == {
        "interface": "socketcan",
        "channel": "vcan0",
        "fd": True,
        "ratio": 0.5,
        "name": "x",
    }
    for words in (["port"], ["--port"]):
        with pytest.raises(ValueError, match="--name value"):
            bus_options("virtual", None, words)


def test_a_bus_that_cannot_be_opened_is_an_error_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--interface", "socketcan", "--channel", "no_such_bus"]) == 1
    error = capsys.readouterr().err
    assert "can't open socketcan no_such_bus" in error
    assert "Traceback" not in error
    assert main(["--interface", "no_such_kind"]) == 1
    assert "no_such_kind" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--interface", "virtual", "port"])
    assert "--name value" in capsys.readouterr().err


class BusOnPaper(can.BusABC):
    """Keeps what is sent; refuses while ``full``."""

    def __init__(self) -> None:
        super().__init__(channel="paper")
        self.channel_info = "paper"
        self.sent: list[can.Message] = []
        self.full = False

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        if self.full:
            raise can.CanOperationError("no buffer space")
        self.sent.append(msg)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.announced_warnings
def test_frames_go_out_as_time_passes_and_a_full_bus_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        clock, bus = FakeClock(), BusOnPaper()
        sending = asyncio.ensure_future(send_all(SimulatedBms(), bus, clock, "paper"))
        await turns()
        assert {message.arbitration_id for message in bus.sent} == {layout.can_id for layout in PROFILES["demo_pack"]()}
        bus.sent.clear()
        for _ in range(10):
            clock.advance(0.1)
            await turns()
        assert sum(message.arbitration_id == 0x1A0 for message in bus.sent) == 10
        bus.full = True
        for _ in range(5):
            clock.advance(0.1)
            await turns()
        bus.full = False
        bus.sent.clear()
        clock.advance(0.1)
        await turns()
        assert bus.sent
        sending.cancel()
        await asyncio.wait([sending])
        bus.shutdown()

    with caplog.at_level("INFO", logger="drivers.sim.bms"):
        asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "can't send on paper: no buffer space",
        "sending on paper again",
    ]
