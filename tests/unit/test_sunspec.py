"""SunSpec discovery against register images that were written by hand from the models' public definitions."""

import asyncio
import random
import struct
from collections.abc import Sequence
from itertools import chain as joined

import pytest

from agent.core.errors import BadData, DeviceError, NoAnswer, Unsupported
from agent.core.points import find_point
from drivers.codec.registers import Table, TextRegister, number_of, text_of
from drivers.modbus.model import ModbusPoint, ModbusProfile, Part
from drivers.modbus.sunspec import SunspecModel, discover, walk
from drivers.modbus.sunspec_models import INPUTS, MODELS, TYPES

MARKER = [0x5375, 0x6E53]
END = [0xFFFF, 0]
NOT = 0x8000  #: int16 and sunssf: not implemented
NO = 0xFFFF  #: uint16 and enum16: not implemented


def text(value: str, count: int) -> list[int]:
    data = value.encode().ljust(2 * count, b"\0")
    return list(struct.unpack(f">{count}H", data))


def common(maker: str, model: str, serial: str) -> list[int]:
    """Model 1, 66 long: Mn, Md, Opt, Vr, SN, DA, Pad."""
    words = text(maker, 16) + text(model, 16) + text("", 8) + text("1.2.3", 8) + text(serial, 16)
    return [1, 66, *words, 1, NOT]


def s16(value: int) -> int:
    return value & 0xFFFF


def u32(value: int) -> list[int]:
    return [value >> 16, value & 0xFFFF]


def f32(*values: float) -> list[int]:
    return list(struct.unpack(f">{2 * len(values)}H", struct.pack(f">{len(values)}f", *values)))


#: A three-phase inverter at noon: 5.2 kW at 230 V, one temperature and the second power factor decimal not there.
INVERTER_103 = [
    *(103, 50),
    *(226, 76, 75, 75, s16(-1)),  # A 22.6, phases 7.6 7.5 7.5
    *(4001, 4002, 4003, 2301, 2302, 2303, s16(-1)),  # 400.1 V ... 230.3 V
    *(520, 1),  # W 5200
    *(4998, s16(-2)),  # Hz 49.98
    *(5210, 0),  # VA
    *(s16(-300), 0),  # VAr
    *(s16(-9980), s16(-2)),  # PF -99.8 %
    *u32(12345678),
    0,  # WH
    *(815, s16(-2)),  # DCA 8.15
    *(6502, s16(-1)),  # DCV 650.2
    *(5299, 0),  # DCW
    *(s16(-35), 412, NOT, NOT, s16(-1)),  # cabinet -3.5 degC, heat sink 41.2
    *(4, 0),  # St MPPT, StVnd
    *u32(0),
    *u32(0xFFFFFFFF),  # Evt1 none, Evt2 not implemented
    *u32(0),
    *u32(0),
    *u32(0),
    *u32(0),
]


def dc_input(name: str, current: int, voltage: int, power: int) -> list[int]:
    return [1, *text(name, 8), current, voltage, power, *u32(1000), *u32(0), 25, 4, *u32(0)]


INPUTS_160 = [
    *(160, 8 + 3 * 20),
    *(s16(-2), s16(-1), 0, 0, *u32(0), 3, NO),
    *dc_input("MPPT 1", 415, 6502, 2698),
    *dc_input("StCha 2", 100, 4000, 400),
    *dc_input("MPPT 3", 400, 6503, NO),
]

#: A wye meter that gives 1.5 kW to the grid, phase B drawing.
METER_203 = [
    *(203, 105),
    *(s16(-61), s16(-50), 20, s16(-31), s16(-1)),  # A
    *(2305, 2301, 2302, 2303, 3990, 4001, 4002, 4003, s16(-1)),  # V
    *(5001, s16(-2)),  # Hz 50.01
    *(s16(-1500), s16(-1150), 350, s16(-700), 0),  # W
    *(1520, 1160, 360, 710, 0),  # VA
    *(120, 40, 41, 39, 0),  # VAR
    *(s16(-98), s16(-99), 97, NOT, 0),  # PF in %
    *u32(500),
    *u32(200),
    *u32(0),
    *u32(300),  # exported; phase B is not implemented
    *u32(7001),
    *u32(2000),
    *u32(2001),
    *u32(3000),
    1,  # TotWh_SF: tens
    *([0] * 50),
    *u32(0x20),  # Evt
]


