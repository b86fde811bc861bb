"""``enlace check``: each finding says where, what and what to do."""

import os
import pty
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from agent import profiles
from agent.cli.main import main
from agent.config import CanDevice, ModbusDevice
from agent.core.clock import FakeClock
from agent.devices import Preparer
from agent.findings import frame_bits
from agent.store.db import Store
from agent.store.schema import STEPS
from agent.yamlfile import read_text
from drivers.codec.dbc_model import MessageDef

pytestmark = pytest.mark.usefixtures("free_machine")


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str, **keys: str) -> tuple[int, list[str]]:
    config = tmp_path / "site.yaml"
    lines = {"data_dir": str(tmp_path / "data"), "site": "{id: test}", "api": '{listen: "127.0.0.1:0"}'} | keys
    text = "".join(f"{key}: {value}\n" for key, value in lines.items())
    config.write_text(f"{text}devices:\n  - {device}\n")
    code = main(["check", "--config", str(config)])
    return code, capsys.readouterr().out.replace(str(tmp_path) + "/", "").splitlines()


BATTERY = "{id: a, driver: can, interface: virtual, channel: x, profile: demo_pack, bitrate: %d}"


def test_nothing_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, capsys, BATTERY % 500_000) == (0, [])


def test_a_bus_that_cannot_carry_its_messages_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check(tmp_path, capsys, BATTERY % 1000)
    assert code == 1
    assert found[0].startswith("error: site.yaml:5:3: the cyclic messages fill ")
    assert "check bitrate and cycle times" in found[0]


def test_frame_lengths() -> None:
    # 8 bytes: 47 + 64 bits without stuffing and at most 24 stuff bits; 29-bit identifiers have 20 bits more.
    assert 111 < frame_bits(MessageDef(1, False, "m", 8, ())) < 135
    assert 131 < frame_bits(MessageDef(1, True, "m", 8, ())) < 160


def test_a_database_that_would_be_moved_aside_is_told_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    Store.open(tmp_path / "data" / "enlace.db", FakeClock()).close()
    code, found = check(tmp_path, capsys, BATTERY % 500_000)
    assert (code, found) == (0, ["info: site.yaml:1:11: data/enlace.db holds 0 signals, 0 blocks, 0 events"])
    with closing(sqlite3.connect(tmp_path / "data" / "enlace.db")) as newer:
        newer.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    code, found = check(tmp_path, capsys, BATTERY % 500_000)
    reason = f"schema version {len(STEPS) + 1}, this program knows {len(STEPS)}"
    moved = "warning: site.yaml:1:11: the next start will move the database aside and begin a new one"
    assert (code, found) == (0, [f"{moved}: {reason}"])
    (tmp_path / "data" / "enlace.db").write_bytes(b"nonsense" * 1000)
    code, found = check(tmp_path, capsys, BATTERY % 500_000)
    assert code == 0
    assert found[0].startswith("warning: site.yaml:1:11: the next start will move the database aside")


def test_an_interface_that_is_not_there_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_netlink() -> NoReturn:
        raise OSError("the service may not use it")

    monkeypatch.setattr(socket, "if_nameindex", no_netlink)
    code, found = check(tmp_path, capsys, "{id: a, driver: can, channel: nocan7, profile: demo_pack}")
    assert (code, len(found)) == (0, 1)
    assert "this machine has no interface nocan7 now" in found[0]
    assert check(tmp_path, capsys, "{id: a, driver: can, channel: lo, profile: demo_pack}") == (0, [])


def test_a_kernel_without_that_kind_of_address_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(family: int) -> NoReturn:
        raise OSError(97, f"no family {family:d}")

    monkeypatch.setattr(socket, "socket", refuse)
    code, found = check(tmp_path, capsys, BATTERY % 500_000, api='{listen: "[::1]:0"}')
    assert (code, len(found)) == (0, 1)
    assert f"::1:0 can't be listened on now: no family {socket.AF_INET6:d}" in found[0]


