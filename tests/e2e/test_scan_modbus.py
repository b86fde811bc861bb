"""Looking for units on real sockets and pseudo terminals."""

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from pymodbus.pdu.device import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.core.clock import SystemClock
from agent.core.errors import BadData, Unavailable
from drivers.codec.registers import Register, TextRegister
from drivers.line import open_line
from drivers.modbus.model import ModbusMatch, ModbusPoint, ModbusProfile
from drivers.modbus.scan import ALL_UNITS, FoundUnit, Search
from drivers.modbus.scan_ask import Patience
from drivers.modbus.scan_frames import crc
from drivers.modbus.scan_host import scan_host
from drivers.modbus.scan_line import RtuPlan, scan_line, speeds
from drivers.modbus.scan_match import Model
from drivers.sim.charger_modbus import SERIAL, SimulatedCharger
from drivers.sim.evse import Evse
from tests.e2e.modbus_units import NO_TARGET, RtuBus, Served, Unit, serving, tcp
from tests.ptys import Pty

CODE = ModbusMatch(Register("holding", 100, "uint16"), 112)
TEXT = ModbusMatch(TextRegister("holding", 101, 2), "MET")
METER = Model(
    ModbusProfile(
        "acme_meter",
        (ModbusPoint("voltage_l1_v", Register("holding", 0, "uint16"), scale=0.1),),
        identity={"serial": Register("holding", 1, "uint16")},
        match=(CODE, TEXT),
        unit_id=5,
    ),
    "Acme",
)
FAMILY = Model(ModbusProfile("acme_family", (), match=(CODE,)), "Acme")
OTHER = Model(ModbusProfile("other", (), match=(ModbusMatch(Register("input", 7, "uint16"), 1),)), "Other")
MODELS = (FAMILY, OTHER, METER)
UNITS = (1, 255, 0, 2, 5)
#: A busy machine may be away for tenths of a second.
QUICK = Patience(1.0, 0.001)


class Watch:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str, float]] = []
        self.said: list[str] = []

    def step(self, stage: str, detail: str, left_s: float) -> None:
        self.steps.append((stage, detail, left_s))

    def say(self, text: str) -> None:
        self.said.append(text)


class Scan:
    """A search with its results."""

    def __init__(self, models: Sequence[Model] = MODELS, patience: Patience = QUICK) -> None:
        self.watch = Watch()
        self.found: list[FoundUnit] = []
        self.search = Search(models, patience, SystemClock(), self.watch, self.found.append)

    @property
    def ids(self) -> list[int]:
        return [unit.unit_id for unit in self.found]

    async def host(self, port: int, units: Sequence[int] = UNITS) -> bool:
        return await scan_host(self.search, "127.0.0.1", port, units, connect_s=1)


def meter(serial: int = 77) -> Unit:
    return Unit({0: 2312, 1: serial, 100: 112, 101: 0x4D45, 102: 0x5431})


# --- TCP ---


def test_several_units_are_told_apart_and_recognised() -> None:
    units = {1: Unit({0: 1, 1: 2}, {0: "Acme", 1: "X", 2: "3", 4: "Gate"}), 5: meter(), 2: meter(78)}

    async def main() -> Scan:
        scan = Scan()
        async with tcp(lambda unit, pdu: units[unit].answer(pdu) if unit in units else None) as served:
            assert await scan.host(served.port)
            assert served.most_at_once == 1
        assert {pdu[0] for unit in units.values() for pdu in unit.asked} <= {3, 4, 0x2B}
        return scan

    unknown, second, first = asyncio.run(main()).found
    assert unknown.unit_id == 1
    assert unknown.models == ()
    assert unknown.said == (("vendor", "Acme"), ("product code", "X"), ("revision", "3"), ("product name", "Gate"))
    assert unknown.similar == ("acme_family", "acme_meter")
    assert (second.unit_id, second.identity) == (2, (("serial", "78"),))
    assert (first.unit_id, first.models) == (5, ("acme_meter", "acme_family"))
    assert first.values == (("voltage_l1_v", "231.2"),)


@pytest.mark.parametrize("units", [UNITS, ALL_UNITS, range(256)], ids=["few", "all", "even more"])
def test_a_host_that_answers_every_unit_id_alike_is_told_once_under_its_usual_id(units: Sequence[int]) -> None:
    unit = meter()

    async def main() -> Scan:
        scan = Scan()
        async with tcp(lambda _, pdu: unit.answer(pdu)) as served:
            assert await scan.host(served.port, units)
        return scan

    (found,) = asyncio.run(main()).found
    assert (found.unit_id, found.models[0]) == (5, "acme_meter")
    assert "every unit id alike" in found.notes[0]


