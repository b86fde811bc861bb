"""Values that a device's test doubts, and how it says so."""

import asyncio
import struct
from array import array
from collections.abc import Sequence

import pytest

from agent.core.clock import FakeClock
from agent.core.model import Batch, Encoding, Kind, Number, SignalSpec, float_to_word
from agent.core.points import POINTS
from agent.core.ports import Sink
from agent.device_probe import Probe
from agent.plausible import doubtful
from tests.meters import with_time

#: 230.5 V and 50.02 Hz as float32, their words in the wrong order.
SWAPPED_V, SWAPPED_HZ = (
    struct.unpack(">f", struct.pack(">f", one)[2:] + struct.pack(">f", one)[:2])[0] for one in (230.5, 50.02)
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("voltage_l1_v", 1e30),
        ("voltage_l1_v", 2305),
        ("voltage_l1_v", SWAPPED_V),
        ("frequency_hz", SWAPPED_HZ),
        ("frequency_hz", 5002),
        ("frequency_hz", 16.7),
        ("current_l2_a", -65_535),
        ("power_w", 4_294_967_295),
        ("power_factor", 987),
        ("energy_import_wh", -1e12),
        ("energy_import_wh", 1e18),
        ("cell_voltage_v.3", 3301),
        ("soc_pct", 655.35),
        ("temperature_degc", -3276.8),
    ],
)
def test_what_no_site_has_is_doubted(name: str, value: Number) -> None:
    assert doubtful(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("voltage_l1_v", 230.5),
        ("voltage_l1_v", 0),
        ("dc_voltage_v", 1480.0),
        ("frequency_hz", 60.01),
        ("frequency_hz", 0),
        ("current_l2_a", -399.9),
        ("power_w", -22_000_000),
        ("power_w", 0.0001),
        ("power_factor", -1.001),
        ("energy_import_wh", 999_999_999_900),
        ("energy_export_wh", -5),
        ("cell_voltage_v.3", 3.301),
        ("cell_voltage_max_index", 16),
        ("soc_pct", 100),
        ("temperature_degc", -25.5),
        ("charger_status", 17_254),
        ("session_duration_s", 4e9),
        ("1-0:99.1.0", 1e30),
    ],
)
def test_what_some_site_may_have_is_not(name: str, value: Number) -> None:
    assert not doubtful(name, value)


def test_nothing_is_doubted_for_being_zero() -> None:
    assert not [name for name in POINTS if doubtful(name, 0)]


class Told:
    """A wire that tells its values at once and then nothing more."""

    name = "told"
    devices = ("meter1",)
    max_retry_s = 1.0

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values

    async def run(self, sink: Sink) -> None:
        count = len(self._values)
        words = array("q", [float_to_word(one) for one in self._values])
        sink.put(Batch(array("i", range(1, count + 1)), array("q", [0]) * count, words))
        await asyncio.get_running_loop().create_future()


def _hint(**values: float) -> str:
    clock = FakeClock()
    specs = [SignalSpec("meter1", name, POINTS[name].unit, Kind.GAUGE, Encoding.FLOAT) for name in values]
    tested = asyncio.run(with_time(clock, Probe(clock, specs).read(Told([*values.values()]), "modbus", 10.0)))
    assert tested.ok, "it did answer"
    assert len(tested.values) == len(values)
    return tested.hint


def test_a_test_names_what_can_hardly_be() -> None:
    found, _, asked = _hint(voltage_l1_v=1e30, power_w=-1200.0, frequency_hz=5002.0).partition("; ")
    assert found == "hardly possible: voltage_l1_v 1e+30 V, frequency_hz 5002 Hz"
    assert asked == "does the profile fit the device, and its word order?"


def test_a_test_of_a_device_as_it_should_be_has_no_hint() -> None:
    assert _hint(voltage_l1_v=230.1, power_w=-1200.0, frequency_hz=49.98) == ""
