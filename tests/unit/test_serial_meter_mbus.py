"""Reading M-Bus slaves, on a line and a clock of the test."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import AgentError, BadData, ConfigError, DeviceError, NoAnswer
from drivers.serial_meter.asked import AskedWire, bits_of
from drivers.serial_meter.mbus import MbusMeter
from drivers.serial_meter.settings import MeterSettings
from tests.mbus_slaves import ACK, Slave, energy, long_frame, power, short_frame
from tests.meters import FakeLine, with_time
from tests.sinks import RecordingSink

ANSWER_S = 0.1
NUMBER = "12345678"
SECONDARY = f"{NUMBER}24400102"

Bus = Callable[[bytes], Sequence[tuple[float, bytes]]]


def bus_of(slaves: Sequence[Slave], *, echo: bool = False) -> Bus:
    def hear(question: bytes) -> Sequence[tuple[float, bytes]]:
        said = [(0.0, question)] if echo else []
        return [*said, *((ANSWER_S, answer) for slave in slaves if (answer := slave.hear(question)))]

    return hear


class Bench:
    """Meters on one wire."""

    def __init__(self, bus: Bus, *addresses: str, baud: int | None = None, keep_unmapped: bool = False) -> None:
        self.clock = FakeClock()
        self.line: FakeLine | None = None
        settings = [
            MeterSettings(f"m{n}", "mbus", "/dev/fake", baud=baud, address=one, keep_unmapped=keep_unmapped)
            for n, one in enumerate(addresses)
        ]

        async def opener(_: str, speed: int, framing: str) -> FakeLine:
            self.line = FakeLine(self.clock, lambda data, _baud, _framing: bus(data), speed, framing)
            return self.line

        self.wire = AskedWire("/dev/fake", settings[0].line, self.clock, opener)
        self.units = [MbusMeter(one, self.wire) for one in settings]
        self.wire.join(self.units)
        self.sink = RecordingSink()

    def read(self, *order: int) -> list[AgentError | None]:
        """Ask units in this order; the errors."""

        async def all_of_them() -> list[AgentError | None]:
            await self.wire.open()
            results: list[AgentError | None] = []
            for index in order:
                try:
                    await self.units[index].jobs[0].run(self.sink)
                except DeviceError as error:
                    results.append(error)
                else:
                    results.append(None)
            await self.wire.close()
            return results

        return asyncio.run(with_time(self.clock, all_of_them()))


def test_a_link_is_reset_once_and_then_the_frame_count_goes_on() -> None:
    slave = Slave(5)
    bench = Bench(bus_of([slave]), "5")
    assert bench.read(0, 0) == [None, None]
    slave.parts = [energy(1001)]
    assert bench.read(0) == [None]
    assert slave.asked == ["reset", "part 0", "part 0", "part 0"]
    assert bench.sink.values() == {"m0.energy_import_wh": 1001.0}
    assert bench.sink.touched == [1_000_000]
    assert bench.line is not None
    assert [said[0][1] for said in bench.line.said] == [0x7B]  # after 7B and 5B: the bit has changed each time


def test_whoever_is_alone_on_the_wire_is_read_by_the_address_of_all() -> None:
    slave = Slave(5)

    def hear(question: bytes) -> Sequence[tuple[float, bytes]]:
        assert question[2] == 254
        return [(ANSWER_S, slave.hear(short_frame(question[1], 5)))]

    bench = Bench(hear, "254")
    assert bench.read(0) == [None]
    assert bench.sink.values() == {"m0.energy_import_wh": 1000.0}


@pytest.mark.parametrize("address", ["251", "255", "12345", "xyz"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="M-Bus address"):
        MeterSettings("m", "mbus", "/dev/x", address=address)


@pytest.mark.parametrize("echo", [False, True])
def test_all_telegrams_of_a_slave_are_asked_for(*, echo: bool) -> None:
    slave = Slave(5, parts=[energy(1000), power(250), b"\x02\xfd\x48\xfc\x08"])
    bench = Bench(bus_of([slave], echo=echo), "5")
    assert bench.read(0, 0) == [None, None]
    assert bench.sink.values() == {"m0.energy_import_wh": 1000.0, "m0.power_w": 250.0, "m0.voltage_v": 230.0}
    assert slave.asked == ["reset", "part 0", "part 1", "part 2", "part 0", "part 1", "part 2"]


def test_a_secondary_address_is_selected_before_each_readout() -> None:
    slaves = [Slave(1, NUMBER), Slave(1, "12345679", [energy(2000)])]
    bench = Bench(bus_of(slaves), SECONDARY, "12345679FFFFFFFF")
    assert bench.read(0, 1, 0) == [None, None, None]
    assert bench.sink.values() == {"m0.energy_import_wh": 1000.0, "m1.energy_import_wh": 2000.0}
    assert slaves[0].asked == ["selected", "part 0", "reset", "selected", "part 0"]  # reset by m1, once
    (error,) = Bench(bus_of(slaves), "99999999FFFFFFFF").read(0)
    assert isinstance(error, NoAnswer)
    assert "secondary address" in error.reason


def test_a_dead_slave_costs_one_question_more_than_its_reset() -> None:
    bench = Bench(bus_of([Slave(5)]), "6")
    started_s = bench.clock.monotonic_s()
    (error,) = bench.read(0)
    assert isinstance(error, NoAnswer)
    assert error.hint
    assert bench.line is not None
    assert [said[0] for said in bench.line.said] == [short_frame(0x40, 6), short_frame(0x7B, 6)]
    assert bench.clock.monotonic_s() - started_s < 1.0


def test_a_slave_that_does_not_acknowledge_is_read_all_the_same() -> None:
    bench = Bench(bus_of([Slave(5, acknowledges=False)]), "5")
    assert bench.read(0) == [None]


def test_a_question_is_repeated_with_the_same_frame_count() -> None:
    slave = Slave(5, parts=[energy(1000), power(1)])
    lost = {2, 3}
    asked: list[bytes] = []

    def hear(question: bytes) -> Sequence[tuple[float, bytes]]:
        asked.append(question)
        answer = slave.hear(question)
        return [(ANSWER_S, answer[:9])] if len(asked) in lost else [(ANSWER_S, answer)]

    bench = Bench(hear, "5")
    assert bench.read(0) == [None]
    assert [one[1] for one in asked] == [0x40, 0x7B, 0x7B, 0x7B, 0x5B]
    assert bench.sink.values() == {"m0.energy_import_wh": 1000.0, "m0.power_w": 1.0}
    assert bench.sink.counts["bad.incomplete"] == 2


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda answer: answer[:-2] + bytes((answer[-2] ^ 1, 0x16)), BadData),
        (lambda answer: answer[:-1], BadData),
        (lambda answer: b"\xff\x00\x55", BadData),
        (lambda answer: b"", NoAnswer),
        (lambda answer: long_frame(0x08, 5, 0x70, b"\x08"), BadData),
    ],
)
def test_what_is_no_telegram_gives_no_value(spoil: Callable[[bytes], bytes], error: type[DeviceError]) -> None:
    slave = Slave(5)

    def hear(question: bytes) -> Sequence[tuple[float, bytes]]:
        answer = slave.hear(question)
        return [(ANSWER_S, spoil(answer) if len(answer) > 1 else answer)]

    bench = Bench(hear, "5")
    (found,) = bench.read(0)
    assert type(found) is error
    assert not bench.sink.rows
    assert bench.read(0)[0] is not None
    assert slave.asked.count("reset") == 2


def test_a_late_answer_is_never_taken_for_the_next_ones() -> None:
    slow, fast = Slave(1, parts=[energy(1111)]), Slave(2, parts=[energy(2222)])

    def hear(question: bytes) -> Sequence[tuple[float, bytes]]:
        late = [(0.9, answer) for answer in (slow.hear(question),) if answer]
        return late or [(ANSWER_S, answer) for answer in (fast.hear(question),) if answer]

    bench = Bench(hear, "1", "2")
    errors = bench.read(0, 1, 0, 1)
    assert [type(error) for error in errors] == [NoAnswer, type(None), NoAnswer, type(None)]
    assert bench.sink.values() == {"m1.energy_import_wh": 2222.0}


def test_an_answer_of_another_slave_is_no_answer() -> None:
    stranger = Slave(1, "87654321")

    def hear(question: bytes) -> Sequence[tuple[float, bytes]]:
        if question[0] == 0x68 or question[1] == 0x40:
            return [(ANSWER_S, ACK)]
        return [(ANSWER_S, stranger.hear(short_frame(question[1], 1)))]

    for addresses in (("2", "3"), (SECONDARY,)):
        bench = Bench(hear, *addresses)
        (error,) = bench.read(0)
        assert isinstance(error, NoAnswer)
        assert bench.sink.counts["late"] == 3
    assert Bench(hear, "8765432FFFFF01FF").read(0) == [None]


def test_who_is_read_alone_may_give_another_address_than_its_own() -> None:
    odd = Slave(1)

    def hear(question: bytes) -> Sequence[tuple[float, bytes]]:
        return [(ANSWER_S, odd.hear(short_frame(question[1], 1)))]

    bench = Bench(hear, "2")
    assert bench.read(0) == [None]
    assert bench.sink.values() == {"m0.energy_import_wh": 1000.0}


@pytest.mark.parametrize(("information", "number"), [(0x73, b"\x78\x56\x34\x12"), (0x77, b"\x12\x34\x56\x78")])
def test_fixed_data_are_known_by_their_number(information: int, number: bytes) -> None:
    """EN 13757-3, annex on fixed data: number, access number, status, medium and units, two counters."""
    data = number + b"\x0a\x00\xe9\x7e\x01\x00\x00\x00\x35\x01\x00\x00"

    def hear(question: bytes) -> Sequence[tuple[float, bytes]]:
        answer = ACK if question[0] == 0x68 else long_frame(0x08, 5, information, data)
        return [(ANSWER_S, answer)]

    assert Bench(hear, SECONDARY).read(0) == [None]
    assert isinstance(Bench(hear, "87654321FFFFFFFF").read(0)[0], NoAnswer)


@pytest.mark.parametrize("baud", [300, 2400, 9600])
def test_the_slowest_answer_that_the_standard_allows_is_waited_for(baud: int) -> None:
    slave = Slave(5)

    def hear(question: bytes) -> Sequence[tuple[float, bytes]]:
        sent_s = len(question) * bits_of("8E1") / baud
        answer = slave.hear(question)
        said = [(sent_s + 330 / baud + 0.05, answer[:1])]
        return said + [(bits_of("8E1") / baud, bytes([byte])) for byte in answer[1:]]

    bench = Bench(hear, "5", baud=baud)
    assert bench.read(0) == [None]
    assert slave.asked == ["reset", "part 0"]


def test_after_a_fault_the_link_is_reset_and_after_forget_all_is_given_in_full() -> None:
    slave = Slave(5)
    bench = Bench(bus_of([slave]), "5")
    bench.read(0)
    bench.units[0].forget()
    bench.read(0)
    assert slave.asked == ["reset", "part 0", "reset", "part 0"]
    assert len(bench.sink.rows) == 2
    assert bench.units[0].signals == [1_000_000]


def test_what_a_slave_no_longer_sends_becomes_unknown() -> None:
    slave = Slave(5, parts=[energy(1000) + power(1)])
    bench = Bench(bus_of([slave]), "5")
    bench.read(0)
    slave.parts = [energy(1000)]
    for _ in range(4):
        bench.clock.advance(60)
        bench.read(0)
    assert bench.sink.values() == {"m0.energy_import_wh": 1000.0, "m0.power_w": None}


def test_unmapped_numbers_are_kept_where_that_is_wanted() -> None:
    slave = Slave(5, parts=[energy(1000), b"\x44\x03\x01\x00\x00\x00"])
    bench = Bench(bus_of([slave]), "5", keep_unmapped=True)
    bench.read(0)
    assert bench.sink.values() == {"m0.energy_import_wh": 1000.0, "m0.1": 1.0}