def test_an_address_beyond_the_machine_has_tls_or_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check(tmp_path, capsys, BATTERY % 500_000, api='{listen: "0.0.0.0:0"}')
    assert (code, len(found)) == (0, 1)
    assert found[0].startswith("info: site.yaml:3:15: TLS with a certificate that this gateway makes")
    api = '{listen: "0.0.0.0:0", cert_file: a.pem, key_file: a.key}'
    code, found = check(tmp_path, capsys, BATTERY % 500_000, api=api)
    assert code == 1
    assert ["can't be read: a PEM file is wanted" in text for text in found] == [True, True]
    code, found = check(tmp_path, capsys, BATTERY % 500_000, api='{listen: "0.0.0.0:0", tls: off}')
    assert code == 0
    assert len(found) == 1
    assert found[0].startswith("warning: site.yaml:3:15: passwords go in the clear to 0.0.0.0: ")


def test_files_of_the_uplink_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uplink = f'{{broker: "mqtts://localhost", ca_file: {tmp_path}/none.pem}}'
    code, found = check(tmp_path, capsys, BATTERY % 500_000, uplink=uplink)
    assert code == 1
    assert "none.pem: No such file or directory" in found[0]


@pytest.mark.parametrize(
    ("uplink", "found"),
    [
        (
            '{broker: "mqtts://broker"}',
            "info: site.yaml:4:18: commands are taken: whoever may publish to enlace/test/command",
        ),
        ('{broker: "mqtt://127.0.0.1"}', "info: site.yaml:4:18: commands are taken: "),
        (
            '{broker: "mqtts://broker", configure: yes}',
            (
                "info: site.yaml:4:18: commands are taken: whoever may publish to enlace/test/command "
                "switches stations and may change this file"
            ),
        ),
        ('{broker: "mqtt://broker"}', "info: site.yaml:4:18: no commands are taken: without TLS"),
        ('{broker: "mqtt://broker", commands: yes}', "warning: site.yaml:4:18: commands are taken without TLS"),
        ('{broker: "mqtts://broker", commands: no}', ""),
    ],
)
def test_who_may_give_commands_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], uplink: str, found: str
) -> None:
    code, said = check(tmp_path, capsys, BATTERY % 500_000, uplink=uplink)
    assert code == 0
    assert len(said) == bool(found)
    assert not found or said[0].startswith(found)


def test_a_damaged_dbc_is_told_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.dbc").write_text(
        'BO_ 1 One: 8 X\n SG_ Good : 0|8@1+ (1,0) [0|0] "" X\n SG_ Odd : 8|8@1+ (1,0 [0|0] "" X\n\n'
        'VAL_ 7 Gone 1 "x" ;\n'
    )
    code, found = check(tmp_path, capsys, "{id: a, driver: can, interface: virtual, channel: x, dbc: bad.dbc}")
    assert code == 0
    assert any(line.startswith("warning: bad.dbc:3: ") for line in found), found
    assert any(line.startswith("warning: bad.dbc:5: ") for line in found), found


CHARGER = "{id: cp1, driver: ocpp, charge_point_id: CP-1%s}"


def test_the_chargers_port_certificates_and_passwords(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "weak").write_text("short")
    (tmp_path / "good").write_text("long enough for a charger")
    assert check(tmp_path, capsys, CHARGER % ", password_file: good", ocpp='{listen: "127.0.0.1:0"}') == (0, [])
    code, found = check(tmp_path, capsys, CHARGER % ", password_file: weak", ocpp='{listen: "127.0.0.1:0"}')
    assert code == 0
    assert "weak is shorter than 16 bytes" in found[0]
    code, found = check(tmp_path, capsys, CHARGER % ", password_file: none", ocpp='{listen: "127.0.0.1:0"}')
    assert code == 1
    assert "password_file" in found[0]
    code, found = check(tmp_path, capsys, CHARGER % "", ocpp='{listen: "127.0.0.1:0", security_profile: 0}')
    assert code == 0
    assert "security profile 0" in found[0]
    tls = '{listen: "127.0.0.1:0", security_profile: 2, certificates: [{cert_file: a.pem, key_file: b.pem}]}'
    code, found = check(tmp_path, capsys, CHARGER % "", ocpp=tls)
    assert code == 1
    assert ["a.pem" in found[0], "b.pem" in found[1]] == [True, True]


