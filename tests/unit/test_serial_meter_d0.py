"""The dialogue that asks a D0 meter for its readout, on a line and a clock of the test."""

import asyncio
from collections.abc import Sequence

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import BadData, ConfigError, DeviceError, NoAnswer, Unavailable, Unsupported
from agent.core.ports import PollJob
from drivers.serial_meter.asked import AskedWire, Echo
from drivers.serial_meter.d0 import D0Meter
from drivers.serial_meter.settings import MeterSettings
from tests.meters import FakeLine, with_time
from tests.sinks import RecordingSink

ACK = b"\x06"
BODY = b"C.1.0(12345678)\r\n1.8.0(004711.5*kWh)\r\n16.7.0(001.250*kW)\r\n!\r\n\x03"
IDENT_C = b"/ABC5METER\r\n"


def block(body: bytes = BODY) -> bytes:
    """A data block: STX, data, BCC (the exclusive or behind STX up to and with ETX)."""
    bcc = 0
    for byte in body:
        bcc ^= byte
    return b"\x02" + body + bytes([bcc])


class Bench:
    """A meter that is asked, with its wire, and what came of it."""

    def __init__(
        self, meter: "Meter", address: str | None = None, *, fixed: bool = False, baud: int | None = None
    ) -> None:
        self.clock = FakeClock()
        self.lines: list[FakeLine] = []
        settings = MeterSettings("m", "d0", "/dev/fake", request=True, address=address, baud=baud)

        async def opener(_: str, speed: int, framing: str) -> FakeLine:
            line = FakeLine(self.clock, meter.hear, speed, framing)
            line.fixed = fixed
            self.lines.append(line)
            return line

        self.wire = AskedWire(settings.port, settings.line, self.clock, opener)
        self.unit = D0Meter(settings, self.wire)
        self.wire.join([self.unit])
        self.sink = RecordingSink()

    @property
    def job(self) -> PollJob:
        (job,) = self.unit.jobs
        return job

    def read(self, times: int = 1) -> dict[str, object]:
        async def once() -> None:
            await self.wire.open()
            try:
                for _ in range(times):
                    await self.job.run(self.sink)
            finally:
                await self.wire.close()

        asyncio.run(with_time(self.clock, once()))
        return dict(self.sink.values())


class Meter:
    """Answers the request; ``before`` are bytes before all it says (an echo), ``lag_s`` how long it thinks."""

    def __init__(
        self, ident: bytes = IDENT_C, data: bytes | None = None, *, lag_s: float = 0.3, echo: bool = False
    ) -> None:
        self.ident = ident
        self.data = block() if data is None else data
        self.lag_s = lag_s
        self.echo = echo
        self.requests: list[bytes] = []
        self.acknowledged: list[tuple[bytes, int]] = []

    def hear(self, data: bytes, baud: int, framing: str) -> Sequence[tuple[float, bytes]]:
        back = [(0.0, data[:2]), (0.01, data[2:])] if self.echo else []
        if data.startswith(b"/?"):
            self.requests.append(data)
            letter = self.ident[4:5]
            said = [(self.lag_s, self.ident[:3]), (0.1, self.ident[3:])]
            return [*back, *said] if letter.isdigit() else [*back, *said, (0.3, self.data)]
        assert data.startswith(ACK)
        self.acknowledged.append((data, baud))
        half = len(self.data) // 2
        return [*back, (self.lag_s, self.data[:half]), (0.2, self.data[half:])]


VALUES = {"m.energy_import_wh": 4711500.0, "m.power_w": 1250.0}


def test_mode_c_takes_up_the_speed_that_is_offered() -> None:
    meter = Meter()
    bench = Bench(meter)
    assert bench.read() == VALUES
    assert meter.acknowledged == [(b"\x06050\r\n", 300)]
    (line,) = bench.lines
    assert line.speed == (300, "7E1")
    assert bench.sink.counts == {"telegrams": 1}
    assert bench.unit.signals == [1_000_000, 1_000_001]


def test_the_speed_of_the_data_is_set_before_they_come() -> None:
    speeds: list[int] = []

    class Watched(Meter):
        def hear(self, data: bytes, baud: int, framing: str) -> Sequence[tuple[float, bytes]]:
            asyncio.get_running_loop().create_task(note())
            return super().hear(data, baud, framing)

    async def note() -> None:
        await bench.clock.sleep_s(0.25)
        speeds.append(bench.lines[0].speed[0])

    bench = Bench(Watched())
    bench.read()
    assert speeds == [300, 9600]


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize(
    ("ident", "speed"), [(b"/ABCBMETER\r\n", 1200), (b"/ABC METER\r\n", 300), (b"/ABC0METER\r\n", 300)]
)
def test_modes_a_and_b_and_300_baud(ident: bytes, speed: int, *, echo: bool) -> None:
    meter = Meter(ident, echo=echo)
    bench = Bench(meter)
    reached: list[tuple[int, str]] = []

    async def remember() -> None:
        original = bench.wire.switch

        async def switch(baud: int, framing: str) -> None:
            reached.append((baud, framing))
            await original(baud, framing)

        bench.wire.switch = switch  # type: ignore[method-assign]

    asyncio.run(remember())
    assert bench.read() == VALUES
    assert (speed, "7E1") in reached
    assert meter.acknowledged == ([(b"\x06000\r\n", 300)] if b"0" in ident else [])


