"""Commands to Modbus devices: set-up, heartbeat, repeating, and setting again after the device was away."""

import asyncio

import pytest

from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected, NoAnswer, Refusal
from drivers.codec.registers import Register
from drivers.modbus import command
from drivers.modbus.asker import Asker
from drivers.modbus.command import Commander
from drivers.modbus.link import Link
from drivers.modbus.model import ModbusPoint, ModbusProfile, ModbusSetting, ModbusWrite
from tests.modbus_frames import Registers
from tests.modbus_peer import Asked, Peer, Said, cut, device_of, opened, poll, poller_of, run
from tests.sinks import RecordingSink

LIMIT = Register("holding", 5, "uint16")
SETTING = ModbusSetting(
    "current_limit_a", LIMIT, 6, 32, scale=0.1, refresh_s=20, read_back=ModbusPoint("current_limit_a", LIMIT, 0.1)
)
POWER = ModbusPoint("power_w", Register("holding", 10, "uint16"))
PROFILE = ModbusProfile(
    "charger",
    (POWER,),
    (SETTING,),
    setup=(ModbusWrite(Register("holding", 20, "uint16"), 30), ModbusWrite(Register("holding", 21, "int32"), -1)),
    heartbeat=ModbusWrite(Register("holding", 30, "uint16"), 1, "single"),
    heartbeat_s=5,
)
SETUP = [(16, 20, (30,)), (16, 21, (0xFFFF, 0xFFFF)), (6, 30, (1,))]


def charger() -> Registers:
    return Registers(holding={5: 0, 10: 100, 20: 0, 21: 0, 22: 0, 30: 0})


def test_the_setup_stands_before_the_first_command_and_the_heartbeat_begins_with_it() -> None:
    async def check() -> None:
        device = charger()
        async with Peer({1: device}).serve() as peer, opened(poller_of(peer.url, device_of(PROFILE))) as poller:
            sink = RecordingSink()
            unit = poller.units[0]
            assert len(unit.jobs) == 1
            await poll(poller, sink)
            assert device.writes == []
            outlet = poller.commandables["d1"]
            await outlet.set("current_limit_a", 16)
            assert device.writes == [*SETUP, (16, 5, (160,))]
            assert [job.every_s for job in unit.jobs] == [0.05, 5, 20]
            await outlet.set("current_limit_a", 10)
            assert device.writes[4:] == [(16, 5, (100,))]
            device.writes.clear()
            await poll(poller, sink, job=1)
            assert device.writes == [(6, 30, (1,))]
            await poll(poller, sink, job=2)
            assert device.writes[1:] == [(16, 5, (100,))]
            outlet.release()
            assert [job.every_s for job in unit.jobs] == [0.05]
            device.writes.clear()
            await poll(poller, sink)
            assert device.writes == []
            await outlet.set("current_limit_a", 8)
            assert device.writes[:3] == SETUP, "after a release it is begun anew"

    run(check)


def test_what_was_set_is_set_again_after_the_device_was_away() -> None:
    async def check() -> None:
        device = charger()
        async with Peer({1: device}).serve() as peer, opened(poller_of(peer.url, device_of(PROFILE))) as poller:
            sink = RecordingSink()
            await poller.commandables["d1"].set("current_limit_a", 16)
            device.holding = charger().holding  # it was without power
            device.writes.clear()
            poller.units[0].forget()
            await poll(poller, sink)
            assert device.writes == [*SETUP, (16, 5, (160,))]
            await poll(poller, sink)
            assert len(device.writes) == 4, "once"
            assert not sink.events

    run(check)


def test_what_was_set_is_set_again_once_where_the_device_closes_its_connections() -> None:
    async def check() -> None:
        device = charger()
        peer = Peer({1: device})
        async with peer.serve(), opened(poller_of(peer.url, device_of(PROFILE))) as poller:
            sink = RecordingSink()
            await poller.commandables["d1"].set("current_limit_a", 16)
            written = []
            for _ in range(3):
                device.writes.clear()
                await cut(peer, poller)
                assert await poll(poller, sink) is None
                written.append(list(device.writes))
            assert written == [[*SETUP, (16, 5, (160,))], [], []], "it may have restarted, but does not each time"
            assert not sink.events

    run(check)