class Device:
    """Answers for the registers that it has, as a device does."""

    def __init__(self, image: Sequence[int], base: int = 40000) -> None:
        self.image = dict(enumerate(image, base))
        self.reads: list[tuple[int, int]] = []

    async def read(self, table: Table, address: int, count: int) -> list[int]:
        assert table == "holding"
        assert 0 < count <= 125
        self.reads.append((address, count))
        if any(at not in self.image for at in range(address, address + count)):
            raise Unsupported("read", "illegal data address")
        return [self.image[at] for at in range(address, address + count)]

    def words(self, address: int, count: int) -> list[int]:
        return [self.image[at] for at in range(address, address + count)]

    def discover(self, part: Part | None = None) -> ModbusProfile:
        return asyncio.run(discover(self.read, part))

    def value(self, point: ModbusPoint) -> float | str | None:
        """What the point says: label, value in its unit, or None."""
        raw = number_of(point.register, self.words(point.register.address, point.register.count))
        if raw is None or any(low <= raw <= high for low, high in point.missing):
            return None
        if point.labels:
            return point.labels[int(raw)]
        power = 0
        if point.exponent:
            found = number_of(point.exponent, self.words(point.exponent.address, 1))
            if found == -0x8000:
                return None
            power = int(found or 0)
        return float(raw * 10.0**power * point.scale + point.offset)

    def values(self, part: Part | None = None) -> dict[str, float | str | None]:
        return {point.point: self.value(point) for point in self.discover(part).points}

    def texts(self, part: Part | None = None) -> dict[str, str]:
        found = {}
        for key, register in self.discover(part).identity.items():
            assert isinstance(register, TextRegister)
            found[key] = text_of(register, self.words(register.address, register.count))
        return found


def device(*models: Sequence[int], base: int = 40000) -> Device:
    return Device([*MARKER, *joined.from_iterable(models), *END], base)


SITE = (common("Acme", "Sun 5", "A1"), INVERTER_103, INPUTS_160, common("Acme", "Meter", "M7"), METER_203)


def test_the_images_are_as_long_as_their_models_say() -> None:
    for image in (INVERTER_103, INPUTS_160, METER_203, common("", "", "")):
        assert len(image) == image[1] + 2


def test_an_inverter_with_its_strings() -> None:
    expected = {
        "power_w": -5200,
        "apparent_power_va": 5210,
        "reactive_power_var": 300,
        "power_factor": -0.998,
        "current_a": 22.6,
        "current_l1_a": 7.6,
        "current_l2_a": 7.5,
        "current_l3_a": 7.5,
        "voltage_l1_l2_v": 400.1,
        "voltage_l2_l3_v": 400.2,
        "voltage_l3_l1_v": 400.3,
        "voltage_l1_v": 230.1,
        "voltage_l2_v": 230.2,
        "voltage_l3_v": 230.3,
        "frequency_hz": 49.98,
        "energy_export_wh": 12345678,
        "dc_current_a": -8.15,
        "dc_voltage_v": 650.2,
        "dc_power_w": -5299,
        "temperature_degc": -3.5,
        "temperature_sensor_degc.1": -3.5,
        "temperature_sensor_degc.2": 41.2,
        "temperature_sensor_degc.3": None,
        "temperature_sensor_degc.4": None,
        "inverter_status": "MPPT",
        "fault_code": 0,
        "string_current_a.1": -4.15,
        "string_voltage_v.1": 650.2,
        "string_power_w.1": -2698,
        "string_current_a.3": -4.0,
        "string_voltage_v.3": 650.3,
        "string_power_w.3": None,
    }
    found = device(*SITE).values()
    assert found.keys() == expected.keys()
    assert {name: value for name, value in found.items() if isinstance(value, float)} == pytest.approx(
        {name: value for name, value in expected.items() if isinstance(value, float | int)}
    )
    assert {name for name, value in found.items() if value is None} == {
        name for name, value in expected.items() if value is None
    }
    assert found["inverter_status"] == "MPPT"
    assert device(*SITE).texts() == {"maker": "Acme", "model": "Sun 5", "firmware": "1.2.3", "serial": "A1"}