def test_zero_and_255_of_a_unit_are_no_more_units() -> None:
    own, other = meter(), meter(78)
    units = {0: own, 1: own, 255: own, 2: other}

    async def main() -> Scan:
        scan = Scan()
        async with tcp(lambda unit, pdu: units[unit].answer(pdu) if unit in units else None) as served:
            await scan.host(served.port)
        return scan

    assert asyncio.run(main()).ids == [1, 2]


def test_a_gateway_s_own_exceptions_are_no_units() -> None:
    unit = meter()

    async def main() -> Scan:
        scan = Scan()
        async with tcp(lambda one, pdu: unit.answer(pdu) if one == 2 else bytes((pdu[0] | 0x80, NO_TARGET))) as served:
            assert await scan.host(served.port)
        return scan

    scan = asyncio.run(main())
    assert scan.ids == [2]
    assert any("--units 1-247" in said for said in scan.watch.said)


@pytest.mark.parametrize("code", [2, 4], ids=["as a lacking register", "otherwise"])
def test_refusals_for_units_that_are_not_there_are_no_units(code: int) -> None:
    unit = Unit({100: 112})  # it lacks the first register, which is refused with 2

    async def main() -> Scan:
        scan = Scan()
        async with tcp(lambda one, pdu: unit.answer(pdu) if one == 2 else bytes((pdu[0] | 0x80, code))) as served:
            assert await scan.host(served.port)
        return scan

    (found,) = asyncio.run(main()).found
    assert (found.unit_id, found.models) == (2, ("acme_family",))


def test_a_host_that_refuses_everything_is_told_as_one_unknown_device() -> None:
    async def main() -> Scan:
        scan = Scan()
        async with tcp(lambda _, pdu: bytes((pdu[0] | 0x80, 2))) as served:
            assert await scan.host(served.port)
        return scan

    (found,) = asyncio.run(main()).found
    assert (found.unit_id, found.models, found.said) == (1, (), ())


def test_a_host_that_hangs_up_on_strange_ids_is_asked_on_without_a_second_connection() -> None:
    unit = meter()

    async def main() -> tuple[Scan, Served]:
        scan = Scan()
        async with tcp(lambda one, pdu: unit.answer(pdu) if one == 5 else b"") as served:
            assert await scan.host(served.port)
        return scan, served

    scan, served = asyncio.run(main())
    assert scan.ids == [5]
    assert served.connections == len(UNITS)
    assert served.most_at_once == 1


def test_a_unit_that_hangs_up_when_it_is_asked_who_it_is_is_still_recognised() -> None:
    unit = meter()

    async def main() -> Scan:
        scan = Scan()
        async with tcp(lambda at, pdu: None if at != 5 else b"" if pdu[0] == 0x2B else unit.answer(pdu)) as served:
            assert await scan.host(served.port)
            assert (served.most_at_once, served.connections) == (1, 2)
        return scan

    (found,) = asyncio.run(main()).found
    assert (found.unit_id, found.models, found.notes) == (5, ("acme_meter", "acme_family"), ())


def test_a_host_that_takes_connections_and_keeps_silent_gives_nothing() -> None:
    async def main() -> Scan:
        scan = Scan(patience=Patience(0.03))
        async with tcp(lambda _, __: None) as served:
            assert not await scan.host(served.port)
        return scan

    scan = asyncio.run(main())
    assert scan.found == []
    assert [left for _, _, left in scan.watch.steps] == pytest.approx([0.15, 0.12, 0.09, 0.06, 0.03])


def test_a_unit_that_keeps_silent_on_registers_that_it_lacks_is_still_recognised() -> None:
    unit = meter()

    def answer(one: int, pdu: bytes) -> bytes | None:
        given = unit.answer(pdu) if one == 5 else None
        return given if given and not given[0] & 0x80 else None

    async def main() -> Scan:
        scan = Scan(patience=Patience(0.5))
        async with tcp(answer) as served:
            await scan.host(served.port, (5,))
        return scan

    assert asyncio.run(main()).found[0].models == ("acme_meter", "acme_family")