def test_a_device_that_answers_to_reading_only_after_it_was_away_is_read_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "RESTORE_S", 0.0)

    async def check() -> None:
        device = charger()

        def hook(asked: Asked, pdu: bytes) -> Said:
            return [] if asked.pdu[0] in {6, 16} and deaf else [(0, asked.frame(pdu))]

        deaf = False
        peer = Peer({1: device}, hook=hook)
        profile = ModbusProfile("charger", (POWER,), (SETTING,))
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile))) as poller:
            sink = RecordingSink()
            await poller.commandables["d1"].set("current_limit_a", 16)
            deaf = True
            poller.units[0].forget()
            assert await poll(poller, sink) is None
            assert await poll(poller, sink) is None
            (event,) = sink.events
            assert (event.kind, event.data["what"]) == ("device.refuses", "settings")
            deaf = False
            device.writes.clear()
            assert await poll(poller, sink) is None
            assert await poll(poller, sink) is None
            assert device.writes == [(16, 5, (160,))], "once"

    run(check)


def test_reading_has_its_turn_where_repeating_has_no_answer() -> None:
    async def check() -> None:
        clock = FakeClock()
        device = charger()

        def hook(asked: Asked, pdu: bytes) -> Said:
            return [] if asked.pdu[0] in {6, 16} and deaf else [(0, asked.frame(pdu))]

        deaf = False
        peer = Peer({1: device}, hook=hook)
        async with peer.serve():
            link = Link(peer.url, clock)
            await link.open()
            commander = Commander("d1", PROFILE, Asker(link, clock, 1, 1.0), clock)
            sink = RecordingSink()
            await commander.set("current_limit_a", 16)
            deaf = True
            clock.advance(20)
            for _ in range(2):
                with pytest.raises(NoAnswer):
                    await commander.catch_up(sink)
                asked = len(peer.asked)
                await commander.catch_up(sink)
                assert len(peer.asked) == asked
            await link.close()

    run(check)


def test_what_the_device_does_not_take_again_is_told_and_repeated_no_longer() -> None:
    async def check() -> None:
        device = charger()
        async with Peer({1: device}).serve() as peer, opened(poller_of(peer.url, device_of(PROFILE))) as poller:
            sink = RecordingSink()
            await poller.commandables["d1"].set("current_limit_a", 16)
            del device.holding[5]
            poller.units[0].forget()
            assert await poll(poller, sink) is None
            (event,) = sink.events
            assert (event.kind, event.subject) == ("device.refuses", "d1")
            assert event.data["what"] == "current_limit_a"
            await poll(poller, sink)
            assert len(sink.events) == 1

    run(check)


def test_a_refused_repetition_is_told_once() -> None:
    async def check() -> None:
        device = charger()
        async with Peer({1: device}).serve() as peer, opened(poller_of(peer.url, device_of(PROFILE))) as poller:
            sink = RecordingSink()
            await poller.commandables["d1"].set("current_limit_a", 16)
            limit = device.holding.pop(5)
            for _ in range(3):
                assert await poll(poller, sink, job=2) is None
            assert [event.data["what"] for event in sink.events] == ["current_limit_a"]
            device.holding[5] = limit
            await poll(poller, sink, job=2)
            del device.holding[5]
            await poll(poller, sink, job=2)
            assert len(sink.events) == 2, "it had been accepted in between"

    run(check)


def test_repeating_goes_on_while_reading_fails() -> None:
    """A silent unit is only probed, by its first job: that one does what the others should have done."""

    async def check() -> None:
        device = charger()
        clock = FakeClock()

        def hook(asked: Asked, pdu: bytes) -> Said:
            return [] if asked.pdu[0] == 3 and reading_fails else [(0, asked.frame(pdu))]

        reading_fails = False
        peer = Peer({1: device}, hook=hook)
        async with peer.serve():
            link = Link(peer.url, clock)
            await link.open()
            commander = Commander("d1", PROFILE, Asker(link, clock, 1, 0.1), clock)
            sink = RecordingSink()
            await commander.set("current_limit_a", 16)
            reading_fails = True
            commander.forget()
            device.writes.clear()
            await commander.catch_up(sink)
            assert device.writes == []
            clock.advance(6.5)
            await commander.catch_up(sink)
            assert device.writes == [(6, 30, (1,))]
            clock.advance(18)
            await commander.catch_up(sink)
            assert device.writes[1:] == [(6, 30, (1,)), (16, 5, (160,))]
            await link.close()

    run(check)


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        (
            ModbusSetting("phases", LIMIT, 1, 3, values={1: 7, 3: 9}, read_back=ModbusPoint("phases", LIMIT)),
            3,
            (16, 5, (9,)),
        ),
        (
            ModbusSetting("power_limit_w", Register("holding", 21, "int32", "little"), -5000, 0),
            -2,
            (16, 21, (0xFFFE, 0xFFFF)),
        ),
        (ModbusSetting("current_limit_a", Register("holding", 21, "float32"), 0, 32), 16.5, (16, 21, (0x4184, 0))),
        (ModbusSetting("current_limit_a", LIMIT, 0, 32, function="single"), 16, (6, 5, (16,))),
        (ModbusSetting("charging_enabled", Register("coil", 3, "bit"), 0, 1), 1, (15, 3, (1,))),
        (ModbusSetting("charging_enabled", Register("coil", 3, "bit"), 0, 1, function="single"), 1, (5, 3, (1,))),
    ],
    ids=["values", "int32", "float32", "single", "coils", "coil"],
)
def test_each_way_to_write(setting: ModbusSetting, value: float, expected: tuple[int, int, tuple[int, ...]]) -> None:
    async def check() -> None:
        device = charger()
        device.coil[3] = 0
        profile = ModbusProfile("charger", (POWER,), (setting,))
        async with Peer({1: device}).serve() as peer, opened(poller_of(peer.url, device_of(profile))) as poller:
            assert await poller.commandables["d1"].set(setting.point, value) == value
            assert device.writes == [expected]

    run(check)


