"""What is proposed can be pasted: held against the real configuration models."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from agent.cli.main import main
from agent.cli.scan import Screen
from agent.config import ModbusDevice, SerialMeterDevice
from agent.core.clock import FakeClock
from agent.scan_proposal import NO_PROFILE, Found, Product, as_jsonl, as_yaml, propose
from agent.scan_targets import Configured
from agent.yamlfile import Json, Section, parse
from drivers.modbus.scan import FoundUnit
from drivers.serial_meter.scan import FoundMeter

PORT = "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A1-if00-port0"
RTU = f"rtu://{PORT}?baud=9600&parity=N"
PRODUCTS = {"eastron_sdm630": Product("Eastron", "SDM630"), "acme_x": Product("Acme", "X\nY")}
METER = FoundUnit(RTU, 3, ("eastron_sdm630", "sunspec"), identity=(("serial", "123"),), values=(("power_w", "5"),))


class _File(Section):
    devices: tuple[ModbusDevice | SerialMeterDevice, ...]


def parsed(text: str) -> tuple[ModbusDevice | SerialMeterDevice, ...]:
    document, problems = parse(text, "proposal")
    assert document is not None
    file, found = document.check(_File)
    assert not [*problems, *found]
    assert file is not None
    return file.devices


def proposed(*found: Found, ids: frozenset[str] = frozenset()) -> str:
    return as_yaml(propose(found, PRODUCTS, Configured(ids=ids)))


def test_a_known_unit() -> None:
    text = proposed(METER)
    (device,) = parsed(text)
    assert isinstance(device, ModbusDevice)
    assert (device.id, device.profile, device.url, device.unit_id) == ("sdm630_3", "eastron_sdm630", RTU, 3)
    assert text.splitlines()[1:5] == [
        f"  # unit 3 on {PORT}: Eastron SDM630",
        "  # it says: serial 123",
        "  # it reads: power_w 5",
        "  # also fits: sunspec",
    ]


def test_an_unknown_unit_says_what_it_is_and_that_a_profile_must_be_chosen() -> None:
    said = (("vendor", "Acme"), ("product code", "M 1"))
    text = proposed(FoundUnit("tcp://10.0.0.21:502", 1, said=said, similar=("acme_x",)))
    (device,) = parsed(text)
    assert isinstance(device, ModbusDevice)
    assert (device.id, device.profile) == ("m_1_1", NO_PROFILE)
    assert "# it says: vendor Acme, product code M 1" in text
    assert "# profiles of this maker: acme_x" in text
    assert f"profile: {NO_PROFILE}  # the name of its profile" in text


def test_a_sunspec_device_is_called_by_what_it_says() -> None:
    identity = (("maker", "Solar Inc"), ("model", "SE-10K"), ("serial", "7"))
    (device,) = parsed(proposed(FoundUnit("tcp://10.0.0.21:502", 126, ("sunspec",), identity=identity)))
    assert isinstance(device, ModbusDevice)
    assert (device.id, device.profile, device.unit_id) == ("se_10k_126", "sunspec", 126)


def test_meters() -> None:
    found = (
        FoundMeter(PORT, "dsmr", (), "4B384547303034303436333935353037", values=(("power_w", "0.2 kW"),)),
        FoundMeter("/dev/ttyUSB1", "dsmr", (("baud", 9600), ("framing", "7E1")), None, notes=("it is old",)),
        FoundMeter("/dev/ttyUSB2", "mbus", (("baud", 300), ("address", "1234567824400102")), "12345678"),
        FoundMeter("/dev/ttyUSB2", "mbus", (("address", "5"),), "87654321"),
        FoundMeter("socket://10.0.0.9:4001", "d0", (("request", True),), "1 ACM-42"),
    )
    devices = parsed(proposed(*found))
    assert [device.id for device in devices] == [
        "dsmr_35353037",
        "dsmr_meter",
        "mbus_12345678",
        "mbus_87654321",
        "d0_1acm42",
    ]
    settings = [device.settings() for device in devices if isinstance(device, SerialMeterDevice)]
    assert [one.line for one in settings] == [
        (115_200, "8N1"),
        (9600, "7E1"),
        (300, "8E1"),
        (2400, "8E1"),
        (300, "7E1"),
    ]
    assert settings[2].secondary
    assert not settings[3].secondary
    assert settings[4].request


def test_ids_are_unique_also_against_the_configuration() -> None:
    units = [FoundUnit(f"tcp://10.0.0.{n}:502", 1, ("eastron_sdm630",)) for n in (10, 9, 2)]
    devices = parsed(proposed(*units, ids=frozenset({"sdm630_1"})))
    assert [device.id for device in devices] == ["sdm630_1_2", "sdm630_1_3", "sdm630_1_4"]
    assert [device.url[13:-4] for device in devices if isinstance(device, ModbusDevice)] == ["2", "9", "10"]


def test_nothing_found_is_an_empty_list() -> None:
    assert parsed(proposed()) == ()
    assert as_jsonl([]) == ""


@given(st.lists(st.text(max_size=300), min_size=3, max_size=3), st.sampled_from(["sunspec", "acme_x", ""]))
def test_whatever_a_device_says_does_no_harm(texts: list[str], profile: str) -> None:
    one, two, three = texts
    models = (profile,) if profile else ()
    unit = FoundUnit(RTU, 3, models, ((one, two),), (("model", three),), ((one, three),), notes=(two,))
    meter = FoundMeter(PORT, "sml", (), one, ((two, three),), ((one, two),), (three,))
    proposals = propose((unit, meter), PRODUCTS, Configured())
    assert len(parsed(as_yaml(proposals))) == 2
    objects = [json.loads(line) for line in as_jsonl(proposals).split("\n")[:-1]]
    adapter: TypeAdapter[ModbusDevice | SerialMeterDevice] = TypeAdapter(ModbusDevice | SerialMeterDevice)
    for row in objects:
        adapter.validate_json(json.dumps(row["device"]))


def test_json_lines_have_fixed_keys() -> None:
    (line,) = as_jsonl(propose((METER,), PRODUCTS, Configured())).splitlines()
    row: dict[str, Json] = json.loads(line)
    assert row == {
        "device": {"id": "sdm630_3", "driver": "modbus", "profile": "eastron_sdm630", "url": RTU, "unit_id": 3},
        "summary": f"unit 3 on {PORT}: Eastron SDM630",
        "known": {"serial": "123"},
        "values": {"power_w": "5"},
        "alternatives": ["sunspec"],
        "notes": [],
    }


# --- what happens, on standard error ---


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_pipe_each_stage_is_one_line() -> None:
    stream = io.StringIO()
    screen = Screen(stream, FakeClock())
    screen.step("/dev/a 9600 8N1: asking", "unit 1", 70.4)
    screen.step("/dev/b 9600 8N1: asking", "unit 1", 0.5)
    screen.step("/dev/a 9600 8N1: asking", "unit 2", 69)
    screen.say("found it")
    screen.end()
    assert stream.getvalue() == (
        "/dev/a 9600 8N1: asking, at most 1 min 10 s left\n/dev/b 9600 8N1: asking\nfound it\n"
    )


def test_on_a_terminal_one_line_changes_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = _Terminal(), FakeClock()
    screen = Screen(stream, clock)
    screen.step("a: asking", "unit 1", 9)
    screen.step("a: asking", "unit 2", 8)
    clock.advance(1)
    screen.step("a: asking", "unit 3", 7)
    screen.say("found it")
    screen.end()
    assert stream.getvalue() == (
        "\r\x1b[Ka: asking unit 1, at most 9 s left\r\x1b[Ka: asking unit 3, at most 7 s left\r\x1b[Kfound it\n"
    )


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["zigbee"], "invalid choice"),
        (["modbus", "--units", "1-300"], "unit ids are 0 to 255"),
        (["modbus", "--units", "9-3"], "the smaller one first"),
        (["modbus", "--units", "all"], "write 1-247"),
        (["modbus", "--network", "10.0.0.0/8"], "too large"),
        (["modbus", "--network", "home"], "is no network"),
        (["modbus", "--host", "::1"], "is no host"),
        (["modbus", "--timeout", "0"], "write seconds"),
        (["modbus", "--timeout", "nan"], "write seconds"),
        (["modbus", "--baud", "fast"], "write a number"),
        (["serial", "--port", "COM1"], "is no port"),
        (["serial", "--host", "10.0.0.1"], "are for `scan modbus`"),
    ],
)
def test_wrong_arguments_say_what_to_write(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["scan", *arguments])
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_a_configuration_that_is_no_yaml_stops_the_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("devices: [}")
    assert main(["scan", "modbus", "--host", "127.0.0.1:1", "--config", str(path)]) == 78
    assert capsys.readouterr().out == ""
