"""Modbus units over real sockets and pseudo terminals: values, missing ones, what devices lack, and what goes wrong."""

import asyncio
import struct
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.core.clock import SystemClock
from agent.core.errors import BadData, NoAnswer, Unavailable
from agent.pipeline.health import Health
from agent.pipeline.polling import PollListener
from drivers.codec.registers import Register, TextRegister
from drivers.codec.registers_pack import Span
from drivers.modbus.asker import Asker
from drivers.modbus.link import Link
from drivers.modbus.model import ModbusPoint, ModbusProfile
from drivers.modbus.settings import ModbusUrl
from tests.modbus_frames import Registers
from tests.modbus_peer import (
    Asked,
    Peer,
    Said,
    Scheme,
    SerialPeer,
    cut,
    device_of,
    opened,
    poll,
    poller_of,
    profile_of,
    run,
)
from tests.sinks import RecordingSink

SCHEMES: list[Scheme] = ["tcp", "rtu+tcp"]
SHORT_S = 0.15  #: what late answers are late by is some of these
BOTH = pytest.mark.parametrize("scheme", SCHEMES)


def test_changed_values_are_put_and_others_touched() -> None:
    async def check() -> None:
        device = Registers(holding={10: 100, 11: 0xFFFF, 12: 5}, discrete={3: 1})
        profile = ModbusProfile(
            "test",
            (
                ModbusPoint("power_w", Register("holding", 10, "uint16")),
                ModbusPoint("current_a", Register("holding", 11, "uint16"), missing=((0xFFFF, 0xFFFF),)),
                ModbusPoint("voltage_v", Register("holding", 12, "uint16")),
                ModbusPoint("plugged", Register("discrete", 3, "bit")),
            ),
        )
        sink = RecordingSink()
        async with Peer({1: device}).serve() as peer, opened(poller_of(peer.url, device_of(profile))) as poller:
            await poll(poller, sink)
            assert [(signal, word, valid) for signal, _, word, valid in sink.rows if valid] == [
                (4, 1, True),
                (1, 100, True),
                (3, 5, True),
            ]
            assert sink.unknown() == [2]
            sink.rows.clear()
            await poll(poller, sink)
            assert (sink.rows, sorted(sink.touched)) == ([], [1, 3, 4])
            sink.touched.clear()
            device.holding.update({10: 101, 11: 7})
            await poll(poller, sink)
            assert sorted((signal, word) for signal, _, word, _ in sink.rows) == [(1, 101), (2, 7)]
            assert sorted(sink.touched) == [3, 4]
            sink.rows.clear()
            device.holding[11] = 0xFFFF
            for _ in range(3):
                await poll(poller, sink)
            assert sink.unknown() == [2], "said once"
            sink.rows.clear()
            poller.units[0].forget()
            await poll(poller, sink)
            assert sorted(signal for signal, _, _, valid in sink.rows if valid) == [1, 3, 4]

    run(check)


def test_what_the_device_lacks_is_found_and_left_out() -> None:
    async def check() -> None:
        holding = {address: address for address in range(40) if address not in {13, 27, 28}}
        device = Registers(holding=holding)
        names = [
            ("power_w", 10), ("current_a", 12), ("voltage_v", 13), ("frequency_hz", 14),
            ("current_l1_a", 20), ("current_l2_a", 27), ("current_l3_a", 30),
        ]  # fmt: skip
        sink = RecordingSink()
        async with (
            Peer({1: device}).serve() as peer,
            opened(poller_of(peer.url, device_of(profile_of(*names, max_gap=8)))) as poller,
        ):
            assert await poll(poller, sink) is None
            assert {signal: word for signal, _, word, valid in sink.rows if valid} == {
                1: 10,
                2: 12,
                4: 14,
                5: 20,
                7: 30,
            }
            assert set(sink.unknown()) == {3, 6}
            (event,) = sink.events
            assert (event.kind, event.subject) == ("device.lacks", "d1")
            assert event.data == {
                "points": {
                    "voltage_v": "holding 13: exception 2: it has no such register",
                    "current_l2_a": "holding 27: exception 2: it has no such register",
                }
            }
            peer.asked.clear()
            before = sink.counts["exception.2"]
            assert await poll(poller, sink) is None
            assert sink.counts["exception.2"] == before, "what is not there is not asked for again"
            assert len(peer.asked) <= 5
            poller.units[0].forget()
            device.holding[13] = 13
            sink.rows.clear()
            assert await poll(poller, sink) is None
            assert sink.words(3) == [13]
            assert len(sink.events) == 1, "what is still lacking was told before"

    run(check)


