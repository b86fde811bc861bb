"""``enlace scan`` as it is typed: on loopback and pseudo terminals, its output held against the real models."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from pymodbus.server import ModbusTcpServer

from agent import scan_job, scan_targets
from agent.cli import scan
from agent.cli.main import main
from agent.config import ModbusDevice, SerialMeterDevice
from agent.core.clock import SystemClock
from agent.yamlfile import Section, parse
from drivers.sim import meter_sml
from drivers.sim.charger_modbus import SimulatedCharger
from drivers.sim.evse import Evse
from tests.e2e.modbus_units import RtuBus, Unit, tcp
from tests.mbus_slaves import ACK, Slave
from tests.ptys import Pty

T = TypeVar("T")

PROFILE = """name: acme_meter
driver: modbus
kind: meter
maker: Acme
model: M1
source: made up for this test
unit_id: 5
identity: {serial: {register: 1, type: uint16}}
match: [{register: 100, type: uint16, equals: 112}]
points: {voltage_l1_v: {register: 0, scale: 0.1}}
"""


def meter(serial: int = 77) -> Unit:
    return Unit({0: 2312, 1: serial, 100: 112})


class _File(Section):
    devices: tuple[ModbusDevice | SerialMeterDevice, ...]


class Command:
    """The command with a configuration of its own, and only the profile that lies beside it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = folder / "site.yaml"
        self._capsys = capsys
        self.told = ""
        (folder / "profiles").mkdir()
        (folder / "profiles" / "acme_meter.yaml").write_text(PROFILE)

    def __call__(self, *arguments: str) -> str:
        assert main(["scan", *arguments, "--config", str(self.config)]) == 0
        out, self.told = self._capsys.readouterr()
        return out

    def devices(self, *arguments: str) -> tuple[ModbusDevice | SerialMeterDevice, ...]:
        document, problems = parse(self(*arguments), "proposal")
        assert document is not None
        file, found = document.check(_File)
        assert file is not None, [*problems, *found]
        return file.devices


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(scan_job, "profile_folders", lambda *folders: folders)
    return Command(tmp_path, capsys)


