"""A device that answers wrongly in each way (F6), over real connections: no wrong value is ever published.

Each answer carries the number of its question, so that a value which was sent for an earlier question is a wrong one
too.
"""

import asyncio
import struct
from array import array
from random import Random

import pytest

from agent.core.errors import DeviceError
from agent.core.model import Batch
from drivers.codec.registers import Register
from drivers.modbus.model import ModbusPoint, ModbusProfile
from tests.modbus_frames import KINDS, Registers, mangled
from tests.modbus_peer import Asked, Peer, Said, Scheme, device_of, opened, poller_of
from tests.sinks import RecordingSink

TIMEOUT_S = 0.008
#: So that the numbers of 65,536 questions fit into each register.
PROFILE = ModbusProfile(
    "fuzzed",
    (
        *(
            ModbusPoint(f"string_voltage_v.{number}", Register("holding", 10 + number, "uint16"))
            for number in range(1, 8)
        ),
        ModbusPoint("power_w", Register("input", 5, "uint32")),
        ModbusPoint("temperature_degc", Register("input", 7, "uint16")),
    ),
)


class Fuzzer:
    """Answers in a random one of the ways, most often wrongly, sometimes late, in random pieces."""

    def __init__(self, scheme: Scheme, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - no secrets
        self.asked = 0
        self.peer = Peer({1: Registers()}, scheme, hook=self._hook)

    @property
    def number(self) -> int:
        """What each register of a right answer to the newest question holds."""
        return self.asked & 0xFFFF

    def _hook(self, asked: Asked, pdu: bytes) -> Said:
        self.asked += 1
        random = self._random
        (count,) = struct.unpack(">H", asked.pdu[3:5])
        right = struct.pack(f">BB{count}H", asked.pdu[0], 2 * count, *[self.number] * count)
        kind = random.choice((*KINDS, *["right"] * 12, "late", "cut"))
        if kind == "cut" and random.random() < 0.9:
            kind = "right"
        if kind == "cut":
            return None
        data = asked.frame(right)
        if kind not in {"right", "late"}:
            data, _ = mangled(kind, random, asked.unit, right, asked.tid)
        late_s = TIMEOUT_S * random.uniform(0.5, 3) if kind == "late" else 0.0
        if kind != "late" and random.random() < 0.2:
            cut = random.randrange(len(data) + 1)
            return [(0, data[:cut]), (random.choice([0, TIMEOUT_S / 4]), data[cut:])]
        return [(late_s, data)]


class Judge(RecordingSink):
    """Counts published words that are not those of the question that was just asked."""

    def __init__(self, fuzzer: Fuzzer) -> None:
        super().__init__()
        self._fuzzer = fuzzer
        self.right = 0
        self.wrong = 0

    def put(self, batch: Batch) -> None:
        if batch.valid:
            number = self._fuzzer.number
            for word in array("q", batch.words):
                good = word in {number, number << 16 | number}
                self.right += good
                self.wrong += not good

    def touch(self, ids: object) -> None:
        self.wrong += 1  # the number changes with each question


async def fuzz(scheme: Scheme, polls: int, seed: int) -> Judge:
    fuzzer = Fuzzer(scheme, seed)
    judge = Judge(fuzzer)
    async with fuzzer.peer.serve():
        poller = poller_of(fuzzer.peer.url, device_of(PROFILE, timeout_s=TIMEOUT_S))
        async with opened(poller):
            for _ in range(polls):
                try:
                    await poller.units[0].jobs[0].run(judge)
                except DeviceError:
                    if not poller._link._client or not poller._link._client.connected:
                        await poller.close()
                        await poller.open()
                        poller.units[0].forget()
    return judge


@pytest.mark.parametrize("scheme", ["tcp", "rtu+tcp"])
def test_no_wrong_value_is_published(scheme: Scheme) -> None:
    judge = asyncio.run(fuzz(scheme, 600, 1))
    assert judge.wrong == 0
    assert judge.right > 300
    kinds = {name for name in judge.counts if name.startswith("bad.")}
    if scheme == "tcp":
        assert kinds >= {
            "bad.wrong_unit",
            "bad.wrong_function",
            "bad.wrong_count",
            "bad.too_short",
            "bad.too_long",
            "bad.wrong_transaction",
            "bad.wrong_protocol",
        }
    else:
        assert kinds >= {"bad.wrong_unit", "bad.wrong_function", "bad.wrong_count", "bad.too_short", "bad.checksum"}
    assert judge.counts["no_answer"]
    assert any(name.startswith("exception.") for name in judge.counts)


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["tcp", "rtu+tcp"])
def test_no_wrong_value_is_published_in_30_000_polls(scheme: Scheme) -> None:
    judge = asyncio.run(fuzz(scheme, 30_000, 2))
    assert judge.wrong == 0
    assert judge.right > 10_000
