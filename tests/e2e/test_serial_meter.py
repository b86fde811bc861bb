"""Meters on real ports (pseudo terminals, TCP): from the bytes of the wire to samples, with the faults of wires."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from agent.core.clock import SystemClock
from agent.core.errors import Unavailable
from agent.core.ports import Listener
from agent.pipeline.polling import PollListener
from drivers.serial_meter.asked import AskedWire
from drivers.serial_meter.plan import plan_meters
from drivers.serial_meter.settings import MeterSettings
from drivers.sim import meter_dsmr, meter_sml
from drivers.sim.meter_house import House
from tests.mbus_slaves import Slave, energy, power
from tests.ptys import Pty
from tests.sinks import RecordingSink

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
NOW_US = 1_769_000_400_000_000
#: Between two tries of a wire that failed; the supervisor waits up to ``max_retry_s``.
RETRY_S = 0.02


@pytest.fixture
def pty(tmp_path: Path) -> Iterator[Pty]:
    made = Pty(tmp_path / "usb-meter")
    yield made
    made.close()


def part(*settings: MeterSettings) -> Listener:
    """The listener of one wire, as the gateway makes it."""
    (made,) = plan_meters(settings).parts(SystemClock())
    return PollListener(made, SystemClock()) if isinstance(made, AskedWire) else made


async def keep_running(listener: Listener, sink: RecordingSink) -> None:
    """What the supervisor does, without its patience."""
    while True:
        with contextlib.suppress(Unavailable):
            await listener.run(sink)
        await asyncio.sleep(RETRY_S)


async def until(condition: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, "did not come"
        meanwhile()
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(listener: Listener) -> AsyncIterator[RecordingSink]:
    sink = RecordingSink()
    task = asyncio.create_task(keep_running(listener, sink))
    try:
        yield sink
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled(), "a bug ended the wire"


def count(sink: RecordingSink, name: str) -> int:
    return sink.counts[name]


def sent(pty: Pty, telegram: Callable[[int], bytes]) -> Callable[[], None]:
    """Send a telegram of another moment each time it is called."""
    moments = iter(range(NOW_US, NOW_US + 10**12, 1_000_000))
    return lambda: pty.send(telegram(next(moments)))


@pytest.mark.parametrize(
    ("protocol", "telegram", "expected"),
    [
        ("dsmr", meter_dsmr.telegram, lambda house: (house.power_w, sum(house.energy_wh))),
        ("sml", meter_sml.telegram, lambda house: (house.heat_pump_w, house.heat_pump_wh)),
    ],
)
def test_what_a_meter_pushes_comes_out_in_our_units(
    protocol: str, telegram: Callable[[int], bytes], expected: Callable[[House], tuple[float, float]], pty: Pty
) -> None:
    settings = MeterSettings("m", protocol, str(pty.path))  # type: ignore[arg-type]

    async def check() -> None:
        async with running(part(settings)) as sink:
            await until(lambda: count(sink, "telegrams") > 0, lambda: pty.send(telegram(NOW_US)))
        values = sink.values()
        power_w, energy_wh = expected(House(NOW_US))
        assert values["m.power_w"] == pytest.approx(power_w, abs=0.6)
        assert values["m.energy_import_wh"] == pytest.approx(energy_wh, abs=1.1)
        assert sink.events[0].kind == "device.identity"

    asyncio.run(check())


def test_a_port_that_is_unplugged_and_plugged_in_again_is_read_again_and_no_half_telegram(pty: Pty) -> None:
    listener = part(MeterSettings("grid", "dsmr", str(pty.path)))
    assert listener.max_retry_s <= 3

    async def check() -> None:
        telegram = sent(pty, meter_dsmr.telegram)
        async with running(listener) as sink:
            await until(lambda: count(sink, "telegrams") > 1, telegram)
            known = set(sink.values())
            for _ in range(3):
                await asyncio.sleep(0.1)
                whole = meter_dsmr.telegram(NOW_US)
                pty.send(whole[:500])
                await asyncio.sleep(0.1)
                pty.unplug()
                await until(lambda: set(sink.values().values()) == {None})
                pty.plug()
                before = count(sink, "telegrams")
                await asyncio.sleep(0.2)
                pty.send(whole[500:])
                await asyncio.sleep(0.1)
                assert count(sink, "telegrams") == before
                await until(lambda before=before: count(sink, "telegrams") > before + 1, telegram)  # type: ignore[misc]
                assert None not in sink.values().values()
            assert set(sink.values()) == known
        assert not [name for name in sink.counts if name.startswith("bad.") and name != "bad.truncated"]

    asyncio.run(check())


def test_a_link_that_is_led_to_another_adapter_is_followed(pty: Pty, tmp_path: Path) -> None:
    other = Pty(tmp_path / "other")

    async def check() -> None:
        async with running(part(MeterSettings("grid", "sml", str(pty.path)))) as sink:
            await until(lambda: count(sink, "telegrams") > 1, sent(pty, meter_sml.telegram))
            pty.link(other.node)
            await until(lambda: set(sink.values().values()) == {None})
            before = count(sink, "telegrams")
            await until(lambda: count(sink, "telegrams") > before, sent(other, meter_sml.telegram))

    asyncio.run(check())
    other.close()


@pytest.mark.parametrize(("protocol", "telegram"), [("dsmr", meter_dsmr.telegram), ("sml", meter_sml.telegram)])
def test_damaged_telegrams_give_nothing_and_the_next_good_one_is_taken(
    protocol: str, telegram: Callable[[int], bytes], pty: Pty
) -> None:
    good, other = telegram(NOW_US), telegram(NOW_US + 3_600_000_000)
    settings = MeterSettings("m", protocol, str(pty.path))  # type: ignore[arg-type]

    async def check() -> None:
        async with running(part(settings)) as sink:
            await until(lambda: count(sink, "telegrams") > 0, lambda: pty.send(good))
            await until(lambda: not pty.unread)
            await asyncio.sleep(0.1)  # what was taken is decoded
            before, rows = count(sink, "telegrams"), len(sink.rows)
            for step in range(12):
                at = 9 + step * (len(other) - 20) // 12
                damaged = [
                    other[:at] + bytes([other[at] ^ 0x04]) + other[at + 1 :],
                    other[:at] + other[at + 1 :],
                    other[:at],
                    b"\x00\xff" + other[at:],
                ][step % 4]
                pty.send(damaged)
                await asyncio.sleep(0.02)
                pty.send(good)
                await until(lambda step=step: count(sink, "telegrams") == before + step + 1)  # type: ignore[misc]
            assert len(sink.rows) == rows, "a damaged telegram gave a value"

    asyncio.run(check())


@contextlib.contextmanager
def simulator(module: str, link: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", f"drivers.sim.{module}", "--port-link", str(link), "--every-s", "0.05"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            program.stdout.readline()
            yield program
        finally:
            program.send_signal(signal.SIGTERM)
            program.wait(PATIENCE_S)


@pytest.mark.parametrize(("protocol", "module"), [("dsmr", "meter_dsmr"), ("sml", "meter_sml")])
def test_a_simulated_meter_that_comes_and_goes(protocol: str, module: str, tmp_path: Path) -> None:
    link = tmp_path / "meter"
    settings = MeterSettings("m", protocol, str(link))  # type: ignore[arg-type]

    async def check() -> None:
        async with running(part(settings)) as sink:
            for _ in range(2):
                before = count(sink, "telegrams")
                with simulator(module, link):
                    await until(lambda before=before: count(sink, "telegrams") > before + 1)  # type: ignore[misc]
                await until(lambda: set(sink.values().values()) == {None})
        assert not [name for name in sink.counts if name == "bad.bad_checksum"]

    asyncio.run(check())


def test_silence_makes_all_unknown_until_it_ends(pty: Pty) -> None:
    settings = MeterSettings("m", "sml", str(pty.path), stale_after_s=0.5)

    async def check() -> None:
        async with running(part(settings)) as sink:
            for _ in range(2):
                before = count(sink, "telegrams")
                await until(
                    lambda before=before: count(sink, "telegrams") > before,  # type: ignore[misc]
                    sent(pty, meter_sml.telegram),
                )
                await until(lambda: set(sink.values().values()) == {None})
        kinds = [event.kind for event in sink.events]
        assert kinds == ["device.identity", "device.silent", "device.heard", "device.silent"]

    asyncio.run(check())


class BusEnd:
    """M-Bus slaves at the far end of a file descriptor. ``echo``: the level converter hands our bytes back."""

    def __init__(self, fd: int, slaves: Sequence[Slave], *, echo: bool = False) -> None:
        self.fd = fd
        self._slaves = slaves
        self._echo = echo
        self._heard = b""

    def ready(self) -> None:
        data = os.read(self.fd, 4096)
        if self._echo:
            os.write(self.fd, data)
        self._heard += data
        while len(self._heard) >= 5:
            size = 5 if self._heard[0] == 0x10 else self._heard[1] + 6
            if len(self._heard) < size:
                return
            question, self._heard = self._heard[:size], self._heard[size:]
            for slave in self._slaves:
                answer = slave.hear(question)
                os.write(self.fd, answer[:7])
                os.write(self.fd, answer[7:])


@contextlib.contextmanager
def bus(fd: int, slaves: Sequence[Slave], *, echo: bool = False) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, BusEnd(fd, slaves, echo=echo).ready)
    try:
        yield
    finally:
        loop.remove_reader(fd)


def mbus(device: str, port: str, address: str) -> MeterSettings:
    return MeterSettings(device, "mbus", port, baud=9600, address=address, every_s=0.2)


@pytest.mark.parametrize("echo", [False, True])
def test_m_bus_slaves_on_a_port_by_primary_and_secondary_address(pty: Pty, *, echo: bool) -> None:
    slaves = [Slave(1, parts=[energy(1000), power(250)]), Slave(2, "87654321", [energy(2000)])]
    port = str(pty.path)
    wire = part(mbus("heat", port, "1"), mbus("water", port, "87654321FFFFFFFF"))

    async def check() -> None:
        with bus(pty.fd, slaves, echo=echo):
            async with running(wire) as sink:
                await until(lambda: len(sink.values()) == 3)
                slaves[0].parts[0] = energy(1001)
                await until(lambda: sink.values()["heat.energy_import_wh"] == 1001)
        assert sink.values() == {"heat.energy_import_wh": 1001, "heat.power_w": 250, "water.energy_import_wh": 2000}

    asyncio.run(check())


@pytest.mark.announced_warnings  # that a unit is silent is said in the log
def test_a_dead_m_bus_slave_becomes_unknown_and_the_other_goes_on(pty: Pty) -> None:
    dead, alive = Slave(1, parts=[energy(1)]), Slave(2, "2" * 8, [energy(2)])
    slaves = [dead, alive]
    wire = part(mbus("dead", str(pty.path), "1"), mbus("alive", str(pty.path), "2"))

    async def check() -> None:
        with bus(pty.fd, slaves):
            async with running(wire) as sink:
                await until(lambda: len(sink.values()) == 2)
                slaves.remove(dead)
                await until(lambda: sink.values()["dead.energy_import_wh"] is None)
                asked = len(alive.asked)
                await until(lambda: len(alive.asked) > asked + 2)
                slaves.append(dead)
                await until(lambda: sink.values()["dead.energy_import_wh"] == 1)
        assert sink.values()["alive.energy_import_wh"] == 2
        kinds = [event.kind for event in sink.events if event.subject == "dead"]
        assert [kind for kind in kinds if kind in {"device.silent", "device.heard"}] == [
            "device.silent",
            "device.heard",
        ]

    asyncio.run(check())


def test_m_bus_over_a_serial_server_that_hangs_up() -> None:
    slave = Slave(7, parts=[energy(700)])

    async def check() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        server.setblocking(False)
        loop = asyncio.get_running_loop()
        async with running(part(mbus("m", f"socket://127.0.0.1:{server.getsockname()[1]}", "7"))) as sink:
            for _ in range(2):
                peer, _ = await asyncio.wait_for(loop.sock_accept(server), PATIENCE_S)
                before = count(sink, "telegrams")
                with bus(peer.fileno(), [slave]):
                    await until(lambda before=before: count(sink, "telegrams") > before)  # type: ignore[misc]
                peer.close()
        server.close()
        assert sink.values() == {"m.energy_import_wh": 700}
        assert slave.asked[0] == "reset"
        assert slave.asked.count("reset") == 2

    asyncio.run(check())


class D0End:
    """A D0 meter in mode C: it sends its data when the acknowledgement has come, and notes the port's speed then."""

    BODY = b"C.1.0(12345678)\r\n1.8.0(004711.5*kWh)\r\n16.7.0(001.250*kW)\r\n!\r\n\x03"

    def __init__(self, pty: Pty) -> None:
        self._pty = pty
        self._heard = b""
        self.speeds: list[tuple[str, int]] = []

    def ready(self) -> None:
        self._heard += self._pty.take()
        loop = asyncio.get_running_loop()
        if self._heard == b"/?!\r\n":
            self._heard = b""
            self.speeds.append(("request", self._pty.speed))
            loop.call_later(0.2, self._pty.send, b"/ABC5METER\r\n")
        elif self._heard == b"\x06050\r\n":
            self._heard = b""
            self.speeds.append(("acknowledgement", self._pty.speed))
            loop.call_later(0.45, self._data)

    def _data(self) -> None:
        self.speeds.append(("data", self._pty.speed))
        bcc = 0
        for byte in self.BODY:
            bcc ^= byte
        self._pty.send(b"\x02" + self.BODY + bytes([bcc]))


def test_a_d0_meter_in_mode_c_is_asked_at_its_speeds(pty: Pty) -> None:
    settings = MeterSettings("old", "d0", str(pty.path), request=True, every_s=0.5)
    meter = D0End(pty)

    async def check() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(pty.fd, meter.ready)
        async with running(part(settings)) as sink:
            await until(lambda: count(sink, "telegrams") >= 2)
        loop.remove_reader(pty.fd)
        assert sink.values() == {"old.energy_import_wh": 4_711_500.0, "old.power_w": 1250.0}
        once = [("request", termios.B300), ("acknowledgement", termios.B300), ("data", termios.B9600)]
        assert meter.speeds[:6] == once * 2

    asyncio.run(check())
