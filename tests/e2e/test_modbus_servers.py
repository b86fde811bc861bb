"""Modbus against servers that nobody here wrote: pymodbus', libmodbus (C) and modbus-serial (JavaScript).

Each serves unit 1 with holding registers 0 to 199 (address * 257), input registers 0 to 99 (address + 1000) and coils
and discrete inputs 0 to 63 (each third is on). They are asked over TCP, RTU frames over TCP and a serial line.
"""

import asyncio
import os
import shutil
import struct
import subprocess
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.core.clock import SystemClock
from agent.core.errors import BadData, CommandRejected, NoAnswer, Refusal
from drivers.codec.registers import Register, TextRegister, number_of
from drivers.modbus.model import ModbusDevice, ModbusPoint, ModbusProfile, ModbusSetting
from drivers.modbus.plan import plan_modbus
from drivers.modbus.settings import ModbusUrl
from tests.sinks import RecordingSink

HOLDING = [address * 257 & 0xFFFF for address in range(200)]
INPUT = [address + 1000 for address in range(100)]
BITS = [address % 3 == 0 for address in range(64)]
LIMIT, DOUBLE, COIL = Register("holding", 5, "uint16"), Register("holding", 150, "float32"), Register("coil", 7, "bit")
POINTS = (
    ModbusPoint("power_w", Register("holding", 10, "int32")),
    ModbusPoint("current_a", Register("holding", 12, "uint16", byte_order="little")),
    ModbusPoint("voltage_v", Register("holding", 13, "float32", "little")),
    ModbusPoint("frequency_hz", Register("holding", 120, "uint64")),
    ModbusPoint("fault", Register("holding", 130, "uint16", bits=(1, 3))),
    ModbusPoint("energy_import_wh", Register("input", 3, "uint32")),
    ModbusPoint("temperature_degc", Register("input", 99, "int16")),
    ModbusPoint("plugged", Register("coil", 9, "bit")),
    ModbusPoint("charging", Register("coil", 10, "bit")),
    ModbusPoint("locked", Register("discrete", 63, "bit")),
    ModbusPoint("soc_pct", Register("holding", 5000, "uint16")),  # there is no such register
)
PROFILE = ModbusProfile(
    "server",
    POINTS,
    (
        ModbusSetting("current_limit_a", LIMIT, 0, 32, scale=0.1, read_back=ModbusPoint("current_limit_a", LIMIT, 0.1)),
        ModbusSetting("phases", LIMIT, 1, 3, read_back=ModbusPoint("phases", LIMIT), function="single"),
        ModbusSetting("power_limit_w", DOUBLE, 0, 1e6, read_back=ModbusPoint("power_limit_w", DOUBLE)),
        ModbusSetting("charging_enabled", COIL, 0, 1, read_back=ModbusPoint("charging_enabled", COIL)),
        ModbusSetting("relay", COIL, 0, 1, read_back=ModbusPoint("relay", COIL), function="single"),
        ModbusSetting("failsafe_timeout_s", Register("holding", 5000, "uint16"), 0, 600),  # nor this one
    ),
    identity={"serial": TextRegister("holding", 65, 4)},
)

Server = Callable[[Path], AbstractAsyncContextManager[ModbusUrl]]


@asynccontextmanager
async def pty_pair() -> AsyncIterator[tuple[str, str]]:
    """Two serial ports with a cable between them."""
    loop = asyncio.get_running_loop()
    ends = [os.openpty(), os.openpty()]
    for far, near in ends:
        tty.setraw(near)
        os.set_blocking(far, False)

    def carry(source: int, target: int) -> None:
        with suppress(OSError):
            os.write(target, os.read(source, 4096))

    (one, near_one), (two, near_two) = ends
    loop.add_reader(one, carry, one, two)
    loop.add_reader(two, carry, two, one)
    try:
        yield os.ttyname(near_one), os.ttyname(near_two)
    finally:
        for far, near in ends:
            loop.remove_reader(far)
            os.close(far)
            os.close(near)


# --- pymodbus ---


def sim_device() -> SimDevice:
    def bits(values: list[bool]) -> list[SimData]:
        return [SimData(0, values=list(values), datatype=DataType.BITS)]

    def registers(values: list[int]) -> list[SimData]:
        return [SimData(0, values=list(values), datatype=DataType.REGISTERS)]

    return SimDevice(1, simdata=(bits(BITS), bits(BITS), registers(HOLDING), registers(INPUT)))


