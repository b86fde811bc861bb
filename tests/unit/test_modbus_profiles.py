"""Modbus profiles are loaded with defaults and arrays written out, and mistakes are located."""

from pathlib import Path

import pytest

from agent.core.errors import ConfigError
from agent.modbus_loader import LoadedModbusProfile
from agent.profiles import CanProfile, load_any_profile, load_modbus, load_profile, profile_folders
from drivers.codec.registers import Register, TextRegister
from drivers.codec.registers_pack import Span
from drivers.modbus.model import ModbusMatch, ModbusPoint, ModbusWrite
from drivers.modbus.reading import place_of, rounds, spec_of
from drivers.modbus.writing import Write, agrees, allowed, physical, plain_write, read_value, setting_of, write_of

GOOD = """\
name: mine
driver: modbus
kind: charger
maker: Acme
model: C1
source: the maker's description, revision 3
table: input
word_order: little
points:
  power_w: {register: 0x10, type: int32, scale: 0.1, missing: [0x80000000]}
  current_l1_a: {register: 20, type: float32, word_order: big, every_s: 30}
  energy_import_wh: {register: 22, type: bcd32, scale: 10}
  temperature_sensor_degc: {register: 30, type: int16, count: 3, scale: 0.1, missing: [0x8000, [-500, -400]]}
  fault: {register: 40, bits: [3, 1]}
  charger_status: {register: 41, labels: {0: Available, 2: Charging}}
  plugged: {table: discrete, register: 3, type: bit}
identity:
  serial: {register: 100, length: 4}
  firmware: {register: 104, type: uint16}
match:
  - {register: 104, type: uint16, equals: 0x0102}
  - {register: 100, length: 2, equals: AC}
setup:
  - {table: holding, register: 9, value: 1}
heartbeat: {table: holding, register: 8, value: 1, every_s: 10, function: single}
settings:
  current_limit_a: {table: holding, register: 5, scale: .1, min: 6, max: 32, zero: true, step: 1, safe: 6, refresh_s: 9}
  charging_enabled: {table: coil, register: 7, type: bit, function: single}
  phases: {table: holding, register: 6, values: {1: 0, 3: 1}, min: 1, max: 3, read_back: {register: 60}}
  power_limit_pct: {table: holding, register: 12, max: 100, read_back: none}
"""