def test_a_device_may_need_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "READ_BACK_PAUSE_S", 0.01)

    async def check() -> None:
        device = charger()
        reads = 0

        def hook(asked: Asked, pdu: bytes) -> Said:
            nonlocal reads
            reads += asked.pdu[0] == 3
            return [(0, asked.frame(b"\x03\x02\0\0" if reads < 3 and asked.pdu[0] == 3 else pdu))]

        async with (
            Peer({1: device}, hook=hook).serve() as peer,
            opened(poller_of(peer.url, device_of(PROFILE))) as poller,
        ):
            assert await poller.commandables["d1"].set("current_limit_a", 16) == 16
            assert reads == 3

    run(check)


@pytest.mark.parametrize(("code", "refusal"), [(6, Refusal.DEVICE_REFUSED), (4, Refusal.DEVICE_REFUSED), (11, None)])
def test_exceptions_of_writes(code: int, refusal: Refusal | None) -> None:
    async def check() -> None:
        def hook(asked: Asked, right: bytes) -> Said:
            return [(0, asked.frame(bytes((0x90, code)) if asked.pdu[0] == 16 else right))]

        peer = Peer({1: charger()}, hook=hook)
        profile = ModbusProfile("charger", (POWER,), (SETTING,))
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile))) as poller:
            if refusal is None:
                with pytest.raises(NoAnswer):
                    await poller.commandables["d1"].set("current_limit_a", 16)
            else:
                with pytest.raises(CommandRejected) as caught:
                    await poller.commandables["d1"].set("current_limit_a", 16)
                assert caught.value.refusal is refusal

    run(check)


def test_a_device_that_says_it_will_do_it_is_believed_when_it_did() -> None:
    async def check() -> None:
        def hook(asked: Asked, right: bytes) -> Said:
            return [(0, asked.frame(b"\x90\x05" if asked.pdu[0] == 16 else right))]

        profile = ModbusProfile("charger", (POWER,), (SETTING,))
        peer = Peer({1: charger()}, hook=hook)
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile))) as poller:
            assert await poller.commandables["d1"].set("current_limit_a", 16) == 16

    run(check)


def test_a_command_waits_for_one_question_at_most() -> None:
    async def check() -> None:
        device = charger()
        device.holding |= dict.fromkeys(range(100, 400), 1)
        points = tuple(
            ModbusPoint(f"string_voltage_v.{number}", Register("holding", 90 + 20 * number, "uint16"))
            for number in range(1, 15)
        )
        profile = ModbusProfile("charger", points, (SETTING,), max_gap=0)
        peer = Peer({1: device}, hook=lambda asked, pdu: [(0.01, asked.frame(pdu))])
        async with peer.serve(), opened(poller_of(peer.url, device_of(profile, timeout_s=5))) as poller:
            polling = asyncio.ensure_future(poll(poller, RecordingSink()))
            while len(peer.asked) < 3:  # noqa: ASYNC110 - a test may wait so
                await asyncio.sleep(0.001)
            await poller.commandables["d1"].set("current_limit_a", 16)
            assert [asked.pdu[0] for asked in peer.asked].index(16) <= 4
            assert await polling is None
            assert len(peer.asked) == len(points) + 2, "nothing is left out for it"

    run(check)