def test_another_service_s_port_is_said_to_be_no_modbus() -> None:
    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with serving(talk) as port:
            with pytest.raises(BadData, match="no Modbus"):
                await Scan().host(port)

    asyncio.run(main())


def test_a_refused_connection_is_said() -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="refused"):
            asyncio.run(Scan().host(probe.getsockname()[1]))


@pytest.fixture
def quiet_pymodbus() -> Iterator[None]:
    """Its server logs each unit id that it does not have."""
    log = logging.getLogger("pymodbus")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)


async def _on_pymodbus(devices: SimDevice | list[SimDevice], scan: Scan, units: Sequence[int]) -> None:
    names = {"VendorName": "Acme Inc", "ProductName": "Simulator"}
    identity = ModbusDeviceIdentification(info_name=names)  # type: ignore[no-untyped-call]
    server = ModbusTcpServer(devices, address=("127.0.0.1", 0), identity=identity)
    await server.serve_forever(background=True)
    assert isinstance(server.transport, asyncio.Server)
    port = server.transport.sockets[0].getsockname()[1]
    try:
        await scan.host(port, units)
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("quiet_pymodbus")
def test_the_simulated_charger_is_found_with_pymodbus_answering() -> None:
    serial = Register("holding", 0x4000, "uint64")
    wanted = ModbusMatch(Register("holding", 0x4000, "uint16"), SERIAL[0])
    charger = Model(ModbusProfile("abb_terra_ac", (), identity={"serial": serial}, match=(wanted,)), "ABB")
    scan = Scan((*MODELS, charger))
    asyncio.run(_on_pymodbus(SimulatedCharger(Evse(1), SystemClock()).device(1), scan, UNITS))
    (found,) = scan.found
    assert (found.unit_id, found.models) == (1, ("abb_terra_ac",))
    assert found.identity == (("serial", str(int("".join(f"{word:04x}" for word in SERIAL), 16))),)


@pytest.mark.usefixtures("quiet_pymodbus")
def test_units_and_identification_of_pymodbus_are_understood() -> None:
    def device(unit: int, base: int, words: list[int]) -> SimDevice:
        return SimDevice(unit, simdata=[SimData(base, values=words, datatype=DataType.REGISTERS)])

    suns = [0x5375, 0x6E53, 1, 66, *[0x4142] * 66, 0xFFFF, 0]
    scan = Scan()
    asyncio.run(_on_pymodbus([device(2, 100, [112, 0x4D45, 0x5431]), device(3, 40000, suns)], scan, (1, 2, 3)))
    first, second = scan.found
    assert (first.unit_id, first.models) == (2, ("acme_meter", "acme_family"))
    assert ("vendor", "Acme Inc") in first.said
    assert ("product name", "Simulator") in first.said
    assert (second.unit_id, second.models) == (3, ())
    assert "the device has the models 1" in second.notes[0]


# --- RTU ---


@contextmanager
def as_the_bus_says(bus: RtuBus) -> Iterator[None]:
    """The time for an answer is over when the bus knows that none comes, however busy the machine is."""
    given = asyncio.timeout

    def timeout(_: float) -> asyncio.Timeout:
        made = given(60)

        def silent() -> None:
            with suppress(RuntimeError):  # it is over already
                made.reschedule(asyncio.get_running_loop().time())

        bus.silent = silent
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "timeout", timeout)
        yield


def _on_pty(
    path: Path, scan: Scan, plan: RtuPlan, units: dict[int, Unit], *, timed: bool = False, **habits: object
) -> tuple[bool, list[int]]:
    """What was found, and who was asked. ``timed``: by the search's own patience."""

    async def main() -> tuple[bool, list[int]]:
        pty = Pty(path)
        bus = RtuBus(pty, units, **habits)  # type: ignore[arg-type]
        bus.start()
        line = await open_line(str(path), 9600, "8N1")
        try:
            with nullcontext() if timed else as_the_bus_says(bus):
                return await scan_line(scan.search, line, plan), bus.asked
        finally:
            line.close()
            bus.stop()
            pty.close()

    return asyncio.run(asyncio.wait_for(main(), 60))


FAST = Patience(0.03, 0.0)


