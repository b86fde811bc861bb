"""Modbus frames as devices send them, right and wrong: written from the standards, without the code under test."""

import struct
from dataclasses import dataclass, field
from random import Random

#: Ways in which an answer goes wrong (F6), for ``mangled``.
KINDS = (
    "silence",
    "exception",
    "wrong_unit",
    "wrong_transaction",
    "wrong_protocol",
    "wrong_function",
    "short_count",
    "long_count",
    "truncated",
    "garbled",
    "noise_before",
    "noise_behind",
    "only_noise",
    "shorter_data",
    "longer_data",
    "twice",
    "wrong_length_field",
    "another_s_answer",
    "empty_pdu",
)


def crc(data: bytes) -> bytes:
    """The CRC of an RTU frame, low byte first (Modbus over Serial Line V1.02, 2.5.1.2)."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value.to_bytes(2, "little")


def rtu(unit: int, pdu: bytes) -> bytes:
    """An RTU frame."""
    body = bytes((unit,)) + pdu
    return body + crc(body)


def mbap(tid: int, unit: int, pdu: bytes, protocol: int = 0, length: int | None = None) -> bytes:
    """A MBAP frame (Modbus Messaging on TCP/IP V1.0b, 3.1.3)."""
    return struct.pack(">HHHB", tid, protocol, len(pdu) + 1 if length is None else length, unit) + pdu


@dataclass
class Registers:
    """A device's memory, and what it answers (Modbus Application Protocol V1.1b3). ``lacks``: (table, address)."""

    holding: dict[int, int] = field(default_factory=dict)
    input: dict[int, int] = field(default_factory=dict)
    coil: dict[int, int] = field(default_factory=dict)
    discrete: dict[int, int] = field(default_factory=dict)
    writes: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)  #: function, address, words

    def answer(self, pdu: bytes) -> bytes:
        """The PDU of the answer."""
        function, address = struct.unpack(">BH", pdu[:3])
        table = {1: self.coil, 2: self.discrete, 3: self.holding, 4: self.input, 5: self.coil, 6: self.holding}.get(
            function, self.coil if function == 15 else self.holding
        )
        if function in {1, 2, 3, 4}:
            count = struct.unpack(">H", pdu[3:5])[0]
            if any(one not in table for one in range(address, address + count)):
                return bytes((function | 0x80, 2))
            words = [table[one] for one in range(address, address + count)]
            if function > 2:
                return struct.pack(f">BB{count}H", function, 2 * count, *words)
            cells = sum(bool(word) << place for place, word in enumerate(words))
            return bytes((function, (count + 7) // 8)) + cells.to_bytes((count + 7) // 8, "little")
        return self._write(function, address, pdu, table)

    def _write(self, function: int, address: int, pdu: bytes, table: dict[int, int]) -> bytes:
        if function in {5, 6}:
            (word,) = struct.unpack(">H", pdu[3:5])
            if function == 5 and word not in {0, 0xFF00}:
                return bytes((0x85, 3))
            words = [bool(word) if function == 5 else word]
        elif function in {15, 16}:
            count, size = struct.unpack(">HB", pdu[3:6])
            assert len(pdu) == 6 + size
            if function == 16:
                words = list(struct.unpack(f">{count}H", pdu[6:]))
            else:
                cells = int.from_bytes(pdu[6:], "little")
                words = [cells >> place & 1 for place in range(count)]
        else:
            return bytes((function | 0x80, 1))
        if any(one not in table for one in range(address, address + len(words))):
            return bytes((function | 0x80, 2))
        self.writes.append((function, address, tuple(map(int, words))))
        table.update({address + offset: int(word) for offset, word in enumerate(words)})
        return pdu[:5]


def mangled(kind: str, random: Random, unit: int, pdu: bytes, tid: int | None) -> tuple[bytes, bool]:
    """The bytes of an answer that goes wrong in a way, and whether the right answer can still be found in them.

    ``tid`` None: RTU. Only damage that the protocol can see: of RTU bursts of up to 16 bits, which its CRC always
    finds; of MBAP, which has no checksum, damage to what can be foreseen.
    """

    def frame(unit: int, pdu: bytes) -> bytes:
        return rtu(unit, pdu) if tid is None else mbap(tid, unit, pdu)

    noise = bytes(random.randrange(256) for _ in range(random.randint(1, 12)))
    whole = frame(unit, pdu)
    function, read = pdu[0], pdu[0] <= 4
    other = (unit + random.randint(1, 200)) % 247 + 1
    simple = {
        "silence": (b"", False),
        "exception": (frame(unit, bytes((function | 0x80, random.choice((1, 2, 3, 4, 5, 6, 8, 10, 11))))), False),
        "wrong_unit": (frame(other if other != unit else unit + 1, pdu), False),
        "wrong_function": (
            frame(unit, bytes((random.choice((7, 8, 22, function % 4 + 1 if read else 3)),)) + pdu[1:]),
            False,
        ),
        "truncated": (whole[: random.randrange(1, len(whole))], False),
        "noise_behind": (whole + noise, True),
        "only_noise": (noise, False),
        "twice": (whole + whole, True),
        "shorter_data": (frame(unit, pdu[: random.randint(2, len(pdu) - 1)]), False),
        "longer_data": (frame(unit, pdu + noise), False),
        "another_s_answer": (frame(other if other != unit else unit + 1, pdu) + whole, tid is None),
        "empty_pdu": (whole[:6] if tid is None else mbap(tid, unit, b""), False),
    }
    if kind in simple:
        return simple[kind]
    if kind == "noise_before":
        # On TCP bytes before the header shift all that follows; what begins like a header would be believed.
        return noise + whole, tid is None
    if kind in {"short_count", "long_count"} and read:
        size = (
            max(0, pdu[1] - random.randint(1, 4)) if kind == "short_count" else min(250, pdu[1] + random.randint(1, 4))
        )
        data = (pdu[2:] + noise * 4)[:size] if random.random() < 0.5 else pdu[2:]
        return frame(unit, bytes((function, size)) + data), False
    return (_burst(random, whole) if tid is None else _wrong_mbap(kind, random, unit, pdu, tid)), False


def _wrong_mbap(kind: str, random: Random, unit: int, pdu: bytes, tid: int) -> bytes:
    """A MBAP frame that is wrong in its header, or in one of the bytes that can be foreseen."""
    if kind == "wrong_transaction":
        return mbap((tid + random.randint(1, 65000)) % 65536, unit, pdu)
    if kind == "wrong_protocol":
        return mbap(tid, unit, pdu, protocol=random.randint(1, 65535))
    if kind == "wrong_length_field":
        length = random.choice((0, 1, 2, len(pdu) - 1, len(pdu), len(pdu) + 2, len(pdu) + 7, 300, 65535))
        return mbap(tid, unit, pdu, length=length)
    whole = mbap(tid, unit, pdu)
    place = random.randrange(len(whole) - len(pdu) + min(2, len(pdu)))
    return whole[:place] + bytes((whole[place] ^ random.randint(1, 255),)) + whole[place + 1 :]


def _burst(random: Random, whole: bytes) -> bytes:
    """A frame with a burst of errors of up to 16 bits."""
    bits = int.from_bytes(whole, "big")
    length = random.randint(1, 16)
    start = random.randrange(len(whole) * 8 - length + 1)
    pattern = random.getrandbits(length) | 1 | 1 << length - 1
    return (bits ^ pattern << start).to_bytes(len(whole), "big")
