"""Profiles are loaded and mistakes located; those that travel along fit their DBC files and their golden frames."""

import json
from dataclasses import replace
from pathlib import Path

import cantools
import cantools.database.can
import numpy as np
import pytest

from agent.core.errors import ConfigError
from agent.core.points import POINTS, find_point
from agent.profiles import CanProfile, load_profile, profile_folders
from agent.share import share_path
from drivers.can.devices import CanDevice, PointMap, resolve
from drivers.can.group import Group
from drivers.codec.can_j1939 import pgn_of
from drivers.codec.dbc import load_dbc
from drivers.codec.frames import CLASSIC_BYTES, EFF_FLAG, Frames
from drivers.sim.bms import PROFILES, SimulatedBms

CASES = Path(__file__).resolve().parents[1] / "cases" / "can_profiles"
NAMES = sorted(
    path.stem for path in share_path("config/profiles").glob("*.yaml") if "driver: can\n" in path.read_text()
)
Values = dict[str, float | None]


def shipped(name: str) -> CanProfile:
    return load_profile(name, profile_folders())


def golden_frames(name: str) -> list[tuple[int, bytes]]:
    data = json.loads((CASES / name / "frames.json").read_text())
    return [(int(frame["id"], 16), bytes.fromhex(frame["data"])) for frame in data["frames"]]


def golden_values(name: str) -> Values:
    values: Values = json.loads((CASES / name / "expected.json").read_text())
    return values


def test_there_is_a_profile_and_a_case_for_each_family() -> None:
    assert {"demo_pack", "j1939_pack", "orion_bms", "pylontech_lv", "victron_lv"} <= set(NAMES)
    assert sorted(path.name for path in CASES.iterdir()) == NAMES


def test_every_dbc_that_travels_along_belongs_to_a_profile() -> None:
    used = {path.name for name in NAMES for path in shipped(name).dbc}
    assert used == {path.name for path in share_path("dbc").glob("*.dbc")}


@pytest.mark.parametrize("path", sorted(share_path("dbc").glob("*.dbc")), ids=lambda path: path.stem)
def test_our_dbc_files_load_without_a_finding(path: Path) -> None:
    database = cantools.database.load_file(path, strict=True)
    assert isinstance(database, cantools.database.can.Database)
    assert load_dbc(path.read_bytes(), path.name).findings == ()
    assert "Written for Enlace" in path.read_text() or "Made up for Enlace" in path.read_text()
    for message in database.messages:
        assert message.comment, f"{path.name}: {message.name} has no comment"
        assert message.senders, f"{path.name}: {message.name} has no sender"
        for signal in message.signals:
            assert signal.receivers, f"{path.name}: {message.name}.{signal.name} has no receiver"


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_fits_its_dbc_and_the_vocabulary(name: str) -> None:
    profile = shipped(name)
    messages = [message for path in profile.dbc for message in load_dbc(path.read_bytes(), path.name).messages]
    assert profile.check(messages) == []
    assert all(find_point(row.point) for row in profile.points)
    planned = resolve(device_of(profile))
    assert len(planned.wanted) == len({row.point for row in profile.points} | set(profile.alive) - mapped(profile))


def mapped(profile: CanProfile) -> set[str]:
    return {row.signal for row in profile.points}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_gives_its_golden_values_as_cantools_does(name: str) -> None:
    expected = golden_values(name)
    assert decoded_by_us(name) == pytest.approx(expected, abs=1e-9)
    assert decoded_by_cantools(name) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_frames_reach_every_point(name: str) -> None:
    reached = {point.partition(".")[0] for point in golden_values(name)}
    assert {row.point.partition(".")[0] for row in shipped(name).points} == reached


@pytest.mark.parametrize("name", NAMES)
def test_limits_are_positive_and_the_current_has_the_power_s_sign(name: str) -> None:
    values = golden_values(name)
    for point in POINTS:
        value = values.get(point)
        if point.endswith(("_limit_a", "_limit_v", "_limit_w")) and value is not None:
            assert value > 0, point
    power = values.get("power_w")
    if power is not None:
        assert power * (values["current_a"] or 0) > 0


def test_each_sign_of_the_current_stands_in_a_golden_case() -> None:
    # The frames' descriptions say charging or discharging in words; the expected sign must agree with them.
    for name in NAMES:
        frames = json.loads((CASES / name / "frames.json").read_text())["frames"]
        (text,) = [frame["means"] for frame in frames if "charging with" in frame["means"]]
        current = golden_values(name)["current_a"]
        assert current
        assert (current < 0) == ("discharging with" in text), name


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_the_simulated_bms_fills_every_point_of_its_profile(name: str) -> None:
    bms = SimulatedBms(name)
    values = decode(name, [(frame.can_id, frame.data) for frame in bms.frames(6.0)])
    points = {row.point for row in shipped(name).points}
    assert set(values) == points
    assert None not in values.values()
    voltage_v = values["voltage_v"]
    assert voltage_v == pytest.approx(bms.battery.voltage_v, abs=0.01)
    if name == "demo_pack":
        cells = [values[f"cell_voltage_v.{number}"] or 0.0 for number in range(1, 17)]
        assert sum(cells) == pytest.approx(voltage_v, abs=0.02)