def test_a_device_without_gaps_costs_no_points() -> None:
    async def check() -> None:
        device = Registers(holding={10: 1, 15: 2})
        sink = RecordingSink()
        async with (
            Peer({1: device}).serve() as peer,
            opened(poller_of(peer.url, device_of(profile_of(("power_w", 10), ("current_a", 15))))) as poller,
        ):
            assert await poll(poller, sink) is None
            assert sink.words(1) + sink.words(2) == [1, 2]
            assert not sink.events

    run(check)


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_device_that_refuses_all_of_its_profile_is_asked_for_a_part_of_it(code: int) -> None:
    async def check() -> None:
        refusing = True
        device = Registers(holding={address: address for address in range(100)})
        peer = Peer({1: device}, hook=lambda asked, pdu: [(0, asked.frame(bytes((0x83, code)) if refusing else pdu))])
        points = [(f"string_voltage_v.{number}", 3 * number) for number in range(1, 20)]
        sink = RecordingSink()
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile_of(*points)))) as poller:
            error = await poll(poller, sink)
            assert isinstance(error, BadData)
            assert "profile" in error.hint
            peer.asked.clear()
            assert isinstance(await poll(poller, sink), BadData)
            assert len(peer.asked) == 1
            refusing = False
            assert await poll(poller, sink) is None
            assert await poll(poller, sink) is None
            assert {signal for signal, *_ in sink.rows if sink.words(signal)} == set(range(1, 20))

    run(check)


@pytest.mark.parametrize(("code", "error"), [(4, BadData), (5, BadData), (6, BadData), (10, NoAnswer), (11, NoAnswer)])
def test_other_exceptions_cost_their_round_only(code: int, error: type[Exception]) -> None:
    async def check() -> None:
        failing = False
        device = Registers(holding={10: 5})
        peer = Peer({1: device}, hook=lambda asked, pdu: [(0, asked.frame(bytes((0x83, code)) if failing else pdu))])
        sink = RecordingSink()
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile_of(("power_w", 10))))) as poller:
            assert await poll(poller, sink) is None
            failing = True
            for _ in range(4):
                assert type(await poll(poller, sink)) is error
            assert sink.counts[f"exception.{code}"] == 4
            assert sink.unknown() == ([1] if error is BadData else [])
            failing = False
            assert await poll(poller, sink) is None
            assert sink.words(1) == ([5, 5] if error is BadData else [5])

    run(check)


def test_a_block_that_fails_does_not_keep_the_others() -> None:
    async def check() -> None:
        device = Registers(holding={10: 5}, input={10: 6})

        def hook(asked: Asked, pdu: bytes) -> Said:
            return [(0, asked.frame(pdu if asked.pdu[0] == 3 else b"\x84\x04"))]

        profile = ModbusProfile(
            "test",
            (
                ModbusPoint("power_w", Register("holding", 10, "uint16")),
                ModbusPoint("current_a", Register("input", 10, "uint16")),
            ),
        )
        sink = RecordingSink()
        peer = Peer({1: device}, hook=hook)
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile))) as poller:
            for _ in range(4):
                assert await poll(poller, sink) is None
            assert sink.words(1) == [5]
            assert sink.unknown() == [2]

    run(check)