def write(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def load(folder: Path, text: str = GOOD) -> LoadedModbusProfile:
    return load_modbus(str(write(folder, text)), ())


def test_a_profile_is_loaded_with_its_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    profile = loaded.profile
    points = {point.point: point for point in profile.points}
    assert points["power_w"] == ModbusPoint(
        "power_w", Register("input", 16, "int32", "little"), 0.1, missing=((-(1 << 31), -(1 << 31)),)
    )
    assert points["current_l1_a"].register.word_order == "big"
    assert points["current_l1_a"].every_s == 30
    sensors = [points[f"temperature_sensor_degc.{number}"].register.address for number in (1, 2, 3)]
    assert sensors == [30, 31, 32]
    assert points["temperature_sensor_degc.2"].missing == ((-32768, -32768), (-500, -400))
    assert points["plugged"].register == Register("discrete", 3, "bit", "little")
    assert profile.identity["serial"] == TextRegister("input", 100, 4)
    assert profile.match == (
        ModbusMatch(Register("input", 104, "uint16", "little"), 0x0102),
        ModbusMatch(TextRegister("input", 100, 2), "AC"),
    )
    assert profile.heartbeat == ModbusWrite(Register("holding", 8, "uint16", "little"), 1, "single")
    assert profile.heartbeat_s == 10
    assert plain_write(profile.setup[0]) == Write("holding", 9, (1,), 16)
    assert (profile.every_s, profile.timeout_s, profile.max_registers, profile.max_gap) == (5, 1, 125, 8)
    assert loaded.file.maker == "Acme"
    assert loaded.path == tmp_path / "mine.yaml"


def test_settings_are_loaded_and_written(tmp_path: Path) -> None:
    limit, enabled, phases, percent = load(tmp_path).profile.settings
    assert write_of(limit, 16) == Write("holding", 5, (160,), 16)
    assert [allowed(limit, value) for value in (0, 5.9, 6, 16.7, 32, 32.1, -1)] == [0, None, 6, 16, 32, None, None]
    assert agrees(limit, 16, 16.1)
    assert not agrees(limit, 16, 16.2)
    assert setting_of("d", limit, "A").refresh_s == 9
    assert write_of(enabled, 1) == Write("coil", 7, (1,), 5)
    assert write_of(phases, 3) == Write("holding", 6, (1,), 16)
    with pytest.raises(ValueError, match="2 is none of 1, 3"):
        write_of(phases, 2)
    assert phases.read_back is not None
    assert phases.read_back.register == Register("input", 60, "uint16", "little")
    assert read_value(phases, 3) == 3
    assert percent.read_back is None
    assert limit.read_back is not None
    assert read_value(limit, 160) == physical(limit.read_back, 160) == 16


def test_rounds_group_points_by_how_often_they_are_read(tmp_path: Path) -> None:
    profile = load(tmp_path).profile
    fast, slow = rounds(profile, 5)
    assert [block.span for block in fast.blocks] == [
        Span("discrete", 3, 1),
        Span("input", 16, 26),
    ]
    assert (slow.every_s, [block.span for block in slow.blocks]) == (30, [Span("input", 20, 2)])
    named = {profile.points[place].point for one in (fast, slow) for block in one.blocks for place in block.places}
    assert named == {point.point for point in profile.points}
    assert [one.every_s for one in rounds(profile, 60)] == [60], "a device that is read rarely has no faster points"


def test_points_become_signals(tmp_path: Path) -> None:
    specs = [spec_of("c1", point) for point in load(tmp_path).profile.points]
    by_name = {spec.name: spec for spec in specs}
    assert by_name["power_w"].unit == "W"
    assert by_name["power_w"].source == "input 16"
    assert by_name["fault"].source == "input 40 bit 3"
    assert by_name["charger_status"].labels == {0: "Available", 2: "Charging"}
    assert place_of(Register("holding", 7, "uint32", bits=(4, 3))) == "holding 7 bits 4..6"
    with pytest.raises(ConfigError, match="power is not in the vocabulary"):
        spec_of("c1", ModbusPoint("power", Register("holding", 0, "uint16")))


def test_the_driver_says_of_which_kind_a_profile_is(tmp_path: Path) -> None:
    assert isinstance(load_any_profile("victron_lv", profile_folders()), CanProfile)
    assert isinstance(load_any_profile(str(write(tmp_path, GOOD)), ()), LoadedModbusProfile)
    assert load_modbus("mine", [tmp_path]).profile == load(tmp_path).profile
    with pytest.raises(ConfigError, match=r"2:9: this profile is for `driver: modbus`, the device has `driver: can`"):
        load_profile("mine", [tmp_path])
    with pytest.raises(ConfigError, match=r"this profile is for `driver: can`, the device has `driver: modbus`"):
        load_modbus("victron_lv", profile_folders())
    with pytest.raises(ConfigError, match=r"did you mean `mine`\?"):
        load_any_profile("minne", [tmp_path])
    write(tmp_path, GOOD.replace("driver: modbus", "driver: modbuss"), "other")
    with pytest.raises(ConfigError, match=r"2:9: no profile is for the driver `modbuss`; did you mean `modbus`\?"):
        load_any_profile("other", [tmp_path])


@pytest.mark.parametrize(
    ("old", "new", "line", "at", "text"),
    [
        (
            "name: mine",
            "name: other",
            1,
            "other",
            "`other` is not the file's name; write `name: mine`, or rename the file",
        ),
        (
            "  power_w:",
            "  powr_w:",
            10,
            "powr_w: {regis",
            "`powr_w` is no point of the vocabulary; did you mean `power_w`?",
        ),
        ("power_w:", "power_w.1:", 10, "power_w.1: {re", "`power_w.1` is no array; write `power_w`"),
        (
            "count: 3, ",
            "",
            13,
            "temperature_se",
            "`temperature_sensor_degc` is an array; write `temperature_sensor_degc.1`, or add",
        ),
        (
            "type: int32, scale",
            "count: 2, type: int32, scale",
            10,
            "count: 2, type",
            "`power_w` can't have `count:`: it is no array",
        ),
        ("scale: 0.1, missing: [0x80000000]", "scale: 0", 10, "0}", "`scale` is 0, so all values would be the same"),
        ("scale: 0.1, missing: [0x80000000]", "scale: .inf", 10, ".inf}", "`scale` must be a finite number"),
        (
            "[0x80000000]",
            "[0x180000000]",
            10,
            "0x180000000]}",
            "`missing` names 6442450944, which an int32 never is; write raw",
        ),
        (
            "[-500, -400]",
            "[-400, -500]",
            13,
            "[-400, -500]]}",
            "the range begins at -400, behind its end -500; exchange them",
        ),
        (
            "scale: 10}",
            "scale: 10, missing: [0xFFFFFFFF]}",
            12,
            "0xFFFFFFFF]}",
            "`missing` names 4294967295, which a bcd32 never",
        ),
        ("scale: 10}", "scale: -10}", 12, "-10}", "`energy_import_wh` counts, so it can't have a negative scale"),
        ("every_s: 30", "every_s: 3", 11, "3}", "`every_s` is shorter than the device's, 5; delete it"),
        (
            "register: 0x10",
            "register: 65535",
            10,
            "65535, type: i",
            "ends at address 65536, the last one is 65535; addresses count",
        ),
        (
            "register: 0x10",
            "register: 40",
            15,
            "41, labels: {0",
            "`charger_status` reads registers of `power_w`; map each register",
        ),
        (
            "register: 22,",
            "register: 21,",
            12,
            "21, type: bcd3",
            "`energy_import_wh` reads registers of `current_l1_a`; map each",
        ),
        (
            "bits: [3, 1]",
            "bits: [12, 5]",
            14,
            "[12, 5]}",
            "bits 12 to 16 of 16; write [lowest, how many], counted from 0",
        ),
        (
            "word_order: big, every_s",
            "bits: [0, 1], every_s",
            11,
            "[0, 1], every_",
            "a float32 has no bits; delete `bits`",
        ),
        ("3, type: bit}", "3}", 16, "{table: discre", "discrete holds bits only; write `type: bit`"),
        (
            "plugged: {table: discrete, ",
            "plugged: {",
            16,
            "bit}",
            "`type: bit` is for coil and discrete, not for input",
        ),
        (
            "2: Charging",
            "2: Chargin",
            15,
            "Chargin}}",
            "`Chargin` is no state of OCPP 1.6 ChargePointStatus; did you mean",
        ),
        (
            "41, labels: {0: Available, 2: Charging}",
            "41",
            15,
            "charger_status",
            "`charger_status` has no labels; name each raw value",
        ),
        ("2: Charging}", "2: Charging}, scale: 2", 15, "{0: Available,", "a value with labels has no scale; delete"),
        (
            "2: Charging",
            "70000: Charging",
            15,
            "Charging}}",
            "`labels` names 70000, which a uint16 never is; write raw values",
        ),
        (
            "length: 4",
            "type: string",
            18,
            "serial: {regis",
            "`length` is missing here; add how many registers the text has",
        ),
        ("104, type: uint16}", "104, type: uint16, length: 2}", 19, "2}", "a uint16 has no length; delete it"),
        ("equals: 0x0102", "equals: AB", 21, "AB}", "`equals` must be a whole number for `type: uint16`; write what"),
        (
            "equals: 0x0102",
            "equals: [7, AB]",
            21,
            "AB]}",
            "`equals` must be a whole number for `type: uint16`; write what",
        ),
        ("equals: 0x0102", "equals: [7, [9, 8]]", 21, "[9, 8]]}", "the range begins at 9, behind its end 8; exchange"),
        ("equals: 0x0102", "equals: 65536", 21, "65536}", "`equals` names 65536, which a uint16 never is; write raw"),
        (
            "equals: 0x0102",
            "equals: []",
            21,
            "[]}",
            "`equals` is empty, so nothing would fit; write what the device says",
        ),
        (
            "equals: 0x0102",
            "equals: [1, [9, ten]]",
            21,
            "ten]]}",
            "`equals` must be a whole number, not the text 'ten'; write for example",
        ),
        (
            "equals: 0x0102",
            "equals: [[1, 2, 3]]",
            21,
            "[1, 2, 3]]}",
            "`equals` must have at most 2 entries; write for example",
        ),
        (
            "equals: 0x0102",
            "equals: 7.5",
            21,
            "7.5}",
            "`equals` must be a whole number, text or a list, not 7.5; write for example",
        ),
        (
            "scale: 10}",
            "scale: '10'}",
            12,
            "'10'}",
            "`scale` must be a number, not the text '10'; write it without quotes",
        ),
        (
            "read_back: none",
            "read_back: nothing",
            30,
            "nothing}",
            "`read_back` must be a mapping or one of none, not the text 'nothing'; ",
        ),
        (
            "read_back: {register: 60}",
            "read_back: {register: 60, scal: 2}",
            29,
            "scal: 2",
            "unknown key `scal`; did you mean `scale`?",
        ),
        ("equals: AC", "equals: ''", 22, "''}", "`equals` is empty, so any text would fit; write how the text begins"),
        (
            "word_order: little\n",
            "write_pause_s: 9.5\n",
            27,
            "9}",
            "`refresh_s` 9 is shorter than `write_pause_s`, 9.5; write a longer one",
        ),
        (
            "word_order: little\n",
            "write_pause_s: 11\n",
            25,
            "10, function",
            "`every_s` 10 is shorter than `write_pause_s`, 11; write a longer one",
        ),
        ("equals: AC", "equals: 7", 22, "7}", "`equals` must be text for `type: string`; write what the device says"),
        (
            "register: 9, value: 1",
            "register: 9, value: 70000",
            24,
            "70000}",
            "70000 does not fit into uint16 (0 to 65535)",
        ),
        (
            "register: 8, value: 1, ",
            "register: 8, type: int32, value: 1, ",
            25,
            "int32, value: ",
            "function `single` writes one",
        ),
        (
            "current_limit_a: {table: holding",
            "current_limit: {table: holding",
            27,
            "current_limit:",
            "`current_limit` is no point",
        ),
        (
            "current_limit_a: {table: holding",
            "current_limit_a: {table: input",
            27,
            "current_limit_",
            "input can't be written; write",
        ),
        ("min: 6, max: 32", "min: 32, max: 6", 27, "32, max: 6, ze", "`min` 32 is above `max` 6; exchange them"),
        (
            "max: 32",
            "max: 7000",
            27,
            "7000, zero: tr",
            "70000 does not fit into uint16 (0 to 65535); check type and scale",
        ),
        ("safe: 6", "safe: 5", 27, "5, refresh_s: ", "`safe` 5 can't be set; write a value from 6 to 32, or 0"),
        (
            "step: 1, safe",
            "step: -1, safe",
            27,
            "-1, safe: 6, r",
            "`step` is negative; write how far apart its values are",
        ),
        (
            "values: {1: 0, 3: 1}",
            "values: {1: 0, 4: 1}",
            29,
            "1}, min: 1, ma",
            "4 is outside of `min` and `max`; write these",
        ),
        ("values: {1: 0, 3: 1}", "values: {1: 0, 3: 99999}", 29, "99999}, min: 1", "99999 does not fit into uint16"),
        (
            "min: 1, max: 3",
            "min: 1, max: 3, safe: 2",
            29,
            "2, read_back: ",
            "`safe` 2 is none of `values`; write one of them",
        ),
        (
            "max: 100",
            "max: 100, zero: true",
            30,
            "true, read_bac",
            "`zero` says nothing where `min` is not above 0; delete it",
        ),
        (
            "max: 100",
            "max: 100, bits: [0, 4]",
            30,
            "[0, 4], read_b",
            "bits can't be written apart from the others of their register",
        ),
        (
            "{register: 60}",
            "{register: 60, type: bit}",
            29,
            "bit}}",
            "`type: bit` is for coil and discrete, not for input",
        ),
        (
            "word_order: little",
            "word_order: little\nmax_registers: 1",
            11,
            "int32, scale: ",
            "int32 takes more than `max_registers`",
        ),
        ("word_order: little", "word_order: littel", 8, "littel", "`word_order` must be one of big, little"),
        ("driver: modbus", "driver: modbus\nspeed: 3", 3, "speed: 3", "unknown key `speed`"),
        ("source: the maker's description, revision 3\n", "", 1, "name: mine", "`source` is missing here"),
        (
            "scale: 0.1, missing: [0x8000, ",
            "stride: 0, missing: [0x8000, ",
            13,
            "0, missing: [0",
            "`stride` must be at least 1",
        ),
        (
            "type: int32, scale",
            "type: int32, stride: 4, scale",
            10,
            "4, scale: 0.1,",
            "`stride` stands here without `count`",
        ),
        (
            "{register: 40, bits",
            "{register: 40, exponent: 70000, bits",
            14,
            "70000, bits: [",
            "`exponent` must be at most 65535",
        ),
        ("3, type: bit}", "3, type: bit, exponent: 4}", 16, "4}", "a bit has no exponent; delete it"),
    ],
)
def test_a_mistake_is_located(tmp_path: Path, old: str, new: str, line: int, at: str, text: str) -> None:
    assert old in GOOD
    file = GOOD.replace(old, new)
    column = file.splitlines()[line - 1].index(at) + 1
    found = refused(tmp_path, file)
    assert any(one.startswith(f"{line}:{column}: {text}") for one in found), "\n".join(found)
    assert len({one.rpartition(";")[0] for one in found}) == len(found)


def refused(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_modbus(str(path), ())
    return [line.removeprefix(f"{path}:") for line in caught.value.reason.strip().splitlines()]


def test_all_mistakes_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = refused(tmp_path, GOOD.replace("power_w:", "powr_w:").replace("safe: 6", "safe: 5"))
    assert [line.partition(":")[0] for line in lines] == ["10", "27"]


def test_writes_without_settings_never_happen(tmp_path: Path) -> None:
    lines = refused(tmp_path, GOOD[: GOOD.index("settings:")])
    assert [line.partition(": ")[2] for line in lines] == [
        "`setup` without `settings` is never written; delete it",
        "`heartbeat` without `settings` is never written; delete it",
    ]


def test_an_array_that_overlaps_itself_is_found(tmp_path: Path) -> None:
    text = GOOD.replace("register: 30, type: int16, count: 3", "register: 30, type: int32, stride: 1, count: 3")
    assert "reads registers of `temperature_sensor_degc.1`" in refused(tmp_path, text)[0]