def pymodbus_tcp(framer: FramerType) -> Server:
    @asynccontextmanager
    async def serve(folder: Path) -> AsyncIterator[ModbusUrl]:
        server = ModbusTcpServer(sim_device(), framer=framer, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        listener: asyncio.Server = server.transport  # type: ignore[assignment]
        scheme = "tcp" if framer is FramerType.SOCKET else "rtu+tcp"
        try:
            yield ModbusUrl.parse(f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]

    return serve


@asynccontextmanager
async def pymodbus_serial(folder: Path) -> AsyncIterator[ModbusUrl]:
    async with pty_pair() as (ours, theirs):
        server = ModbusSerialServer(sim_device(), port=theirs, baudrate=115200)
        await server.serve_forever(background=True)
        try:
            yield ModbusUrl("rtu", ours, baud=115200)
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]


# --- libmodbus ---

LIBMODBUS = r"""
#include <errno.h>
#include <modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    modbus_mapping_t *map = modbus_mapping_new(64, 64, 200, 100);
    modbus_t *bus = argc > 1 ? modbus_new_rtu(argv[1], 115200, 'N', 8, 1) : modbus_new_tcp("127.0.0.1", 0);
    int i, listener = -1;
    for (i = 0; i < 200; i++) map->tab_registers[i] = i * 257;
    for (i = 0; i < 100; i++) map->tab_input_registers[i] = i + 1000;
    for (i = 0; i < 64; i++) map->tab_bits[i] = map->tab_input_bits[i] = i % 3 == 0;
    modbus_set_slave(bus, 1);
    if (argc > 1) {
        if (modbus_connect(bus)) return 1;
        printf("ready\n");
    } else {
        struct sockaddr_in at;
        socklen_t size = sizeof at;
        listener = modbus_tcp_listen(bus, 1);
        getsockname(listener, (struct sockaddr *)&at, &size);
        printf("%d\n", ntohs(at.sin_port));
    }
    fflush(stdout);
    for (;;) {
        if (listener >= 0 && modbus_tcp_accept(bus, &listener) < 0) return 1;
        for (;;) {
            int length = modbus_receive(bus, query);
            if (length > 0) modbus_reply(bus, query, length, map);
            else if (length < 0 && (listener >= 0 || errno == EIO)) break;
        }
        if (listener < 0) return 0;
    }
}
"""


