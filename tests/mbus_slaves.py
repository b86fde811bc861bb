"""M-Bus slaves for tests, made from EN 13757-2 and -3: they are asked by their bytes and answer with theirs."""

from dataclasses import dataclass, field

NKE, UD2, SND_UD = 0x40, 0x5B, 0x53
FCB = 0x20
ACK = b"\xe5"
SELECT = 0x52
#: Electricity, manufacturer and version of the slaves here.
REST = b"\x24\x40\x01\x02"
MORE = b"\x1f"


def long_frame(control: int, address: int, information: int, data: bytes) -> bytes:
    body = bytes((control, address, information)) + data
    return bytes((0x68, len(body), len(body), 0x68)) + body + bytes((sum(body) & 0xFF, 0x16))


def short_frame(control: int, address: int) -> bytes:
    return bytes((0x10, control, address, (control + address) & 0xFF, 0x16))


def energy(wh: int) -> bytes:
    """A record: energy in Wh, 32 bits (DIF 04, VIF 03)."""
    return b"\x04\x03" + wh.to_bytes(4, "little")


def power(watts: int) -> bytes:
    """A record: power in W, 32 bits (DIF 04, VIF 2B)."""
    return b"\x04\x2b" + watts.to_bytes(4, "little")


@dataclass
class Slave:
    """One slave. ``parts`` are the records of its telegrams; all but the last are followed by "more"."""

    address: int
    number: str = "12345678"  #: eight digits, as printed
    parts: list[bytes] = field(default_factory=lambda: [energy(1000)])
    asked: list[str] = field(default_factory=list)
    selected: bool = False
    acknowledges: bool = True
    _next: int = 0
    _last: int | None = None

    @property
    def secondary(self) -> bytes:
        """Number, manufacturer, version, medium as they stand on the wire."""
        return bytes.fromhex(self.number)[::-1] + REST

    def hear(self, question: bytes) -> bytes:
        """Its answer; nothing when it is not asked."""
        if question[0] == 0x68:
            return self._chosen(question)
        control, address = question[1], question[2]
        if address != self.address and not (address == 253 and self.selected):
            return b""
        if control == NKE:
            self.asked.append("reset")
            self._next, self._last = 0, 0
            self.selected = self.selected and address != 253
            return ACK if self.acknowledges else b""
        assert control & ~FCB == UD2
        bit = control & FCB
        if bit != self._last:
            self._next += 1
        self._last = bit
        index = (self._next - 1) % len(self.parts)
        self.asked.append(f"part {index}")
        more = MORE if index < len(self.parts) - 1 else b""
        return long_frame(0x08, self.address, 0x72, self.secondary + b"\x01\x00\x00\x00" + self.parts[index] + more)

    def _chosen(self, question: bytes) -> bytes:
        assert question[4:7] == bytes((SND_UD, 253, SELECT))
        mask = question[7:15].hex()
        self.selected = all(one in ("f", other) for one, other in zip(mask, self.secondary.hex(), strict=True))
        if self.selected:
            self.asked.append("selected")
            self._next, self._last = 0, 0
        return ACK if self.selected else b""