@contextmanager
def elsewhere(counterpart: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Run a counterpart on a loop of its own, as the command has one too."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        value = asyncio.run_coroutine_threadsafe(counterpart.__aenter__(), loop).result(60)
        try:
            yield value
        finally:
            asyncio.run_coroutine_threadsafe(counterpart.__aexit__(None, None, None), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# --- Modbus TCP ---


def test_units_behind_hosts_are_proposed(command: Command) -> None:
    one, other = meter(), meter(78)
    with (
        elsewhere(tcp(lambda unit, pdu: one.answer(pdu) if unit in {1, 5} else b"")) as first,
        elsewhere(tcp(lambda _, pdu: other.answer(pdu))) as second,
    ):
        hosts = [f"127.0.0.1:{served.port}" for served in (first, second, first)]
        devices = command.devices("modbus", *[part for host in hosts for part in ("--host", host)])
    found = {(device.url, device.unit_id) for device in devices if isinstance(device, ModbusDevice)}
    urls = [f"tcp://127.0.0.1:{served.port}" for served in (first, second)]
    assert found == {(urls[0], 1), (urls[0], 5), (urls[1], 5)}
    assert sorted(device.id for device in devices) == ["meter_1", "meter_5", "meter_5_2"]
    assert "found unit 5" in command.told


def test_what_is_configured_is_never_connected_to(command: Command) -> None:
    unit = meter()
    with elsewhere(tcp(lambda _, pdu: unit.answer(pdu))) as served:
        command.config.write_text(f"devices: [{{id: m, driver: modbus, url: 'tcp://localhost:{served.port}'}}]\n")
        devices = command.devices("modbus", "--host", f"127.0.0.1:{served.port}")
        assert served.connections == 0
    assert devices == ()
    assert "is configured: left alone" in command.told


def test_a_network_is_looked_through_and_who_is_not_there_is_no_news(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = meter()
    with elsewhere(tcp(lambda _, pdu: unit.answer(pdu))) as served:
        monkeypatch.setattr(scan_job, "TCP_PORT", served.port)
        devices = command.devices("modbus", "--network", "127.0.0.0/28")
        assert served.connections == 1
    assert [device.id for device in devices] == ["meter_5"]
    assert "refused" not in command.told
    assert "127.0.0.0/28: looking for port" in command.told


def test_nothing_found_is_no_error_and_says_what_to_check(command: Command) -> None:
    with elsewhere(tcp(lambda _, __: None)) as served:
        host = f"127.0.0.1:{served.port}"
        out = command("modbus", "--host", host, "--host", "127.0.0.1:1", "--timeout", "0.05", "--units", "1,7")
    assert out == "devices: []\n"
    assert f"{host} takes connections, but no unit id that was tried answers" in command.told
    assert "127.0.0.1:1: Connection refused" in command.told
    assert "nothing was found" in command.told
    assert "dialout" in command.told


def test_json_lines(command: Command) -> None:
    unit = meter()
    with elsewhere(tcp(lambda _, pdu: unit.answer(pdu))) as served:
        (line,) = command("modbus", "--host", f"127.0.0.1:{served.port}", "--format", "jsonl").splitlines()
    row = json.loads(line)
    assert row["device"]["profile"] == "acme_meter"
    assert row["known"] == {"serial": "77"}
    assert row["values"] == {"voltage_l1_v": "231.2"}


@asynccontextmanager
async def charger() -> AsyncIterator[int]:
    device = SimulatedCharger(Evse(1), SystemClock()).device(1)
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    assert isinstance(server.transport, asyncio.Server)
    try:
        yield server.transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.announced_warnings  # pymodbus tells of each unit id that its server does not have
def test_the_simulated_charger_is_recognised_among_all_profiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(tmp_path, capsys)
    with elsewhere(charger()) as port:
        devices = command.devices("modbus", "--host", f"127.0.0.1:{port}", "--units", "1")
    assert [device.profile for device in devices if isinstance(device, ModbusDevice)] == ["abb_terra_ac"]


# --- serial ports ---


@asynccontextmanager
async def on_pty(path: Path, hear: Callable[[Pty], None] | None = None, push: bytes = b"") -> AsyncIterator[Pty]:
    """A port on which somebody hears what is asked, or speaks by himself."""
    pty = Pty(path)
    loop = asyncio.get_running_loop()
    if hear is not None:
        loop.add_reader(pty.fd, hear, pty)

    async def speak() -> None:
        while True:
            pty.send(push)
            await asyncio.sleep(0.1)

    speaking = asyncio.create_task(speak()) if push else None
    try:
        yield pty
    finally:
        if speaking is not None:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        loop.remove_reader(pty.fd)
        pty.close()


@asynccontextmanager
async def rtu_bus(path: Path, units: dict[int, Unit]) -> AsyncIterator[RtuBus]:
    async with on_pty(path) as pty:
        bus = RtuBus(pty, units)
        bus.start()
        try:
            yield bus
        finally:
            bus.stop()


QUICK = ("--timeout", "0.5", "--units", "1-5", "--baud", "19200", "--parity", "E")


def test_units_on_a_serial_line_are_proposed(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "port"
    with elsewhere(rtu_bus(path, {3: meter(), 5: meter(78)})) as bus:
        devices = command.devices("modbus", "--port", str(path), *QUICK)
        assert set(bus.asked) == {1, 2, 3, 4, 5}
    assert [(device.id, device.url) for device in devices if isinstance(device, ModbusDevice)] == [
        (f"meter_{unit}", f"rtu://{path}?baud=19200&parity=E") for unit in (3, 5)
    ]


def test_a_configured_port_is_never_opened_by_any_name(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "port"
    with elsewhere(rtu_bus(path, {3: meter()})) as bus:
        node = str(path.resolve())
        command.config.write_text(f"devices: [{{id: g, driver: serial_meter, protocol: sml, port: {path}}}]\n")
        for name in (str(path), node):
            assert command("--port", name, *QUICK) == "devices: []\n"
            assert "is configured: left alone" in command.told
        assert bus.asked == []


def test_a_port_that_is_busy_or_gone_is_one_line_and_the_others_go_on(command: Command, tmp_path: Path) -> None:
    path, busy = tmp_path / "port", tmp_path / "busy"
    with elsewhere(rtu_bus(path, {3: meter()})), elsewhere(on_pty(busy)):
        fd = os.open(busy, os.O_RDWR | os.O_NOCTTY)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ports = [part for port in (busy, tmp_path / "gone", path) for part in ("--port", str(port))]
        devices = command.devices("modbus", *ports, *QUICK)
        os.close(fd)
    assert [device.id for device in devices] == ["meter_3"]
    lines = [line for line in command.told.splitlines() if line.startswith("open ")]
    assert len(lines) == 2
    assert any("another program has it open" in line for line in lines)
    assert any("is it plugged in?" in line for line in lines)


def test_a_meter_that_speaks_by_itself_is_asked_nothing(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "port"
    with elsewhere(on_pty(path, push=meter_sml.telegram(1_750_000_000_000_000))) as pty:
        (device,) = command.devices("serial", "--port", str(path), "--seconds", "5")
        assert pty.take() == b""
    assert isinstance(device, SerialMeterDevice)
    assert (device.protocol, device.port) == ("sml", str(path))


class Hurried(SystemClock):
    """What takes a second takes a fifth of one."""

    def monotonic_s(self) -> float:
        return 5 * super().monotonic_s()

    async def sleep_s(self, seconds: float) -> None:
        await super().sleep_s(seconds / 5)


def test_slaves_on_an_m_bus_are_proposed_by_secondary_address(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "SystemClock", Hurried)
    slave, heard = Slave(1, "12345678"), bytearray()

    def hear(pty: Pty) -> None:
        heard.extend(pty.take())
        # On a busy machine several questions are heard at once, and not all whole; other protocols ask here as well.
        while heard:
            size = {0x10: 5, 0x68: heard[1] + 6 if len(heard) > 1 else 2}.get(heard[0], 1)
            if len(heard) < size:
                return
            question = bytes(heard[:size])
            del heard[:size]
            if question[0] == 0x10 and question[2] == 254:
                pty.send(ACK)
            elif size > 1:
                pty.send(slave.hear(question))

    with elsewhere(on_pty(tmp_path / "port", hear)):
        (device,) = command.devices("serial", "--port", str(tmp_path / "port"), "--seconds", "0.1")
    assert isinstance(device, SerialMeterDevice)
    assert (device.protocol, device.address) == ("mbus", "1234567824400102")


def test_without_a_kind_every_port_and_network_of_this_machine_is_looked_at(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "SystemClock", Hurried)
    path, routes, unit = tmp_path / "port", tmp_path / "route", meter(9)
    routes.write_text("Iface Destination Gateway Flags RefCnt Use Metric Mask\nlo 0000007F 00000000 1 0 0 0 F0FFFFFF\n")
    monkeypatch.setattr(scan_targets, "ROUTES", routes)
    monkeypatch.setattr(scan_targets, "PRIVATE", (scan_targets.Network("127.0.0.0/8"),))
    monkeypatch.setattr(
        scan_targets, "serial_ports", lambda: [scan_targets.SerialPort(str(path), str(path), "a cable")]
    )

    with elsewhere(rtu_bus(path, {3: meter()})), elsewhere(tcp(lambda _, pdu: unit.answer(pdu))) as served:
        monkeypatch.setattr(scan_job, "TCP_PORT", served.port)
        devices = command.devices("--seconds", "0.1", *QUICK)
    assert [device.id for device in devices] == ["meter_3", "meter_5"]
    assert f"serial port {path}, a cable" in command.told


# --- Ctrl-C ---


def test_ctrl_c_prints_what_was_found_so_far(tmp_path: Path) -> None:
    unit = meter()
    with elsewhere(tcp(lambda _, pdu: unit.answer(pdu))) as good, elsewhere(tcp(lambda _, __: None)) as silent:
        hosts = [part for served in (good, silent) for part in ("--host", f"127.0.0.1:{served.port}")]
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "scan", "modbus", *hosts, "--timeout", "60", "--config", tmp_path / "none"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("found "):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, said + err
    assert "Traceback" not in err
    assert "devices:\n" in out
    assert f"127.0.0.1:{good.port}" in out