def device_of(profile: CanProfile) -> CanDevice:
    return CanDevice(
        id="b1",
        channel="test",
        dbc=tuple(load_dbc(path.read_bytes(), path.name) for path in profile.dbc),
        points=profile.points,
        keep_unmapped=profile.keep_unmapped,
        alive=profile.alive,
    )


def decoded_by_us(name: str) -> Values:
    return decode(name, golden_frames(name))


def decode(name: str, frames: list[tuple[int, bytes]]) -> Values:
    """The last value of each point, through the house's own way: resolve, decode, missing, spec."""
    planned = resolve(device_of(shipped(name)))
    specs = [item.spec for item in planned.wanted]
    group = Group([planned], {(spec.device, spec.name): number for number, spec in enumerate(specs)})
    result = group.decoder.decode(frames_of(frames))
    values: Values = {}
    for ids, _, words, valid in group.missing.split(result.ids, result.times_us, result.words):
        for signal, word in zip(ids.tolist(), words.tolist(), strict=True):
            values[specs[signal].name] = specs[signal].physical(word) if valid else None
    assert result.too_short == result.unknown_multiplexer == 0
    return values


def frames_of(frames: list[tuple[int, bytes]]) -> Frames:
    raw = np.zeros((len(frames), CLASSIC_BYTES), dtype=np.uint8)
    for row, (frame_id, data) in zip(raw, frames, strict=True):
        flags = EFF_FLAG if frame_id > 0x7FF else 0
        row[:4] = np.frombuffer(np.uint32(frame_id | flags).tobytes(), dtype=np.uint8)
        row[4] = len(data)
        row[8 : 8 + len(data)] = np.frombuffer(data, dtype=np.uint8)
    return Frames(raw, np.arange(len(frames), dtype=np.int64))


def decoded_by_cantools(name: str) -> Values:
    """The same through cantools and the profile's own rows."""
    profile = shipped(name)
    rows = {row.signal: row for row in profile.points}
    database = cantools.database.can.Database()
    for path in profile.dbc:
        database.add_dbc_file(str(path))
    values: Values = {}
    for frame_id, data in golden_frames(name):
        message = next(one for one in database.messages if fits(one.frame_id, frame_id, extended=one.is_extended_frame))
        physical = message.decode(data, decode_choices=False)
        raw = message.decode(data, decode_choices=False, scaling=False)
        assert isinstance(physical, dict)
        assert isinstance(raw, dict)
        for signal, value in physical.items():
            row = rows.get(f"{message.name}.{signal}")
            if row is not None:
                assert isinstance(value, int | float)
                sent = raw[signal]
                assert isinstance(sent, int | float)
                missing = any(low <= sent <= high for low, high in row.missing)
                values[row.point] = None if missing else value * row.scale + row.offset
    return values


def fits(defined: int, frame_id: int, *, extended: bool) -> bool:
    return pgn_of(defined) == pgn_of(frame_id) if extended else defined == frame_id


# --- mistakes in a profile ---

GOOD = """name: mine
driver: can
source: the maker
dbc: [demo_pack.dbc]
points:
  voltage_v: {signal: PackMeasurements.Voltage}
"""


def refused(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path), ())
    return [line.removeprefix(f"{path}:") for line in caught.value.reason.splitlines()]


def test_a_profile_is_found_by_name_by_path_and_in_the_first_folder_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    by_path = load_profile(str(path), ())
    assert by_path.points == (PointMap("voltage_v", "PackMeasurements.Voltage"),)
    assert by_path.dbc == (share_path("dbc") / "demo_pack.dbc",)
    assert load_profile("mine", profile_folders(tmp_path)) == by_path
    own = tmp_path / "demo_pack.yaml"
    own.write_text(GOOD.replace("mine", "demo_pack"))
    assert load_profile("demo_pack", profile_folders(tmp_path)).path == own


def test_a_dbc_beside_the_profile_goes_before_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    (tmp_path / "demo_pack.dbc").write_text("")
    assert load_profile(str(tmp_path / "mine.yaml"), ()).dbc == (tmp_path / "demo_pack.dbc",)


