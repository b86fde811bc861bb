"""Finding meters on a line whose speed matters, on a fake clock."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import reduce
from operator import and_

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import Unsupported
from drivers.codec.d0_request import request
from drivers.line import Line
from drivers.serial_meter.scan import LISTEN_S, FoundMeter, PortSearch, ask_d0, listen
from drivers.serial_meter.scan_mbus import BAUDS, ask_mbus
from drivers.sim import meter_dsmr, meter_sml
from tests.mbus_slaves import ACK, Slave, energy, long_frame
from tests.meters import FakeLine, Meter, with_time

NOW_US = 1_750_000_000_000_000
DSMR, SML = meter_dsmr.telegram(NOW_US), meter_sml.telegram(NOW_US)
D0 = b"/ACM5Meter 1\r\n\r\n1-0:0.0.0*255(0012345)\r\n1-0:1.8.0*255(000042.5*kWh)\r\n!\r\n"
PORT = "/dev/serial/by-id/usb-1"


def seven_bits(data: bytes) -> bytes:
    return bytes(byte | 0x80 * (byte.bit_count() & 1) for byte in data)


class Wire:
    """A port, whatever is on it, and what a search of it says."""

    def __init__(self, meter: Meter = lambda *_: (), *, fixed: bool = False) -> None:
        self.clock = FakeClock()
        self.meter = meter
        self.opened: list[tuple[int, str]] = []
        self.found: list[FoundMeter] = []
        self.said: list[str] = []
        self.steps: list[tuple[str, str]] = []
        self.lines: list[FakeLine] = []
        self.began_s = self.clock.monotonic_s()
        self._fixed = fixed
        self.search = PortSearch(PORT, self.clock, self, self.found.append, self.open)

    def step(self, stage: str, detail: str, left_s: float) -> None:
        assert left_s >= 0
        self.steps.append((stage, detail))

    def say(self, text: str) -> None:
        self.said.append(text)

    async def open(self, port: str, baud: int, framing: str) -> Line:
        assert port == PORT
        self.opened.append((baud, framing))
        line = FakeLine(self.clock, self.meter, baud, framing)
        line.fixed = self._fixed
        self.lines.append(line)
        return line

    @property
    def took_s(self) -> float:
        return self.clock.monotonic_s() - self.began_s

    @property
    def questions(self) -> list[bytes]:
        return [said[0] for line in self.lines for said in line.said]


class Pushing(Wire):
    """A meter that pushes ``telegram`` at ``speed`` every ``every_s``; at other speeds its bytes are garbage."""

    def __init__(
        self, telegram: bytes, speed: tuple[int, str], every_s: float, *, fixed: bool = False, times: int = 100
    ) -> None:
        super().__init__(fixed=fixed)
        self._telegram, self._speed, self._every_s, self._times = telegram, speed, every_s, times

    async def open(self, port: str, baud: int, framing: str) -> Line:
        line = await super().open(port, baud, framing)
        assert isinstance(line, FakeLine)
        telegram = self._telegram
        right_baud, right_framing = self._speed
        if baud != right_baud:
            telegram = bytes(0xFF - (byte & 0x0F) for byte in telegram[: len(telegram) // 3])
        elif right_framing == "7E1" and framing == "8N1":
            telegram = seven_bits(telegram)
        elif framing != right_framing:
            telegram = bytes(byte & 0x7F for byte in telegram)
        # We begin to listen in the middle of one.
        chunks = [(0.0, telegram[len(telegram) // 2 :]), *[(self._every_s, telegram)] * self._times]
        line.say(chunks)
        return line


def run(wire: Wire, doing: Callable[[PortSearch], Coroutine[object, object, object]]) -> object:
    async def main() -> object:
        try:
            return await with_time(wire.clock, doing(wire.search))
        finally:
            for line in wire.lines:
                line.close()
            await asyncio.sleep(0)

    return asyncio.run(main())


# --- meters that speak by themselves ---


@pytest.mark.parametrize(
    ("telegram", "speed", "every_s", "protocol", "settings"),
    [
        (DSMR, (115_200, "8N1"), 1, "dsmr", {}),
        (DSMR, (115_200, "8N1"), 10, "dsmr", {}),
        (SML, (9600, "8N1"), 2, "sml", {}),
        (D0, (9600, "7E1"), 2, "d0", {}),
        (D0, (2400, "7E1"), 2, "d0", {"baud": 2400}),
        (D0.replace(b"*255", b""), (9600, "7E1"), 10, "dsmr", {"baud": 9600, "framing": "7E1"}),
    ],
    ids=["dsmr", "dsmr 4", "sml", "d0", "slow d0", "dsmr 2.2"],
)
def test_a_pushing_meter_is_found_with_the_line_that_it_needs(
    telegram: bytes, speed: tuple[int, str], every_s: float, protocol: str, settings: dict[str, object]
) -> None:
    wire = Pushing(telegram, speed, every_s)
    meter = run(wire, listen)
    assert isinstance(meter, FoundMeter)
    assert (meter.port, meter.protocol, dict(meter.settings)) == (PORT, protocol, settings)
    assert meter.values
    assert wire.questions == []


def test_garbage_at_a_wrong_speed_costs_two_bursts_and_not_the_whole_time() -> None:
    wire = Pushing(SML, (9600, "8N1"), 1)
    assert run(wire, listen) is not None
    assert wire.opened == [(115_200, "8N1"), (9600, "8N1")]
    assert wire.took_s < LISTEN_S / 2


def test_a_silent_line_is_listened_to_once() -> None:
    wire = Wire()
    assert run(wire, listen) is None
    assert wire.opened == [(115_200, "8N1")]
    assert wire.took_s == pytest.approx(LISTEN_S)
    assert wire.said == []


def test_somebody_who_speaks_an_unknown_language_is_told() -> None:
    wire = Pushing(b"hello world, how do you do? " * 3, (9600, "8N1"), 1)
    assert run(wire, listen) is None
    assert len(wire.opened) == 7
    assert wire.took_s < 7 * LISTEN_S
    assert "in no protocol that is known" in wire.said[0]


def test_a_flood_is_given_up_in_time() -> None:
    wire = Pushing(b"\x55" * 64, (9600, "8N1"), 0.05, times=4000)
    assert run(wire, listen) is None
    assert wire.took_s <= 7 * LISTEN_S + 1


def test_behind_a_serial_server_no_speed_is_proposed() -> None:
    wire = Pushing(SML, (115_200, "8N1"), 1, fixed=True)
    meter = run(wire, listen)
    assert isinstance(meter, FoundMeter)
    assert meter.settings == ()


def test_a_speed_that_the_port_does_not_have_is_passed_over() -> None:
    class Slow(Pushing):
        async def open(self, port: str, baud: int, framing: str) -> Line:
            if baud > 9600:
                self.opened.append((baud, framing))
                raise Unsupported("open", "too fast")
            return await super().open(port, baud, framing)

    wire = Slow(SML, (9600, "8N1"), 1)
    assert run(wire, listen) is not None
    assert wire.opened == [(115_200, "8N1"), (9600, "8N1")]


# --- D0 ---


def test_a_meter_is_asked_for_its_readout() -> None:
    body = b"F.F(00)\r\n0.0.0(12345678)\r\n1.8.0(000042.5*kWh)\r\n!\r\n\x03"
    readout = b"\x02" + body + bytes((reduce(lambda one, other: one ^ other, body),))

    def meter(said: bytes, baud: int, framing: str) -> Sequence[tuple[float, bytes]]:
        if (said, baud, framing) == (request(), 300, "7E1"):
            return [(0.3, b"/ACM4Meter\r\n")]
        return [(0.3, readout)] if said.startswith(b"\x060") else []

    wire = Wire(meter)
    found = run(wire, ask_d0)
    assert isinstance(found, FoundMeter)
    assert (found.protocol, found.settings, found.meter) == ("d0", (("request", True),), "12345678")
    assert found.values == (("energy_import_wh", "42.5 kWh"),)
    assert wire.questions == [request(), b"\x06040\r\n"]


def test_nobody_who_answers_a_request_costs_two_seconds() -> None:
    wire = Wire()
    assert run(wire, ask_d0) is None
    assert wire.took_s < 3
    assert wire.questions == [request()]


def test_an_answer_that_is_no_readout_is_told() -> None:
    wire = Wire(lambda *_: [(0.1, b"ERROR\r\n")])
    assert run(wire, ask_d0) is None
    assert "no identification" in wire.said[0]


# --- M-Bus ---


class Bus:
    """Slaves on one pair of wires, at one speed: who speaks at once damages the others' bytes."""

    def __init__(self, *slaves: Slave, baud: int = 2400) -> None:
        self.slaves, self.baud = slaves, baud

    def __call__(self, said: bytes, baud: int, framing: str) -> Sequence[tuple[float, bytes]]:
        if (baud, framing) != (self.baud, "8E1"):
            return []
        answers = [answer for slave in self.slaves if (answer := self._hear(slave, said))]
        if not answers:
            return []
        longest = max(map(len, answers))
        mixed = reduce(and_, (int.from_bytes(one.ljust(longest, b"\xff"), "big") for one in answers))
        return [(0.05, mixed.to_bytes(longest, "big"))]

    @staticmethod
    def _hear(slave: Slave, said: bytes) -> bytes:
        if said[0] == 0x10 and said[2] == 254:
            return ACK
        return slave.hear(said)