def test_the_identity_is_read_once_and_told_when_it_changes() -> None:
    async def check() -> None:
        device = Registers(holding={10: 5, **dict(enumerate(struct.unpack(">4H", b"AB1234\0\0"), 100)), 104: 0x0102})
        profile = profile_of(
            ("power_w", 10),
            identity={
                "serial": TextRegister("holding", 100, 4),
                "firmware": Register("holding", 104, "uint16"),
                "model": TextRegister("holding", 300, 4),
            },
        )
        sink = RecordingSink()
        async with Peer({1: device}).serve() as peer, opened(poller_of(peer.url, device_of(profile))) as poller:
            await poll(poller, sink)
            (event,) = sink.events
            assert (event.kind, event.subject) == ("device.identity", "d1")
            assert event.data == {"serial": "AB1234", "firmware": 0x0102}, "the model is refused"
            questions = len(peer.asked)
            await poll(poller, sink)
            assert len(peer.asked) == questions + 1
            poller.units[0].forget()
            await poll(poller, sink)
            assert len(sink.events) == 1
            device.holding[104] = 0x0103
            poller.units[0].forget()
            await poll(poller, sink)
            assert sink.events[1].data["firmware"] == 0x0103

    run(check)


@BOTH
def test_an_answer_in_pieces_is_an_answer(scheme: Scheme) -> None:
    async def check() -> None:
        device = Registers(holding={address: address * 3 for address in range(30)})

        def bit_by_bit(asked: Asked, pdu: bytes) -> Said:
            frame = asked.frame(pdu)
            return [(0.0001 * place, frame[place : place + 1]) for place in range(len(frame))]

        peer = Peer({1: device}, scheme, hook=bit_by_bit)
        sink = RecordingSink()
        async with (
            peer.serve(),
            opened(
                poller_of(peer.url, device_of(profile_of(("power_w", 10), ("current_a", 12)), timeout_s=5))
            ) as poller,
        ):
            assert await poll(poller, sink) is None
            assert sink.words(1) + sink.words(2) == [30, 36]

    run(check)


@BOTH
@pytest.mark.parametrize("lateness", [0.5, 1.0, 2.0, 3.0])
def test_a_late_answer_is_never_taken_for_the_next_one_s(scheme: Scheme, lateness: float) -> None:
    """Each answer carries the number of its question: whatever is published must be that of the question before."""

    async def check() -> None:
        device = Registers(holding=dict.fromkeys(range(40), 0))
        late_s = 0.0

        def hook(asked: Asked, pdu: bytes) -> Said:
            number = len(peer.asked) & 0xFFFF
            size = len(pdu) // 2 - 1
            fresh = pdu[:2] + struct.pack(f">{size}H", *([number] * size)) if pdu[0] == 3 else pdu
            return [(late_s, asked.frame(fresh))]

        peer = Peer({1: device, 2: device}, scheme, hook=hook)
        points = [("power_w", 10), ("current_a", 12), ("voltage_v", 14)]
        sink = RecordingSink()
        random = Random(1)  # noqa: S311 - no secrets
        good = missed = 0
        async with (
            peer.serve(),
            opened(
                poller_of(
                    peer.url,
                    device_of(profile_of(*points), timeout_s=SHORT_S),
                    device_of(profile_of(("power_w", 20)), 2, timeout_s=SHORT_S),
                )
            ) as poller,
        ):
            for number in range(30):
                late_s = SHORT_S * (1 + lateness) if number < 20 and random.random() < 0.4 else 0.0
                unit = random.randrange(2)
                sink.rows.clear()
                if await poll(poller, sink, unit) is None:
                    good += 1
                    words = {word for _, _, word, _ in sink.rows}
                    assert words == {len(peer.asked) & 0xFFFF}, "an older answer was published"
                else:
                    missed += 1
                    assert not sink.rows
            await asyncio.sleep(SHORT_S * (1 + lateness))
            late_s = 0.0
            for unit in (0, 1):
                poller.units[unit].forget()
                assert await poll(poller, sink, unit) is None, "recovers"
            assert good
            assert missed

    run(check)


