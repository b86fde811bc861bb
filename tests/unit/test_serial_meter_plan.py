"""Which meters may share a port, and what a plan makes of them."""

from pathlib import Path

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import ConfigError
from drivers.serial_meter.asked import AskedWire
from drivers.serial_meter.plan import plan_meters
from drivers.serial_meter.push import PushListener
from drivers.serial_meter.settings import MeterSettings

KEY = "00112233445566778899AABBCCDDEEFF"


def dsmr(port: str = "/dev/ttyUSB0", key_file: Path | None = None) -> MeterSettings:
    return MeterSettings("grid", "dsmr", port, key_file=key_file)


def mbus(device: str, address: str, baud: int | None = None) -> MeterSettings:
    return MeterSettings(device, "mbus", "/dev/ttyUSB1", address=address, baud=baud)


def asked(device: str, address: str | None = None) -> MeterSettings:
    return MeterSettings(device, "d0", "/dev/ttyUSB2", request=True, address=address)


def test_one_part_for_each_port_in_the_order_of_the_devices() -> None:
    plan = plan_meters(
        [
            dsmr(),
            mbus("heat", "5"),
            MeterSettings("pv", "sml", "socket://10.0.0.9:4001"),
            mbus("water", "1234567824400102"),
            asked("old"),
            MeterSettings("pushed", "d0", "/dev/ttyUSB3"),
        ]
    )
    parts = plan.parts(FakeClock())
    assert [part.name for part in parts] == [
        "/dev/ttyUSB0",
        "/dev/ttyUSB1",
        "socket://10.0.0.9:4001",
        "/dev/ttyUSB2",
        "/dev/ttyUSB3",
    ]
    assert [type(part) for part in parts] == [PushListener, AskedWire, PushListener, AskedWire, PushListener]
    heat = parts[1]
    assert isinstance(heat, AskedWire)
    assert [unit.device for unit in heat.units] == ["heat", "water"]
    assert [job.every_s for unit in heat.units for job in unit.jobs] == [60, 60]
    assert [list(unit.signals) for unit in heat.units] == [[], []]
    pushed = parts[0]
    assert isinstance(pushed, PushListener)
    assert pushed.devices == ("grid",)
    assert {part.max_retry_s for part in parts} == {3.0}


def test_plans_are_equal_as_long_as_nothing_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    first = plan_meters([dsmr(key_file=file), mbus("heat", "5")]).wires
    assert plan_meters([dsmr(key_file=file), mbus("heat", "5")]).wires == first
    assert plan_meters([dsmr(key_file=file), mbus("heat", "6")]).wires[0] == first[0]
    assert plan_meters([dsmr(key_file=file), mbus("heat", "6")]).wires[1] != first[1]
    file.write_text(KEY[::-1])
    assert plan_meters([dsmr(key_file=file), mbus("heat", "5")]).wires[0] != first[0]
    for secret in (KEY, repr(bytes.fromhex(KEY))[2:-1]):
        assert secret not in repr(first)


@pytest.mark.parametrize(
    ("meters", "text"),
    [
        ([dsmr(), MeterSettings("two", "sml", "/dev/ttyUSB0")], "is grid's already"),
        ([dsmr(), MeterSettings("two", "mbus", "/dev/ttyUSB0", address="1")], "is grid's already"),
        ([mbus("a", "5"), mbus("b", "05")], "same address"),
        ([mbus("a", "1234567824400A02"), mbus("b", "1234567824400a02")], "same address"),
        ([mbus("a", "5"), mbus("b", "6", baud=9600)], "differs from"),
        ([asked("a", "1"), asked("b", "1")], "same address"),
        ([asked("a", "1"), asked("b")], "there are others"),
        ([mbus("a", "5"), mbus("b", "254")], "there are others"),
        ([asked("a", "no?such!")], "is no address"),
        ([dsmr("socket://nowhere")], "no address of a serial server"),
        ([dsmr(key_file=Path("/nonexistent/key"))], "can't read"),
    ],
)
def test_what_can_not_work_is_refused_at_once(meters: list[MeterSettings], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        plan_meters(meters)
    assert caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", KEY[:-1].encode(), KEY.encode() + b"00", KEY[:-1].encode() + b"G", b"\xff" * 32]
)
def test_a_file_that_holds_no_key_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="key") as caught:
        plan_meters([dsmr(key_file=file)])
    assert caught.value.hint


def test_a_key_may_be_written_in_groups(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(" ".join(KEY[at : at + 4] for at in range(0, 32, 4)) + "\n")
    ((meter,),) = plan_meters([dsmr(key_file=file)]).wires
    assert meter.key == bytes.fromhex(KEY)


def test_two_meters_that_are_asked_by_address_share_a_port() -> None:
    (wire,) = plan_meters([asked("a", "1"), asked("b", "2")]).parts(FakeClock())
    assert isinstance(wire, AskedWire)
    assert [unit.device for unit in wire.units] == ["a", "b"]