def test_mode_e_is_read_as_mode_c_and_an_echo_is_taken_off() -> None:
    meter = Meter(b"/ABC5\\2METER\r\n", echo=True)
    assert Bench(meter).read() == VALUES
    assert len(meter.acknowledged) == 1


def test_the_address_is_asked_for() -> None:
    meter = Meter()
    Bench(meter, "00815").read()
    assert meter.requests == [b"/?00815!\r\n"]
    with pytest.raises(ConfigError, match="address"):
        Bench(Meter(), "?!")


def test_behind_a_serial_server_the_speed_stays() -> None:
    meter = Meter()
    assert Bench(meter, fixed=True).read() == VALUES
    assert meter.acknowledged == [(b"\x06000\r\n", 300)]
    meter = Meter()
    assert Bench(meter, fixed=True, baud=9600).read() == VALUES
    assert meter.acknowledged == [(b"\x06050\r\n", 9600)]
    with pytest.raises(Unsupported, match="1200 baud"):
        Bench(Meter(b"/ABCBMETER\r\n"), fixed=True).read()


@pytest.mark.parametrize(
    ("meter", "error", "text"),
    [
        (Meter(b"", b""), NoAnswer, "does not answer"),
        (Meter(lag_s=3.0), NoAnswer, "does not answer"),
        (Meter(b"\x00\xff\xfe#\r\n"), BadData, "no identification"),
        (Meter(data=b""), BadData, "no readout follows"),
        (Meter(data=block()[:-1] + b"\x00"), BadData, "bad_checksum"),
        (Meter(data=block()[:-10]), BadData, "no end"),
        (Meter(data=b"\x02" + b"x" * 40_000), BadData, "bad"),
    ],
)
def test_what_is_no_readout_gives_no_value_and_says_why(meter: Meter, error: type[DeviceError], text: str) -> None:
    bench = Bench(meter)
    with pytest.raises(error, match=text) as caught:
        bench.read()
    assert caught.value.hint
    assert type(caught.value) is error
    assert not bench.sink.rows


def test_a_late_answer_is_let_to_its_end_and_thrown_away() -> None:
    late = Meter(IDENT_C, block(BODY.replace(b"4711", b"9999")), lag_s=1.9)
    good = Meter()

    class Two:
        def hear(self, data: bytes, baud: int, framing: str) -> Sequence[tuple[float, bytes]]:
            first = not late.requests
            return (late if first else good).hear(data, baud, framing)

    bench = Bench(Two())  # type: ignore[arg-type]

    async def both() -> None:
        await bench.wire.open()
        with pytest.raises(NoAnswer):
            await bench.job.run(bench.sink)
        bench.lines[0].say([(0.2, IDENT_C), (0.8, late.data)])
        await bench.job.run(bench.sink)
        await bench.wire.close()

    asyncio.run(with_time(bench.clock, both()))
    assert bench.sink.values() == VALUES
    assert good.requests


def test_somebody_who_speaks_all_the_time_is_no_meter() -> None:
    bench = Bench(Meter(b"", b""))

    async def both() -> None:
        await bench.wire.open()
        with pytest.raises(NoAnswer):
            await bench.job.run(bench.sink)
        bench.lines[0].say([(0.1, bytes(1000))] * 80)
        with pytest.raises(BadData, match="all the time"):
            await bench.job.run(bench.sink)
        await bench.wire.close()

    asyncio.run(with_time(bench.clock, both()))


def test_a_second_readout_gives_what_changed_and_all_after_it_was_forgotten() -> None:
    bench = Bench(Meter())
    bench.read(2)
    assert len(bench.sink.rows) == 2
    assert bench.sink.touched == list(bench.unit.signals)
    bench.unit.forget()
    bench.read()
    assert len(bench.sink.rows) == 4


def test_a_wire_that_is_gone_is_unavailable() -> None:
    bench = Bench(Meter())

    async def check() -> None:
        with pytest.raises(Unavailable, match="not open"):
            await bench.job.run(bench.sink)
        await bench.wire.open()
        bench.lines[0].gone = "plugged in anew"
        with pytest.raises(Unavailable, match="anew"):
            await bench.job.run(bench.sink)
        await bench.wire.close()
        await bench.wire.close()

    asyncio.run(with_time(bench.clock, check()))


@pytest.mark.parametrize("cut", range(1, 8))
def test_an_echo_is_taken_off_whole_or_not_at_all(cut: int) -> None:
    question = b"/?!\r\n"
    line = question + b"/ABC"
    echo = Echo(question)
    assert echo.feed(line[:cut]) + echo.feed(line[cut:]) == b"/ABC"
    echo = Echo(question)
    assert echo.feed(b"/ABC5"[:cut]) + echo.feed(b"/ABC5"[cut:] + b"\r\n") == b"/ABC5\r\n"