def test_a_unit_with_unanswered_questions_is_sounded_first() -> None:
    async def check() -> None:
        device = Registers(holding=dict.fromkeys(range(40), 7))
        mute = True
        peer = Peer({1: device}, "rtu+tcp", hook=lambda asked, pdu: [] if mute else [(0, asked.frame(pdu))])
        sink = RecordingSink()
        async with (
            peer.serve(),
            opened(poller_of(peer.url, device_of(profile_of(("power_w", 10), ("voltage_v", 12))))) as poller,
        ):
            assert type(await poll(poller, sink)) is NoAnswer
            assert type(await poll(poller, sink)) is NoAnswer
            mute = False
            assert await poll(poller, sink) is None
            counts = [struct.unpack(">H", asked.pdu[3:5])[0] for asked in peer.asked]
            assert counts == [3, 2, 1, 3], "each question's answer has another length until one has come"
            assert await poll(poller, sink) is None
            assert len(peer.asked) == 5

    run(check)


def test_a_unit_that_can_not_be_sounded_is_left_alone() -> None:
    async def check() -> None:
        peer = Peer({1: Registers(holding={10: 7})}, "rtu+tcp", hook=lambda asked, pdu: [])
        clock = SystemClock()
        async with peer.serve():
            link = Link(peer.url, clock)
            await link.open()
            asker = Asker(link, clock, 1, 0.02, spans=lambda: [Span("holding", 10, 1)])
            for _ in range(12):
                with pytest.raises(NoAnswer):
                    await asker.read(Span("holding", 10, 1))
            assert len(peer.asked) == 5, "one register, and up to four beyond; then none is safe"
            await link.close()

    run(check)


@BOTH
def test_a_lost_connection_ends_the_question_at_once(scheme: Scheme) -> None:
    async def check() -> None:
        device = Registers(holding={10: 7})
        ways: list[Said] = [None, [(0, b"\0\1\0\0")]]
        for way in ways:
            peer = Peer({1: device}, scheme, hook=lambda asked, pdu, way=way: way)  # type: ignore[misc]
            async with (
                peer.serve(),
                opened(poller_of(peer.url, device_of(profile_of(("power_w", 10)), timeout_s=30))) as poller,
            ):
                task = asyncio.ensure_future(poll(poller, RecordingSink()))
                if way is not None:
                    while not peer.asked:  # noqa: ASYNC110 - a test may wait so
                        await asyncio.sleep(0.001)
                    await asyncio.sleep(0.01)
                    peer.cut()
                error = await asyncio.wait_for(task, 25)
                assert type(error) is NoAnswer, "one of several units may be to blame"
                assert error.hint

    run(check)


@BOTH
def test_a_device_that_closes_unused_connections_is_read_all_the_same(scheme: Scheme) -> None:
    async def check() -> None:
        device = Registers(holding={10: 7})
        peer = Peer({1: device}, scheme, only_one=True)
        sink = RecordingSink()
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile_of(("power_w", 10))))) as poller:
            for value in (7, 8, 9):
                device.holding[10] = value
                assert await poll(poller, sink) is None
                await cut(peer, poller)
            assert sink.words(1) == [7, 8, 9]
            assert sink.counts["reopened"] == 2
        assert (peer.most, peer.refused) == (1, 0)

    run(check)


def test_a_connection_that_was_closed_and_cannot_be_opened_again_is_lost() -> None:
    async def check() -> None:
        async with AsyncExitStack() as served:
            peer = await served.enter_async_context(Peer({1: Registers(holding={10: 7})}).serve())
            async with opened(poller_of(peer.url, device_of(profile_of(("power_w", 10))))) as poller:
                assert await poll(poller, RecordingSink()) is None
                await cut(peer, poller)
                await served.aclose()
                assert type(await poll(poller, RecordingSink())) is Unavailable

    run(check)