def test_the_meter_behind_the_inverter() -> None:
    expected = {
        "power_w": -1500,
        "power_l1_w": -1150,
        "power_l2_w": 350,
        "power_l3_w": -700,
        "apparent_power_va": 1520,
        "apparent_power_l1_va": 1160,
        "apparent_power_l2_va": 360,
        "apparent_power_l3_va": 710,
        "reactive_power_var": 120,
        "reactive_power_l1_var": 40,
        "reactive_power_l2_var": 41,
        "reactive_power_l3_var": 39,
        "power_factor": -0.98,
        "power_factor_l1": -0.99,
        "power_factor_l2": 0.97,
        "power_factor_l3": None,
        "current_a": -6.1,
        "current_l1_a": -5.0,
        "current_l2_a": 2.0,
        "current_l3_a": -3.1,
        "voltage_l1_v": 230.1,
        "voltage_l2_v": 230.2,
        "voltage_l3_v": 230.3,
        "voltage_l1_l2_v": 400.1,
        "voltage_l2_l3_v": 400.2,
        "voltage_l3_l1_v": 400.3,
        "frequency_hz": 50.01,
        "energy_export_wh": 5000,
        "energy_export_l1_wh": 2000,
        "energy_export_l2_wh": None,
        "energy_export_l3_wh": 3000,
        "energy_import_wh": 70010,
        "energy_import_l1_wh": 20000,
        "energy_import_l2_wh": 20010,
        "energy_import_l3_wh": 30000,
        "warning_code": 0x20,
    }
    assert device(*SITE).values("meter") == pytest.approx(expected)
    assert device(*SITE).texts("meter")["serial"] == "M7"


def test_a_meter_alone_needs_no_asking() -> None:
    found = device(common("Acme", "Meter", "M7"), METER_203)
    assert found.values() == found.values("meter")


def test_a_maker_that_counts_the_other_way_is_turned() -> None:
    found = device(common("SolarEdge ", "SE5K", "1"), INVERTER_103, common("WattNode", "WND", "2"), METER_203)
    values = found.values("meter")
    assert values["power_w"] == 1500
    assert values["power_l2_w"] == -350
    assert values["reactive_power_var"] == -120
    assert values["power_factor"] == pytest.approx(-0.98)
    assert values["energy_import_wh"] == 70010
    assert found.values()["power_w"] == -5200


def test_a_float_inverter_says_what_is_not_there_with_nan() -> None:
    nan = float("nan")
    words = f32(22.5, 7.5, 7.5, 7.5, nan, nan, nan, 230.5, 231.5, 232.5, 5200.0, 50.0, 5210.0, -10.0, 99.5, 1e6)
    model = [113, 60, *words, *f32(nan, nan, nan, 40.5, nan, nan, nan), 7, 0, *u32(0x82), *([0] * 10)]
    values = device(common("Acme", "Sun", "1"), model).values()
    assert values["power_w"] == -5200
    assert values["power_factor"] == pytest.approx(0.995)
    assert values["voltage_l1_l2_v"] is None
    assert values["dc_power_w"] is None
    assert values["energy_export_wh"] == 1e6
    assert values["temperature_degc"] == 40.5
    assert values["inverter_status"] == "Fault"
    assert values["fault_code"] == 0x82


def test_a_scale_factor_that_is_not_there_leaves_its_values_out() -> None:
    model = list(INVERTER_103)
    model[15] = NOT
    values = device(model).values()
    assert values["power_w"] is None
    assert values["apparent_power_va"] == 5210


def bank() -> list[int]:
    """Models 802 and 803: a 51.2 V bank at 76.5 %."""
    model = [802, 62, *([NO] * 62)]
    for offset, word in {
        2: 200,
        3: 10240 // 10,
        11: 765,
        13: 98,
        14: 0,
        15: 321,
        22: 3,
        26: 0,
        27: 0,
        34: 5190,
        37: 3345,
        40: 3312,
        43: 3330,
        44: s16(-125),
        45: 100,
        46: 120,
        52: 0,
        53: 1,
        56: s16(-1),
        58: 0,
        59: s16(-2),
        60: s16(-3),
        61: s16(-1),
        62: 0,
    }.items():
        model[offset] = word
    return model


LITHIUM_803 = [803, 26, 1, 1, 285, 1, 2, 241, 1, 5, 263, *([0] * 11), s16(-3), s16(-1), *([0] * 4)]