def test_an_unknown_profile_of_a_charger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check(tmp_path, capsys, CHARGER % ", profile: no_such", ocpp='{listen: "127.0.0.1:0"}')
    assert code == 1
    assert "there is no OCPP profile `no_such`" in found[0]


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ocpp = f'{{listen: "127.0.0.1:{taken.getsockname()[1]}"}}'
        code, found = check(tmp_path, capsys, CHARGER % "", ocpp=ocpp)
    assert code == 0
    assert "can't be listened on now" in found[0]


def test_two_devices_that_can_not_share_a_wire_are_told_at_the_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = '{id: %s, driver: modbus, profile: eastron_sdm630, url: "rtu:///dev/ttyS9?baud=%s", unit_id: %s}'
    code, found = check(tmp_path, capsys, f"{meter % ('a', 9600, 1)}\n  - {meter % ('b', 19200, 2)}")
    assert code == 1
    (told,) = [line for line in found if line.startswith("error:")]
    assert told.startswith("error: site.yaml:6:5: device b: 19200 baud 8N1, but device a on the same wire has")


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        (
            'driver: modbus, profile: eastron_sdm630, url: "rtu://{a}"',
            'driver: modbus, profile: eastron_sdm630, unit_id: 2, url: "rtu://{b}"',
            71,
        ),
        ("driver: serial_meter, protocol: dsmr, port: {a}", "driver: serial_meter, protocol: sml, port: {b}", 56),
    ],
)
def test_two_names_of_one_port_are_told_at_the_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str, second: str, key: int
) -> None:
    ours, other = pty.openpty()
    try:
        port, link = os.ttyname(other), tmp_path / "by-id"
        link.symlink_to(port)
        two = f"{{id: a, {first.format(a=link)}}}\n  - {{id: b, {second.format(b=port)}}}"
        code, found = check(tmp_path, capsys, two)
        assert code == 1
        text = f"{port} and by-id of device a are one port now: write the same name at both"
        assert [line for line in found if line.startswith("error:")] == [f"error: site.yaml:6:{key}: {text}"]
        same = f"{{id: a, {first.format(a=link)}}}\n  - {{id: b, {first.format(a=link)}, unit_id: 2}}"
        if "modbus" in first:
            assert check(tmp_path, capsys, same)[0] == 0  # one name: one wire, and two units on it
    finally:
        os.close(ours)
        os.close(other)


def test_a_profile_is_read_once_for_all_its_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return read_text(path)

    monkeypatch.setattr(profiles, "read_text", counted)
    meter = {"driver": "modbus", "profile": "eastron_sdm630"}
    battery = {"driver": "can", "interface": "virtual", "profile": "demo_pack"}
    meters = [{**meter, "id": f"m{one}", "url": f"tcp://10.0.0.{one}:502"} for one in range(1, 4)]
    batteries = [{**battery, "id": f"b{one}", "channel": f"x{one}"} for one in range(3)]
    many = [ModbusDevice.model_validate(one) for one in meters]
    more = [CanDevice.model_validate(one) for one in batteries]
    prepared = Preparer(tmp_path).all([*many, *more])
    assert [path.stem for path in read] == ["eastron_sdm630", "demo_pack"]
    assert len({id(one.profile) for one in prepared}) == 2


def test_schedules_that_can_do_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    acts = "[{station: cp1, set: on}, {station: cp9, set: on}, {station: cp1.2, set: on}, {station: '*', set: toggle}]"
    ocpp = '{listen: "127.0.0.1:0"}'
    code, found = check(tmp_path, capsys, CHARGER % "", ocpp=ocpp, schedules=f"[{{id: a, every_s: 9, then: {acts}}}]")
    assert code == 0
    assert [line.partition(": nothing is done")[0].partition(" there is ")[2] for line in found] == [
        "no station `cp9`",
        "no station `cp1.2`",
    ]
    known = f"[{{id: a, every_s: 9, then: {acts.replace('cp9', 'cp1.1')}}}]"
    assert check(tmp_path, capsys, CHARGER % ", connectors: 2", ocpp=ocpp, schedules=known) == (0, [])


def test_a_crontab_line_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = '[{id: a, cron: "0 25 * * *", then: [{station: cp1, set: on}]}]'
    code, found = check(tmp_path, capsys, CHARGER % "", ocpp='{listen: "127.0.0.1:0"}', schedules=line)
    assert code == 1
    assert found[0].startswith("error: site.yaml:5:")
    assert "the last value (25) is higher" in found[0]