def test_units_of_a_bus_are_found_and_no_other_speed_is_tried(tmp_path: Path) -> None:
    scan = Scan(patience=FAST)
    plan = RtuPlan(speeds((9600, 19200), ("N", "E")), (1, 2, 3), widen=False)
    found, asked = _on_pty(tmp_path / "port", scan, plan, {1: meter(), 3: meter(78)})
    assert found
    assert scan.ids == [1, 3]
    assert [unit.url for unit in scan.found] == [f"rtu://{tmp_path}/port?baud=9600&parity=N"] * 2
    assert set(asked) == {1, 2, 3}
    assert asked.count(2) == 1


def test_where_one_unit_is_all_addresses_are_asked(tmp_path: Path) -> None:
    scan = Scan(patience=Patience(0.01, 0.0))
    plan = RtuPlan([(115_200, "E")], (1, 2), widen=True)
    found, asked = _on_pty(tmp_path / "port", scan, plan, {2: Unit({0: 0, 1: 0}), 200: meter()})
    assert found
    assert scan.ids == [2, 200]
    assert scan.found[0].models == ()
    assert set(asked) == set(range(1, 248))


def test_a_unit_that_answers_late_is_found_among_all_addresses_too(tmp_path: Path) -> None:
    scan = Scan(patience=Patience(0.01, 0.0))
    plan = RtuPlan([(115_200, "E")], (1, 2), widen=True)
    assert _on_pty(tmp_path / "port", scan, plan, {2: meter(), 200: meter(78)}, late=frozenset({200}))[0]
    assert scan.ids == [2, 200]
    assert scan.found[1].identity == (("serial", "78"),)


def test_a_silent_line_costs_each_speed_and_unit_once(tmp_path: Path) -> None:
    scan = Scan((), patience=Patience(0.005, 0.0))
    plan = RtuPlan(speeds((9600, 115_200), ("N", "O")), (2, 3), widen=True)
    found, asked = _on_pty(tmp_path / "port", scan, plan, {}, timed=True)
    assert not found
    assert asked == [2, 3] * 4
    assert scan.watch.said == []


def test_a_unit_that_answers_late_is_heard_and_waited_for(tmp_path: Path) -> None:
    scan = Scan(patience=FAST)
    plan = RtuPlan([(9600, "N")], (1, 2, 3), widen=False)
    found, _ = _on_pty(tmp_path / "port", scan, plan, {2: meter()}, late=frozenset({2}))
    assert found
    assert [(unit.unit_id, unit.models[0]) for unit in scan.found] == [(2, "acme_meter")]


@pytest.mark.parametrize("plan_units", [(1, 2), (2,)], ids=["last", "only"])
def test_a_unit_that_answers_late_is_heard_when_no_other_is_asked_after_it(
    tmp_path: Path, plan_units: tuple[int, ...]
) -> None:
    scan = Scan(patience=Patience(5.0, 0.0))
    plan = RtuPlan([(9600, "N")], plan_units, widen=False)
    assert _on_pty(tmp_path / "port", scan, plan, {2: meter()}, slow=frozenset({2}))[0]
    assert [(unit.unit_id, unit.models[0]) for unit in scan.found] == [(2, "acme_meter")]


def test_an_adapter_that_echoes_makes_no_units(tmp_path: Path) -> None:
    scan = Scan(patience=FAST)
    plan = RtuPlan([(9600, "N")], (1, 2), widen=False)
    assert _on_pty(tmp_path / "a", scan, plan, {2: meter()}, echo=True)[0]
    assert scan.ids == [2]
    assert scan.found[0].identity == (("serial", "77"),)
    silent = Scan((), patience=FAST)
    assert not _on_pty(tmp_path / "b", silent, plan, {}, echo=True)[0]
    assert "no answer in Modbus RTU" in silent.watch.said[0]


def test_rtu_through_a_serial_server_is_asked_at_one_speed() -> None:
    unit = meter()

    async def main() -> tuple[Scan, int]:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while frame := await reader.read(256):
                body = frame[:1] + unit.answer(frame[1:-2])
                writer.write(body + crc(body) if frame[0] == 5 else b"")

        scan = Scan(patience=FAST)
        async with serving(talk) as port:
            line = await open_line(f"socket://127.0.0.1:{port}", 9600, "8N1")
            assert await scan_line(scan.search, line, RtuPlan(speeds(), (4, 5), widen=False))
            line.close()
            return scan, port

    scan, port = asyncio.run(main())
    assert [(unit.unit_id, unit.url) for unit in scan.found] == [(5, f"rtu+tcp://127.0.0.1:{port}")]