def slaves(*numbers: str) -> list[Slave]:
    return [Slave(index + 1, number, [energy(1000 * (index + 1) ** 4)]) for index, number in enumerate(numbers)]


NUMBERS = ("12345678", "12345679", "12995678", "00000001", "99999999")


@pytest.mark.parametrize("baud", BAUDS)
def test_slaves_are_found_by_their_numbers(baud: int) -> None:
    wire = Wire(Bus(*slaves(*NUMBERS), baud=baud))
    assert run(wire, ask_mbus) is True
    found = {dict(meter.settings)["address"]: meter for meter in wire.found}
    assert set(found) == {f"{number}24400102" for number in NUMBERS}
    assert all(dict(meter.settings).get("baud", 2400) == baud for meter in wire.found)
    assert {meter.values for meter in wire.found} >= {(("energy_import_wh", "1000 Wh"),)}
    assert wire.said == []


def test_one_slave_costs_few_questions() -> None:
    wire = Wire(Bus(*slaves("12345678")))
    assert run(wire, ask_mbus) is True
    assert len(wire.found) == 1
    assert len(wire.questions) < 16


def test_new_meters_of_one_delivery_are_told_apart() -> None:
    """Numbers in sequence, no address yet, nothing counted: together, two telegrams are a sound one."""
    wire = Wire(Bus(*(Slave(0, number, [energy(1)]) for number in ("12345678", "12345679"))))
    assert run(wire, ask_mbus) is True
    assert [meter.meter for meter in wire.found] == ["12345678", "12345679"]