def test_a_battery_bank() -> None:
    expected = {
        "capacity_ah": 200,
        "energy_capacity_wh": 10240,
        "soc_pct": 76.5,
        "soh_pct": 98,
        "cycles": 321,
        "bms_state": "Connected",
        "fault_code": 0,
        "voltage_v": 51.9,
        "cell_voltage_max_v": 3.345,
        "cell_voltage_min_v": 3.312,
        "cell_voltage_mean_v": 3.33,
        "charge_current_limit_a": 100,
        "discharge_current_limit_a": 120,
        "temperature_max_degc": 28.5,
        "temperature_min_degc": 24.1,
        "temperature_degc": 26.3,
    }
    found = device(common("Acme", "Bank", "B"), bank(), LITHIUM_803).values()
    assert found.pop("bms_state") == expected.pop("bms_state")
    assert found == pytest.approx(expected)


def test_a_battery_beside_an_inverter_never_passes_for_it() -> None:
    alone = device(common("Acme", "Sun", "1"), INVERTER_103).values()
    both = device(common("Acme", "Sun", "1"), bank(), LITHIUM_803, INVERTER_103).values()
    assert {name: both[name] for name in alone} == alone
    assert both["soc_pct"] == pytest.approx(76.5)
    assert "voltage_v" not in both


def test_storage_controls_give_the_state_of_charge() -> None:
    model = [124, 24, *([0] * 24)]
    model[8], model[10], model[11], model[22], model[24] = 6650, 4012, 4, s16(-2), s16(-1)
    assert device(common("Acme", "Sun", "1"), INVERTER_103, model).values()["soc_pct"] == 66.5
    alone = device(common("Acme", "Store", "1"), model).values()
    assert alone == {"soc_pct": 66.5, "voltage_v": pytest.approx(401.2), "bms_state": "Charging"}


def test_the_newer_models_of_an_inverter() -> None:
    model = [701, 153, *([NO] * 153)]
    for offset, word in {
        4: 3,
        10: s16(-52),
        12: 4,
        17: 0,
        18: 5001,
        36: 300,
        41: s16(-17),
        46: 4001,
        114: s16(-1),
    }.items():
        model[offset] = word
    model[19:27] = [0, 0, 1, 2, 0, 0, 0, 3]
    for sf, word in {115: s16(-2), 116: 2, 119: 0, 120: 0, 122: s16(-1)}.items():
        model[sf] = word
    storage = [713, 7, 100, 80, 800, 99, 0, 2, s16(-1)]
    values = device(common("Acme", "Sun", "1"), model, storage).values()
    assert values["power_w"] == 5200  # the inverter draws: it charges its battery
    assert values["power_l1_w"] == 1700
    assert values["reactive_power_var"] == -4
    assert values["frequency_hz"] == pytest.approx(50.01)
    assert values["voltage_l1_l2_v"] == pytest.approx(400.1)
    assert values["energy_export_wh"] == 0x10002
    assert values["energy_import_wh"] == 3
    assert values["temperature_degc"] == 30
    assert values["inverter_status"] == "Running"
    assert values["energy_capacity_wh"] == 10000
    assert values["soc_pct"] == 80
    assert values["voltage_l1_v"] is None


@pytest.mark.parametrize("base", [40000, 50000, 0])
def test_the_marker_may_stand_at_three_places(base: int) -> None:
    found = device(*SITE, base=base)
    assert asyncio.run(walk(found.read))[0] == SunspecModel(1, base + 2, 66)
    assert found.values() == device(*SITE).values()


@pytest.mark.parametrize("image", [[], [0] * 200, [0x5375, 0x6E54] * 50])
def test_no_marker_is_no_sunspec(image: list[int]) -> None:
    with pytest.raises(Unsupported, match="no SunSpec marker at 40000, 50000, 0") as caught:
        Device(image).discover()
    assert caught.value.hint


def test_a_device_that_is_silent_is_not_called_unsupported() -> None:
    async def read(table: Table, address: int, count: int) -> list[int]:
        raise NoAnswer("read", "silence")

    with pytest.raises(NoAnswer):
        asyncio.run(discover(read))


def test_models_that_we_do_not_know_are_named() -> None:
    with pytest.raises(Unsupported, match="models 1, 64110, none of which is known") as caught:
        device(common("Acme", "X", "1"), [64110, 2, 0, 0]).discover()
    assert caught.value.hint
    with pytest.raises(Unsupported, match="models 1, 103, none of which is of a meter"):
        device(common("Acme", "X", "1"), INVERTER_103).discover("meter")