@pytest.mark.announced_warnings  # the polling says that one is silent
def test_a_gateway_that_hangs_up_over_one_unit_is_asked_for_the_others() -> None:
    async def check() -> None:
        one, two = Registers(holding={10: 7}), Registers(holding={10: 0})

        def hook(asked: Asked, pdu: bytes) -> Said:
            two.holding[10] += 1
            return None if asked.unit == 1 else [(0, asked.frame(pdu))]

        peer = Peer({1: one, 2: two}, hook=hook)
        sink = RecordingSink()
        profile = profile_of(("power_w", 10))
        async with peer.serve():
            listener = PollListener(poller_of(peer.url, device_of(profile), device_of(profile, 2)), SystemClock())
            running = asyncio.ensure_future(listener.run(sink))
            while not ([event for event in sink.events if event.kind == "device.silent"] and len(sink.words(2)) > 20):
                assert not running.done(), "the wire stands"
                await asyncio.sleep(0.005)
            first, second = listener.unit_states()
            assert (first.state, second.state) == (Health.OFFLINE, Health.ONLINE)
            assert second.misses == 0
            assert peer.opened > 3, "it hung up each time"
            running.cancel()
            await asyncio.wait({running})

    run(check)


def test_half_closed_connections_are_closed() -> None:
    async def check() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write_eof()  # it says nothing any more, but listens
            while await reader.read(100):
                pass
            writer.close()
            ended.set()

        ended = asyncio.Event()
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        url = ModbusUrl("tcp", "127.0.0.1", server.sockets[0].getsockname()[1])
        async with opened(poller_of(url, device_of(profile_of(("power_w", 10)), timeout_s=30))) as poller:
            assert type(await asyncio.wait_for(poll(poller, RecordingSink()), 25)) is NoAnswer
            await asyncio.wait_for(ended.wait(), 25)
        server.close()

    run(check)


@pytest.mark.announced_warnings  # the supervision says that the wire went
def test_a_device_that_takes_one_connection_never_sees_two() -> None:
    async def check() -> None:
        device = Registers(holding={10: 7})
        silent = 0

        def hook(asked: Asked, pdu: bytes) -> Said:
            return [] if silent == 1 else None if silent == 2 else [(0, asked.frame(pdu))]

        peer = Peer({1: device}, hook=hook, only_one=True)
        sink = RecordingSink()
        async with peer.serve():
            poller = poller_of(peer.url, device_of(profile_of(("power_w", 10)), timeout_s=0.05))
            for silent in (0, 1, 2, 0, 2, 1, 0):
                listener = PollListener(poller, SystemClock())
                task = asyncio.ensure_future(listener.run(sink))
                if silent:
                    with pytest.raises(Unavailable):
                        await asyncio.wait_for(task, 25)
                else:
                    sink.rows.clear()
                    while not sink.words(1):  # noqa: ASYNC110 - a test may wait so
                        await asyncio.sleep(0.005)
                    task.cancel()
                    await asyncio.wait({task}, timeout=60)
            assert (peer.most, peer.refused) == (1, 0)
            assert peer.opened == 11, "one that hangs up is given three questions"

    run(check)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("tcp://127.0.0.1:1", "open tcp://127.0.0.1:1"),
        ("rtu+tcp://127.0.0.1:1", "Modbus is switched on"),
        ("tcp://no-such-host.invalid", "host name"),
        ("rtu:///dev/no-such-tty", "there is no such port"),
        ("rtu:///dev/null", "open /dev/null"),
    ],
)
def test_a_failed_open_says_why(url: str, text: str) -> None:
    async def check() -> None:
        poller = poller_of(ModbusUrl.parse(url), device_of(profile_of(("power_w", 10))))
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                await poller.open()
            assert text in str(caught.value)
            assert caught.value.hint
            await poller.close()
        error = await poll(poller, RecordingSink())
        assert type(error) is Unavailable

    run(check)


