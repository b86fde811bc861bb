"""A device without a profile describes itself: discovered at its first poll, read at once, and anew when it is back."""

import struct

import pytest

from agent.core.errors import BadData, NoAnswer, StoreError, Unsupported
from tests.modbus_frames import Registers
from tests.modbus_peer import Asked, Peer, Said, device_of, opened, poll, poller_of, run
from tests.sinks import FIRST_DECLARED, RecordingSink

BASE = 40000


def text(value: str, count: int) -> list[int]:
    return list(struct.unpack(f">{count}H", value.encode().ljust(2 * count, b"\0")))


def inverter(power: int, exponent: int, serial: str = "S1") -> Registers:
    """Models 1 and 101 (single phase inverter) of the public SunSpec definitions; only W and its factor are there."""
    one = [1, 66, *text("Acme", 16), *text("I1", 16), *text("", 8), *text("1.0", 8), *text(serial, 16), 1, 0x8000]
    body = [0xFFFF] * 50
    body[12], body[13] = power & 0xFFFF, exponent & 0xFFFF  # W, W_SF
    words = [0x5375, 0x6E53, *one, 101, 50, *body, 0xFFFF, 0]
    return Registers(holding=dict(enumerate(words, BASE)))


def test_it_is_discovered_and_read() -> None:
    async def check() -> None:
        peer = Peer({1: inverter(523, 1)})
        sink = RecordingSink()
        async with peer.serve(), opened(poller_of(peer.url, device_of(None))) as poller:
            unit = poller.units[0]
            assert list(unit.signals) == []
            assert await poll(poller, sink) is None
            assert set(unit.signals) == {FIRST_DECLARED + number for number in range(len(sink.declared))}
            assert sink.values()["d1.power_w"] == -5230, "what an inverter gives is negative"
            assert [event.kind for event in sink.events] == ["device.identity"]
            assert sink.events[0].data["serial"] == "S1"
            asked = len(peer.asked)
            peer.units = {1: inverter(600, 0)}
            assert await poll(poller, sink) is None
            assert len(peer.asked) <= asked + 2, "not discovered again"
            assert sink.values()["d1.power_w"] == -600
            numbers = list(unit.signals)
            unit.forget()
            peer.units = {1: inverter(7, 2, "S2")}
            assert await poll(poller, sink) is None
            assert list(unit.signals) == numbers, "the same meaning has the same number"
            assert sink.values()["d1.power_w"] == -700
            assert [event.data["serial"] for event in sink.events] == ["S1", "S2"]

    run(check)


def test_what_does_not_speak_sunspec_never_will() -> None:
    async def check() -> None:
        peer = Peer({1: Registers(holding={0: 5})})
        async with peer.serve(), opened(poller_of(peer.url, device_of(None))) as poller:
            assert type(await poll(poller, RecordingSink())) is Unsupported
            peer.units = {}
            assert type(await poll(poller, RecordingSink())) is NoAnswer

    run(check)


def test_who_spoke_it_once_may_be_starting() -> None:
    async def check() -> None:
        peer = Peer({1: inverter(523, 1)})
        async with peer.serve(), opened(poller_of(peer.url, device_of(None))) as poller:
            assert await poll(poller, RecordingSink()) is None
            poller.units[0].forget()
            peer.units = {1: Registers(holding={0: 5})}
            assert type(await poll(poller, RecordingSink())) is BadData
            peer.units = {1: inverter(523, 1)}
            assert await poll(poller, RecordingSink()) is None

    run(check)


@pytest.mark.parametrize("code", [4, 6, 11])
def test_a_device_in_trouble_is_asked_again(code: int) -> None:
    async def check() -> None:
        def hook(asked: Asked, pdu: bytes) -> Said:
            return [(0, asked.frame(bytes((0x83, code)) if failing else pdu))]

        failing = True
        peer = Peer({1: inverter(523, 1)}, hook=hook)
        async with peer.serve(), opened(poller_of(peer.url, device_of(None))) as poller:
            assert type(await poll(poller, RecordingSink())) is NoAnswer
            failing = False
            assert await poll(poller, RecordingSink()) is None

    run(check)


def test_a_full_store_is_tried_again() -> None:
    class Full(RecordingSink):
        async def declare(self, specs: object) -> list[int]:
            raise StoreError("declare", "disk full")

    async def check() -> None:
        peer = Peer({1: inverter(523, 1)})
        async with peer.serve(), opened(poller_of(peer.url, device_of(None))) as poller:
            with pytest.raises(StoreError):
                await poll(poller, Full())
            sink = RecordingSink()
            assert await poll(poller, sink) is None
            assert sink.values()["d1.power_w"] == -5230

    run(check)