def test_a_chain_may_end_without_its_marker() -> None:
    whole = device(*SITE)
    assert Device([*MARKER, *joined.from_iterable(SITE)]).values() == whole.values()
    assert Device([*MARKER, *joined.from_iterable(SITE), 0, 0]).values() == whole.values()


@pytest.mark.parametrize("image", [[*MARKER, *([5, 0] * 500)], [*MARKER, 103, 65000, *([0] * 20000)]])
def test_a_chain_without_an_end_is_bad_data(image: list[int]) -> None:
    found = Device(image)
    with pytest.raises(BadData, match="no end"):
        found.discover()
    assert len(found.reads) <= 102


def test_a_model_that_is_shorter_than_its_definition_gives_what_it_has() -> None:
    short = [103, 39, *INVERTER_103[2:41]]
    values = device(common("Acme", "Sun", "1"), short, INPUTS_160).values()
    assert "fault_code" not in values  # its two registers start at 40: one of them is not there
    assert values["inverter_status"] == "MPPT"
    assert values["string_power_w.1"] == -2698


def test_a_model_that_is_longer_than_its_definition_is_passed_over_whole() -> None:
    longer = [103, 54, *INVERTER_103[2:], 1, 2, 3, 4]
    assert device(*SITE[:1], longer, *SITE[2:]).values() == device(*SITE).values()


def test_a_scale_factor_outside_the_model_takes_its_values_with_it() -> None:
    meter = [203, 50, *METER_203[2:52]]
    values = device(meter).values()
    assert values["power_w"] == -1500
    assert "energy_import_wh" not in values  # TotWh_SF would be the 54th


def test_inputs_never_outnumber_the_registers_that_the_model_has() -> None:
    lying = list(INPUTS_160)
    lying[INPUTS.count] = 0xFFFF
    values = device(common("Acme", "Sun", "1"), INVERTER_103, lying).values()
    assert {name for name in values if name.startswith("string_power_w")} == {"string_power_w.1", "string_power_w.3"}
    none = [160, 8, *INPUTS_160[2:10]]
    assert not [name for name in device(INVERTER_103, none).values() if name.startswith("string")]


def test_registers_that_are_refused_in_spite_of_the_chain_cost_no_more_than_themselves() -> None:
    found = device(*SITE)
    inputs = 40000 + 2 + 68 + 52  # marker, common model, inverter
    for at in range(inputs + 2, inputs + len(INPUTS_160)):
        del found.image[at]
    points = {point.point for point in found.discover().points}
    assert "power_w" in points
    assert not [name for name in points if name.startswith("string")]
    for at in range(40004, 40020):  # who made it
        del found.image[at]
    assert "power_w" in {point.point for point in found.discover("meter").points}


def test_of_two_inverters_the_first_counts() -> None:
    second = list(INVERTER_103)
    second[14] = 1
    first = device(common("Acme", "Sun", "1"), INVERTER_103, common("Acme", "Sun", "2"), second)
    assert first.values()["power_w"] == -5200
    assert first.texts()["serial"] == "1"


def test_random_registers_never_raise_anything_else() -> None:
    dice = random.Random(160)  # noqa: S311 - noise, not secrets
    whole = [*MARKER, *joined.from_iterable([*SITE, bank(), LITHIUM_803]), *END]
    for _ in range(300):
        image = list(whole)
        for _ in range(dice.randint(1, 6)):
            image[dice.randrange(2, len(image))] = dice.choice(
                [0, 1, 66, 160, 203, 0x8000, 0xFFFF, dice.getrandbits(16)]
            )
        part: Part | None = dice.choice([None, "inverter", "meter", "battery"])
        try:
            profile = Device(image[: dice.randint(2, len(image))]).discover(part)
        except DeviceError:
            continue
        assert all(find_point(point.point) for point in profile.points)


def test_each_row_is_of_the_vocabulary_and_stands_once_in_its_model() -> None:
    for model, rows in [*MODELS.items(), (INPUTS.model, INPUTS.rows)]:
        names = [row.point for row in rows]
        assert len(names) == len(set(names)), model
        for row in rows:
            assert find_point(row.point if model != INPUTS.model else f"{row.point}.1"), (model, row.point)
            assert row.sf is None or row.type not in {"enum16", "bitfield32", "float32"}, (model, row.point)
            assert row.type in TYPES
