"""What a scan leaves alone, and where it looks: networks from routing tables, ports by their lasting names."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.core.errors import ConfigError
from agent.scan_targets import (
    Configured,
    SerialPort,
    configured_in,
    hosts_in,
    named_port,
    named_ports,
    own_networks,
    read_configured,
)
from agent.yamlfile import Json

#: A line of /proc/net/route: name, destination, gateway, flags, RefCnt, Use, Metric, mask, MTU, window, IRTT.
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth1\t0001A8C0\t00000000\t0001\t0\t0\t200\t00FFFFFF\t0\t0\t0
eth1\t00C0A80A\t00000000\t0001\t0\t0\t100\t00FCFFFF\t0\t0\t0
wlan0\t0000000A\t00000000\t0001\t0\t0\t600\t000000FF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
wwan0\t007100CB\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
vpn0\t0009A8C0\t0101A8C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0
old0\t0008A8C0\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_private_networks_on_the_link_are_looked_through_and_the_others_are_told() -> None:
    networks, skipped = own_networks(ROUTES)
    assert networks == [IPv4Network("10.168.192.0/22"), IPv4Network("192.168.1.0/24")]
    assert [line.split()[0] for line in skipped] == ["10.0.0.0/8", "172.17.0.0/16", "203.0.113.0/24"]
    assert "too large" in skipped[0]
    assert "no private network" in skipped[2]


def test_every_address_is_tried_once() -> None:
    networks = [IPv4Network("10.0.0.0/30"), IPv4Network("10.0.0.0/29"), IPv4Network("10.0.1.7/32")]
    assert list(hosts_in(networks)) == [
        "10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.1.7",
    ]  # fmt: skip


@pytest.fixture
def port(tmp_path: Path) -> tuple[Path, Path]:
    node, link = tmp_path / "ttyUSB0", tmp_path / "by-id"
    node.touch()
    link.symlink_to(node)
    return node, link


def test_a_configured_port_is_known_by_all_its_names(port: tuple[Path, Path]) -> None:
    node, link = port
    rows: tuple[dict[str, Json], ...] = (
        {"id": "a", "driver": "serial_meter", "port": str(link)},
        {"id": "a", "driver": "modbus", "url": f"rtu://{link}?baud=9600&parity=E"},
        {"id": "a", "driver": "can", "interface": "slcan", "channel": f"{link}@115200"},
    )
    for row in rows:
        configured = configured_in({"devices": [row]}, lambda _: ())
        assert configured.ids == {"a"}
        assert configured.has_port(str(node))
        assert configured.has_port(str(link))
        assert not configured.has_port(str(node) + "1")


def test_a_configured_address_is_known_by_name_and_number() -> None:
    names = {"charger.local": ["10.0.0.7", "fd00::7"]}
    rows: list[Json] = [
        {"id": "a", "url": "tcp://charger.local"},
        {"id": "b", "url": "rtu+tcp://10.0.0.9:4001"},
        {"id": "c", "port": "socket://10.0.0.9:4002"},
        {"id": "d", "channel": "can0"},
        {"id": "e", "url": 5, "port": "socket://[", "channel": "tcp://"},
        "no device",
    ]
    configured = configured_in({"devices": rows}, lambda name: names.get(name, ()))
    assert configured.has_address("10.0.0.7", 502)
    assert configured.has_address("charger.local", 502)
    assert configured.has_address("c7", 502, ["fd00::7"])
    assert not configured.has_address("10.0.0.7", 1502)
    assert configured.has_port("socket://10.0.0.9:4001")
    assert configured.has_port("socket://10.0.0.9:4002")
    assert configured.ids == {"a", "b", "c", "d", "e"}


@pytest.mark.parametrize("data", [None, [], {"devices": None}, {"devices": {"a": 1}}, {"site": {"id": "x"}}])
def test_a_file_without_devices_configures_nothing(data: object) -> None:
    assert configured_in(data, lambda _: ()) == Configured()  # type: ignore[arg-type]


def test_a_file_with_mistakes_still_says_what_it_uses_and_one_that_is_no_yaml_stops_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("sight: {}\ndevices: [{id: m, driver: modbus, url: 'tcp://127.0.0.1:1502', wrong: 1}]\n")
    assert read_configured(path).has_address("127.0.0.1", 1502)
    path.write_text("devices: [}")
    with pytest.raises(ConfigError):
        read_configured(path)


def test_ports_go_by_their_lasting_names_without_console_and_telephones() -> None:
    ports = [
        ("/dev/ttyUSB1", "FT232R USB UART"),
        ("/dev/ttyUSB0", "n/a"),
        ("/dev/ttyS0", None),
        ("/dev/ttyAMA0", "ttyAMA0"),
        ("/dev/rfcomm0", "phone"),
    ]
    names = {"/dev/ttyUSB1": "/dev/serial/by-id/usb-FTDI_1"}
    found = named_ports(ports, names, ["tty0", "ttyS0"])
    assert found == [
        SerialPort("/dev/ttyAMA0", "/dev/ttyAMA0"),
        SerialPort("/dev/ttyUSB0", "/dev/ttyUSB0"),
        SerialPort("/dev/serial/by-id/usb-FTDI_1", "/dev/ttyUSB1", "FT232R USB UART"),
    ]
    assert [one.told for one in found[1:]] == [
        "/dev/ttyUSB0",
        "/dev/serial/by-id/usb-FTDI_1 (/dev/ttyUSB1), FT232R USB UART",
    ]


def test_a_named_port_keeps_a_lasting_name_and_a_node_gets_one(
    port: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node, link = port
    assert named_port(str(link)) == SerialPort(str(link), str(node))
    assert named_port(str(node)) == SerialPort(str(node), str(node))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "usb-1").symlink_to(node)
    monkeypatch.setattr("agent.scan_targets.BY_ID", folder)
    assert named_port(str(node)) == SerialPort(str(folder / "usb-1"), str(node))
    assert named_port("socket://h:1") == SerialPort("socket://h:1", "socket://h:1")