@pytest.mark.parametrize("echo", [False, True], ids=["", "echo"])
def test_units_on_a_serial_line(echo: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async def check() -> None:
        one, two = Registers(holding={10: 7, 11: 8}), Registers(input={5: 9}, coil={0: 1})
        peer = SerialPeer({1: one, 2: two}, echo=echo)
        other = ModbusProfile(
            "other",
            (
                ModbusPoint("power_w", Register("input", 5, "uint16")),
                ModbusPoint("plugged", Register("coil", 0, "bit")),
            ),
        )
        sink = RecordingSink()
        async with peer.serve():
            devices = [
                device_of(profile_of(("power_w", 10), ("current_a", 11))),
                device_of(other, 2),
                device_of(profile_of(("power_w", 1)), 3),
            ]
            async with opened(poller_of(peer.url, *devices)) as poller:
                for _ in range(3):
                    assert await poll(poller, sink, 0) is None
                    assert await poll(poller, sink, 1) is None
                assert [sink.words(signal) for signal in (1, 2, 3, 4)] == [[7], [8], [9], [1]]
                assert type(await poll(poller, sink, 2)) is NoAnswer
                assert await poll(poller, sink, 1) is None
                peer.unplug()
                error = await poll(poller, sink, 0)
                assert isinstance(error, Unavailable)
                assert not isinstance(error, NoAnswer)

    run(check)


@pytest.mark.parametrize("framing", [{"parity": "E"}, {"parity": "O", "stopbits": 2}, {"bytesize": 7}], ids=str)
def test_a_pseudo_terminal_is_read_whatever_the_framing_of_the_line_behind_it(framing: dict[str, Any]) -> None:
    async def check() -> None:
        peer = SerialPeer({1: Registers(holding={10: 7})})
        sink = RecordingSink()
        url = replace(peer.url, **framing)
        async with peer.serve(), opened(poller_of(url, device_of(profile_of(("power_w", 10))))) as poller:
            assert await poll(poller, sink) is None
        assert sink.words(1) == [7]

    run(check)


def test_what_is_no_serial_port_is_said_to_be_none(tmp_path: Path) -> None:
    async def check() -> None:
        (tmp_path / "file").touch()
        poller = poller_of(ModbusUrl("rtu", str(tmp_path / "file")), device_of(profile_of(("power_w", 10))))
        with pytest.raises(Unavailable, match="this is no serial port"):
            await poller.open()

    run(check)


def test_a_port_that_is_open_elsewhere_is_said_to_be() -> None:
    async def check() -> None:
        peer = SerialPeer({1: Registers(holding={10: 7})})
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile_of(("power_w", 10))))):
            again = poller_of(peer.url, device_of(profile_of(("power_w", 10))))
            with pytest.raises(Unavailable, match="another program"):
                await again.open()

    run(check)


def test_a_flood_is_no_answer() -> None:
    async def check() -> None:
        peer = Peer({1: Registers(holding={10: 7})}, hook=lambda asked, pdu: [(0, b"\xff" * 5000)])
        sink = RecordingSink()
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile_of(("power_w", 10))))) as poller:
            assert isinstance(await poll(poller, sink), BadData)
            assert sink.counts["bad.too_long"] == 1
            peer.hook = None
            assert await poll(poller, sink) is None
            assert sink.words(1) == [7]

    run(check)


def test_slow_points_have_a_round_of_their_own() -> None:
    async def check() -> None:
        device = Registers(holding={10: 7, 50: 8})
        profile = ModbusProfile(
            "test",
            (
                ModbusPoint("power_w", Register("holding", 10, "uint16")),
                ModbusPoint("energy_import_wh", Register("holding", 50, "uint16"), every_s=60),
            ),
        )
        sink = RecordingSink()
        async with Peer({1: device}).serve() as peer, opened(poller_of(peer.url, device_of(profile))) as poller:
            assert [job.every_s for job in poller.units[0].jobs] == [0.05, 60]
            assert poller.units[0].jobs is poller.units[0].jobs
            await poll(poller, sink)
            assert not sink.words(2)
            await poll(poller, sink, job=1)
            assert sink.words(2) == [8]

    run(check)
