"""All serial meters of a site: who shares a port, and one part for each wire."""

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import ConfigError
from drivers.codec.telegram import Codec
from drivers.line import check_port
from drivers.serial_meter.asked import AskedMeter, AskedWire
from drivers.serial_meter.push import PushListener
from drivers.serial_meter.settings import ANYBODY, MeterSettings

_KEY_DIGITS = 32


@dataclass(frozen=True, slots=True)
class PlannedMeter:
    """A meter with the keys that its files hold. Equal when nothing about it has changed, keys included."""

    settings: MeterSettings
    key: bytes | None = field(default=None, repr=False)
    auth_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MeterPlan:
    """What the serial meters of a site come to. ``wires`` are in the order of the devices; compare them for changes."""

    wires: tuple[tuple[PlannedMeter, ...], ...]

    def parts(self, clock: Clock) -> "list[PushListener | AskedWire]":
        """One part for each of ``wires``, in their order: a ``Listener``, or a ``Poller`` where meters are asked."""
        return [_part(wire, clock) for wire in self.wires]


def plan_meters(meters: Iterable[MeterSettings]) -> MeterPlan:
    """Read the keys and check who shares a port. Raises ``ConfigError``, naming device and key."""
    ports: dict[str, list[PlannedMeter]] = {}
    for settings in meters:
        check_port(settings.port)
        planned = PlannedMeter(settings, *(_key(settings, one) for one in (settings.key_file, settings.auth_key_file)))
        ports.setdefault(settings.port, []).append(planned)
    for wire in ports.values():
        _check_shared([one.settings for one in wire])
    plan = MeterPlan(tuple(tuple(wire) for wire in ports.values()))
    for one in plan.wires:
        for meter in one:
            _check_codec(meter)
    return plan


def _check_codec(meter: PlannedMeter) -> None:
    """Let the codecs refuse what they can't work with."""
    settings = meter.settings
    if not settings.asks:
        codec_of(meter)
    elif settings.protocol == "d0":
        from drivers.codec.d0_request import request  # noqa: PLC0415

        request(settings.address or "")


def _check_shared(wire: Sequence[MeterSettings]) -> None:
    first = wire[0]
    for index, one in enumerate(wire[1:], 1):
        op = f"device {one.device}"
        if not (one.asks and first.asks and one.protocol == first.protocol):
            hint = "give each meter that speaks by itself a port of its own"
            raise ConfigError(op, f"port {one.port} is {first.device}'s already", hint)
        if one.line != first.line:
            hint = "write the same `baud:` and `framing:` for all meters of a port"
            raise ConfigError(op, f"{one.line} differs from {first.line} of {first.device} on the same port", hint)
        for other in wire[:index]:
            if _name(one) == _name(other):
                reason = f"{other.device} on the same port has the same address"
                raise ConfigError(op, reason, "write the address that stands on the meter")
    nameless = next((one for one in wire if one.address in {None, str(ANYBODY)}), None)
    if len(wire) > 1 and nameless is not None:
        reason = "whoever is on the port would answer it, and there are others"
        raise ConfigError(f"device {nameless.device}", reason, "write its `address:`")


def _name(settings: MeterSettings) -> str:
    """An address as the wire knows it."""
    address = settings.address or ""
    return address.upper() if settings.secondary else address.lstrip("0")


def _key(settings: MeterSettings, path: Path | None) -> bytes | None:
    if path is None:
        return None
    op = f"device {settings.device}"
    try:
        text = "".join(path.read_text(encoding="ascii").split())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(op, f"can't read {path}: {reason}", "is it there, and readable for this user?") from error
    if len(text) != _KEY_DIGITS or not set(text) <= set(string.hexdigits):
        raise ConfigError(op, f"{path} holds no key", f"write {_KEY_DIGITS} hexadecimal digits into it, nothing else")
    return bytes.fromhex(text)


def codec_of(meter: PlannedMeter) -> Codec:
    """What decodes the bytes of a meter; what a site does not use is not imported."""
    if meter.settings.protocol == "dsmr":
        from drivers.codec.dsmr import DsmrCodec  # noqa: PLC0415

        return DsmrCodec(meter.key, meter.auth_key)
    if meter.settings.protocol == "sml":
        from drivers.codec.sml import SmlCodec  # noqa: PLC0415

        return SmlCodec()
    if meter.settings.protocol == "mbus":
        from drivers.codec.mbus import MbusCodec  # noqa: PLC0415

        return MbusCodec()
    from drivers.codec.d0 import D0Codec  # noqa: PLC0415

    return D0Codec()


def asked_alone(meter: PlannedMeter, clock: Clock) -> tuple[AskedWire, AskedMeter]:
    """A wire and the one meter on it that is asked."""
    wire = AskedWire(meter.settings.port, meter.settings.line, clock)
    unit = _unit(meter.settings, wire)
    wire.join([unit])
    return wire, unit


def _part(wire: Sequence[PlannedMeter], clock: Clock) -> "PushListener | AskedWire":
    first = wire[0].settings
    if not first.asks:
        return PushListener(first, codec_of(wire[0]), clock)
    asked = AskedWire(first.port, first.line, clock)
    asked.join([_unit(one.settings, asked) for one in wire])
    return asked


def _unit(settings: MeterSettings, wire: AskedWire) -> AskedMeter:
    if settings.protocol == "mbus":
        from drivers.serial_meter.mbus import MbusMeter  # noqa: PLC0415

        return MbusMeter(settings, wire)
    from drivers.serial_meter.d0 import D0Meter  # noqa: PLC0415

    return D0Meter(settings, wire)