def test_an_unknown_profile_gets_a_near_name() -> None:
    with pytest.raises(ConfigError, match=r"there is no such profile .did you mean `pylontech_lv`"):
        load_profile("pylontec_lv", profile_folders())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("voltage_v:", "voltage:", "6:3: `voltage` is no point of the vocabulary; did you mean `voltage_v`?"),
        ("voltage_v:", "voltage_v.1:", "6:3: `voltage_v.1` is no array; write `voltage_v`"),
        (
            "voltage_v:",
            "cell_voltage_v:",
            "6:3: `cell_voltage_v` is an array; write `cell_voltage_v.1`, or add `count:`",
        ),
        ("Voltage}", "Voltage, count: 3}", "6:49: `voltage_v` can't have `count:`: it is no array; delete `count:`"),
        (
            "voltage_v: {signal: PackMeasurements.Voltage}",
            "cell_voltage_v: {signal: CellVoltages.Cell_1, count: 3}",
            "6:28: `{n}` is missing in a signal with `count:`; write {n} where the number stands",
        ),
        (
            "voltage_v: {signal: PackMeasurements.Voltage}",
            'cell_voltage_v.1: {signal: "CellVoltages.Cell_{n}"}',
            "6:30: `{n}` stands here without `count:`; add `count: 16`",
        ),
        ("PackMeasurements.Voltage", "Voltage", "6:23: `signal`: `Voltage` names no signal; write Message.Signal"),
        ("Voltage}", "Voltage, scale: 0}", "6:56: `scale` is 0, so all values would be the same; delete it"),
        ("Voltage}", "Voltage, scael: 1}", "6:49: unknown key `scael`; did you mean `scale`?"),
        ("demo_pack.dbc", "demo_pak.dbc", "4:7: `demo_pak.dbc` is neither beside the profile nor in the program's dbc"),
        ("name: mine", "name: other", "1:7: `other` is not the file's name; write `name: mine`, or rename the file"),
        ("driver: can", "driver: cann", "2:9: no profile is for the driver `cann`; did you mean `can`?"),
        ("driver: can\n", "", "1:1: `driver` is missing here; add `driver: can` or `driver: modbus`"),
        ("source: the maker\n", "", "1:1: `source` is missing here; add `source: ...`: where the facts come from"),
        (
            "Voltage}\n",
            "Voltage}\n  current_a: {signal: PackMeasurements.Voltage}\n",
            "7:23: `PackMeasurements.Voltage` is mapped to `voltage_v` already; map it once",
        ),
        (
            "  voltage_v: {signal: PackMeasurements.Voltage}\n",
            '  cell_voltage_v: {signal: "CellVoltages.Cell_{n}", count: 3}\n  cell_voltage_v.2: {signal: X.Y}\n',
            "7:3: `cell_voltage_v.2` is mapped twice; keep one",
        ),
    ],
)
def test_a_mistake_in_a_profile_is_located(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert any(line.startswith(expected) for line in refused(tmp_path, GOOD.replace(old, new)))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            "voltage_v: {signal: PackMeasurements.Voltag}",
            "6:23: the DBC has no signal `PackMeasurements.Voltag`; did you mean `PackMeasurements.Voltage`?",
        ),
        (
            "current_a: {signal: PackMeasurements.Voltage}",
            "6:14: `PackMeasurements.Voltage` is in V, `current_a` in A; map another point",
        ),
        (
            "voltage_v: {signal: PackMeasurements.Voltage, scale: 0.001}",
            "6:14: `PackMeasurements.Voltage` is in V, `voltage_v` in V; write `scale: 1`",
        ),
        (
            "soc_pct: {signal: PackState.SoC, missing: [65535, 70000]}",
            "6:45: `missing` names 70000, but `PackState.SoC` has 16 bits; write raw values from 0 to 65535",
        ),
    ],
)
def test_a_profile_that_does_not_fit_its_dbc_is_located(tmp_path: Path, row: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("voltage_v: {signal: PackMeasurements.Voltage}", row) + "alive: [PackState.Nothing]\n")
    profile = load_profile(str(path), ())
    (dbc,) = profile.dbc
    lines = [str(problem) for problem in profile.check(load_dbc(dbc.read_bytes(), dbc.name).messages)]
    assert f"{path}:{expected}" in lines
    assert f"{path}:7:9: the DBC has no signal `PackState.Nothing`" in "\n".join(lines)


@pytest.mark.parametrize(
    ("unit", "point", "scale", "offset", "good"),
    [
        ("mV", "cell_voltage_max_v", 0.001, 0, True),
        ("mV", "cell_voltage_max_v", 1, 0, False),
        ("K", "temperature_degc", 1, -273.15, True),
        ("K", "temperature_degc", 1, 0, False),
        ("A", "current_a", -1, 0, True),
        ("kWh", "energy_import_wh", 1000, 0, True),
        ("kWh", "energy_import_wh", 1, 0, False),
        ("furlong", "voltage_v", 7, 0, True),
        ("", "voltage_v", 0.1, 0, True),
        ("%", "voltage_v", 1, 0, False),
    ],
)
def test_units_must_convert(unit: str, point: str, scale: float, offset: float, good: bool) -> None:  # noqa: FBT001 - a table
    profile = shipped("demo_pack")
    dbc = load_dbc((share_path("dbc") / "demo_pack.dbc").read_bytes(), "demo_pack.dbc")
    message = dbc.messages[0]
    signal = replace(message.signals[0], unit=unit)
    row = PointMap(point, f"{message.name}.{signal.name}", scale, offset)
    odd = replace(profile, points=(row,), alive=())
    assert (odd.check([replace(message, signals=(signal,))]) == []) == good