def compiled(folder: Path) -> Path:
    program = folder / "server"
    if program.exists():
        return program
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    source = folder / "server.c"
    source.write_text(LIBMODBUS)
    done = subprocess.run(
        [compiler, str(source), "-o", str(program), "-I/usr/include/modbus", "-lmodbus"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no libmodbus here, install libmodbus-dev: {done.stderr.strip().splitlines()[:1]}")
    return program


@asynccontextmanager
async def libmodbus_tcp(folder: Path) -> AsyncIterator[ModbusUrl]:
    async with program(str(compiled(folder))) as said:
        yield ModbusUrl("tcp", "127.0.0.1", int(said))


@asynccontextmanager
async def libmodbus_serial(folder: Path) -> AsyncIterator[ModbusUrl]:
    executable = compiled(folder)
    async with pty_pair() as (ours, theirs), program(str(executable), theirs):
        yield ModbusUrl("rtu", ours, baud=115200)


# --- modbus-serial ---

JAVASCRIPT = """
const {ServerTCP} = require("modbus-serial");
const holding = Array.from({length: 200}, (_, i) => i * 257 & 0xFFFF);
const bits = Array.from({length: 64}, (_, i) => i % 3 === 0);
function at(list, address) {
  if (address >= list.length) { const e = new Error("no such register"); e.modbusErrorCode = 2; throw e; }
  return list[address];
}
const server = new ServerTCP({
  getHoldingRegister: (address) => at(holding, address),
  getInputRegister: (address) => at(Array.from({length: 100}, (_, i) => i + 1000), address),
  getCoil: (address) => at(bits, address),
  getDiscreteInput: (address) => address % 3 === 0,
  setRegister: (address, value) => { at(holding, address); holding[address] = value; },
  setCoil: (address, value) => { bits[address] = value; },
}, {host: "127.0.0.1", port: 0, unitID: 1});
server.on("initialized", () => console.log(server.socks === undefined ? 0 : server._server.address().port));
"""


@asynccontextmanager
async def modbus_serial(folder: Path) -> AsyncIterator[ModbusUrl]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no node here")
    if not (folder / "node_modules" / "modbus-serial").exists():
        (folder / "package.json").write_text('{"private": true}')
        arguments = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "modbus-serial@8"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(npm, *arguments, cwd=folder, stdout=pipe, stderr=pipe)
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        if process.returncode:
            pytest.skip(f"npm can't install modbus-serial: {errors.decode().strip().splitlines()[-1:]}")
    (folder / "server.js").write_text(JAVASCRIPT)
    async with program(node, "server.js", folder=folder) as said:
        yield ModbusUrl("tcp", "127.0.0.1", int(said))


@asynccontextmanager
async def program(*arguments: str, folder: Path | None = None) -> AsyncIterator[str]:
    """A server that prints one line when it is ready; ended at the end."""
    process = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE, cwd=folder)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line, "the server ended"
        yield line.decode().strip()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


SERVERS: dict[str, Server] = {
    "pymodbus tcp": pymodbus_tcp(FramerType.SOCKET),
    "pymodbus rtu over tcp": pymodbus_tcp(FramerType.RTU),
    "pymodbus serial": pymodbus_serial,
    "libmodbus tcp": libmodbus_tcp,
    "libmodbus serial": libmodbus_serial,
    "modbus-serial tcp": modbus_serial,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


def expected(point: ModbusPoint) -> float | None:
    one = point.register
    cells: list[int] = {"holding": HOLDING, "input": INPUT}.get(one.table, list(map(int, BITS)))
    words = cells[one.address : one.address + one.count]
    return number_of(one, words) if words else None


def values(sink: RecordingSink) -> dict[str, float | None]:
    newest: dict[int, int | None] = {signal: word if valid else None for signal, _, word, valid in sink.rows}
    found: dict[str, float | None] = {}
    for number, spec in enumerate(plan_modbus([(ModbusDevice("d", PROFILE), ModbusUrl("tcp", "x"))]).specs, 1):
        word = newest.get(number)
        found[spec.name] = None if word is None else spec.physical(word)
    return found


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_reads_and_writes(server: Server, folder: Path) -> None:
    async def check() -> None:
        async with server(folder) as url:
            devices = [ModbusDevice("d", PROFILE, 1, timeout_s=2), ModbusDevice("other", PROFILE, 2, timeout_s=0.2)]
            found = plan_modbus([(device, url) for device in devices])
            ids = {(spec.device, spec.name): number for number, spec in enumerate(found.specs, 1)}
            (poller,) = found.pollers(ids, SystemClock())
            sink = RecordingSink()
            await poller.open()
            try:
                for _ in range(3):
                    await poller.units[0].jobs[0].run(sink)
                assert values(sink) == {point.point: expected(point) for point in POINTS}
                assert [event.kind for event in sink.events] == ["device.lacks", "device.identity"]
                assert sink.events[1].data == {"serial": struct.pack(">4H", *HOLDING[65:69]).decode()}
                outlet = poller.commandables["d"]
                assert await outlet.set("current_limit_a", 16.4) == pytest.approx(16.4)
                assert await outlet.set("phases", 3) == 3
                assert await outlet.set("power_limit_w", 11000.5) == 11000.5
                for value in (1, 0):
                    assert await outlet.set("charging_enabled", value) == value
                    assert await outlet.set("relay", 1 - value) == 1 - value
                with pytest.raises(CommandRejected) as caught:
                    await outlet.set("failsafe_timeout_s", 60)
                assert caught.value.refusal is Refusal.DEVICE_REFUSED
                await poller.units[0].jobs[0].run(sink)
                assert values(sink) == {point.point: expected(point) for point in POINTS}
                if "rtu" in url.scheme:
                    # pymodbus' simulator answers for units that are not there: exception 4
                    with pytest.raises((NoAnswer, BadData)):
                        await poller.units[1].jobs[0].run(sink)
                    with suppress(NoAnswer):  # libmodbus takes what follows a question to another unit for its answer
                        await poller.units[0].jobs[0].run(sink)
                    await poller.units[0].jobs[0].run(sink)
            finally:
                await poller.close()

    asyncio.run(asyncio.wait_for(check(), 60))