def test_slaves_that_know_primary_addresses_only_are_found_by_them() -> None:
    class Simple(Bus):
        @staticmethod
        def _hear(slave: Slave, said: bytes) -> bytes:
            return Bus._hear(slave, said) if said[0] == 0x10 else b""

    wire = Wire(Simple(Slave(7, "12345678"), Slave(250, "87654321")))
    assert run(wire, ask_mbus) is True
    assert [dict(meter.settings) for meter in wire.found] == [{"address": "7"}, {"address": "250"}]


def test_a_slave_with_fixed_data_is_read_by_its_number() -> None:
    """EN 13757-3, fixed data structure: number, access number, status, two units with the medium, two counters."""
    fixed = long_frame(0x08, 5, 0x73, bytes.fromhex("78563412") + bytes((1, 0, 0x05, 0x0E)) + b"\1\0\0\0\0\0\0\0")

    class Old(Bus):
        @staticmethod
        def _hear(slave: Slave, said: bytes) -> bytes:
            answer = Bus._hear(slave, said)
            return fixed if answer[:1] == b"\x68" else answer

    wire = Wire(Old(Slave(5, "12345678")))
    assert run(wire, ask_mbus) is True
    assert dict(wire.found[0].settings) == {"address": "12345678FFFFFFFF"}


def test_a_slave_whose_data_are_encrypted_is_found_all_the_same() -> None:
    header = bytes.fromhex("78563412") + b"\x24\x40\x01\x02" + b"\1\0" + bytes((0x10, 0x05))
    secret = long_frame(0x08, 5, 0x72, header + bytes(16))

    class Secret(Bus):
        @staticmethod
        def _hear(slave: Slave, said: bytes) -> bytes:
            answer = Bus._hear(slave, said)
            return secret if answer[:1] == b"\x68" else answer

    wire = Wire(Secret(Slave(5, "12345678")))
    assert run(wire, ask_mbus) is True
    assert dict(wire.found[0].settings) == {"address": "1234567824400102"}
    assert "encrypted" in wire.found[0].notes[0]


def test_two_slaves_with_one_number_are_told() -> None:
    wire = Wire(Bus(Slave(1, "12345678"), Slave(2, "12345678", [energy(77)]), Slave(3, "22345678")))
    assert run(wire, ask_mbus) is True
    assert [dict(meter.settings)["address"] for meter in wire.found] == ["2234567824400102"]
    assert any("several M-Bus slaves have the number 12345678" in said for said in wire.said)


def test_an_empty_bus_costs_seconds() -> None:
    wire = Wire()
    assert run(wire, ask_mbus) is False
    assert wire.opened == [(baud, "8E1") for baud in BAUDS]
    assert wire.took_s < 8


def test_somebody_who_answers_everything_with_noise_ends_the_search() -> None:
    wire = Wire(lambda *_: [(0.01, b"\x12\x34\x56")])
    assert run(wire, ask_mbus) is False
    assert wire.found == []
    assert len(wire.questions) < 800
    assert any("given up" in said for said in wire.said)
    assert any("no slave could be told apart" in said for said in wire.said)


def test_an_echo_is_no_slave() -> None:
    wire = Wire(lambda said, *_: [(0.0, said)])
    assert run(wire, ask_mbus) is False
    assert wire.said == []
