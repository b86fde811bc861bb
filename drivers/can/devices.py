"""From configured devices to signals and wires: which DBC signal becomes which point, and who reads which bus.

Plain values that the composition root fills from the configuration: drivers never see ``agent.config``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.core.errors import ConfigError
from agent.core.model import Kind, Number, SignalSpec, uint_to_word
from agent.core.points import find_point
from drivers.can.socketcan import Filter, id_filter, pgn_filter
from drivers.codec.can_j1939 import pgn_of
from drivers.codec.can_plan import encoding_of
from drivers.codec.dbc import Dbc, MessageDef, SignalDef

#: Words from the first to the last of them.
WordRange = tuple[int, int]
_Claim = tuple["CanDevice", MessageDef]


@dataclass(frozen=True, slots=True)
class PointMap:
    """One row of a profile: DBC ``signal`` ('Message.Signal') is our ``point``.

    Physical value in the point's unit = value in the DBC's unit * ``scale`` + ``offset``. Raw values in the inclusive
    ranges of ``missing``
    mean "not known". ``labels``, names of raw values, replaces the DBC's own value table.
    """

    point: str
    signal: str
    scale: Number = 1
    offset: Number = 0
    missing: tuple[tuple[int, int], ...] = ()
    labels: Mapping[int, str] | None = None


@dataclass(frozen=True, slots=True)
class CanDevice:
    """One device on a bus.

    ``dbc``: its files; a message of a later one replaces an equal identifier of an earlier one. ``keep_unmapped``: DBC
    signals that ``points`` does not map are kept under the name ``Message.Signal``. ``alive``: counters
    ('Message.Signal') that move with each frame of a living device. ``source_address``: only 29-bit frames from this
    J1939 address are its. ``bitrate``, ``fd`` and ``options`` are the wire's: devices on one wire must agree.
    """

    id: str
    channel: str
    dbc: tuple[Dbc, ...]
    interface: str = "socketcan"
    points: tuple[PointMap, ...] = ()
    keep_unmapped: bool = True
    alive: tuple[str, ...] = ()
    stale_after_s: float | None = None
    frozen_after_s: float = 5.0
    source_address: int | None = None
    bitrate: int | None = None
    fd: bool = False
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WantedSignal:
    """One DBC signal that is read, and what becomes of it."""

    message: int  #: index into ``PlannedDevice.messages``
    signal: SignalDef
    spec: SignalSpec
    missing: tuple[WordRange, ...] = ()  #: words that mean "not known"


@dataclass(frozen=True, slots=True)
class PlannedDevice:
    """A device whose names are all resolved.

    ``messages`` are those of which anything is read. ``alive`` holds indexes into ``wanted``.
    """

    device: CanDevice
    messages: tuple[MessageDef, ...]
    wanted: tuple[WantedSignal, ...]
    alive: tuple[int, ...]

    def filters(self) -> Iterator[Filter]:
        """What a kernel must let pass for this device."""
        for message in self.messages:
            if message.j1939:
                yield pgn_filter(message.frame_id, self.device.source_address)
            else:
                yield id_filter(message.frame_id, extended=message.extended)


def resolve(device: CanDevice) -> PlannedDevice:
    """Look up every name that the device's configuration uses. Raises ``ConfigError``."""
    messages = _messages(device.dbc)
    signals = {f"{message.name}.{signal.name}": (index, signal) for index, message, signal in _signals(messages)}
    wanted: dict[str, WantedSignal] = {}
    taken: dict[str, str] = {}
    for row in device.points:
        if row.signal in wanted:
            raise _mistake(
                device, f"point {row.point}: {row.signal} is mapped to {wanted[row.signal].spec.name} already"
            )
        if row.point in taken:
            raise _mistake(device, f"point {row.point} is mapped twice: to {taken[row.point]} and {row.signal}")
        taken[row.point] = row.signal
        index, signal = _find(device, f"point {row.point}", row.signal, signals)
        spec = _mapped(device, row, messages[index], signal)
        missing = tuple(words for low, high in row.missing for words in _sentinel_words(low, high, signal))
        wanted[row.signal] = WantedSignal(index, signal, spec, missing)
    for name in device.alive:
        index, signal = _find(device, "alive", name, signals)
        if name not in wanted:
            wanted[name] = WantedSignal(index, signal, _unmapped(device, messages[index], signal))
    if device.keep_unmapped:
        for name, (index, signal) in signals.items():
            if name not in wanted:
                wanted[name] = WantedSignal(index, signal, _unmapped(device, messages[index], signal))
    if not wanted:
        raise _mistake(device, "nothing of it is read", "map DBC signals to points, or write `keep_unmapped: true`")
    used = sorted({one.message for one in wanted.values()})
    place = {index: position for position, index in enumerate(used)}
    order = list(wanted)
    return PlannedDevice(
        device,
        tuple(messages[index] for index in used),
        tuple(replace(one, message=place[one.message]) for one in wanted.values()),
        tuple(order.index(name) for name in device.alive),
    )


def check_claims(planned: Sequence[PlannedDevice]) -> None:
    """Raise ``ConfigError`` when a frame on the wire of these devices could belong to two of them."""
    claims = _Claims()
    for one in planned:
        for message in one.messages:
            claim = claims.of(one.device, message)
            if claim is not None:
                other, theirs = claim
                what = f"0x{message.frame_id:X} {message.name}"
                raise _mistake(
                    one.device,
                    f"{what} on {one.device.channel} is also claimed by device {other.id} ({theirs.name})",
                    "give each a `source_address:` (J1939), another channel, or a profile that maps other messages",
                )
        for message in one.messages:
            claims.add(one.device, message)


class _Claims:
    """Who claims which frames. By look-up: packs on one bus may bring thousands of messages each."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[bool, int], _Claim] = {}  #: plain messages
        # 29-bit ones: parameter group -> source address, None for any -> who claims that.
        self._groups: dict[int, dict[int | None, _Claim]] = {}  #: J1939 messages
        self._plain: dict[int, dict[int | None, _Claim]] = {}  #: plain messages

    def add(self, device: CanDevice, message: MessageDef) -> None:
        """The device claims this message's frames. The first claim stays."""
        claim = device, message
        if not message.j1939:
            self._by_id.setdefault((message.extended, message.frame_id), claim)
        if message.extended:
            table = self._groups if message.j1939 else self._plain
            table.setdefault(pgn_of(message.frame_id), {}).setdefault(_address(device, message), claim)

    def of(self, device: CanDevice, message: MessageDef) -> "_Claim | None":
        """A claim that frames of this message of the device could meet, too."""
        found = None if message.j1939 else self._by_id.get((message.extended, message.frame_id))
        if found is not None or not message.extended:
            return found
        address = _address(device, message)
        for table in (self._groups, self._plain) if message.j1939 else (self._groups,):
            by_address = table.get(pgn_of(message.frame_id), {})
            found = next(iter(by_address.values()), None) if address is None else by_address.get(address)
            found = found or by_address.get(None)
            if found is not None:
                return found
        return None


def check_wire(devices: Sequence[CanDevice]) -> None:
    """Raise ``ConfigError`` when devices on one wire disagree about it."""
    first = devices[0]
    for other in devices[1:]:
        if first.bitrate and other.bitrate and first.bitrate != other.bitrate:
            text = f"bitrate {other.bitrate}, but device {first.id} on the same {other.channel} has {first.bitrate}"
            raise _mistake(other, text, "write the bitrate that the bus has at both")
        for key in sorted(set(first.options) & set(other.options)):
            if first.options[key] != other.options[key]:
                raise _mistake(other, f"options.{key} differs from device {first.id} on the same {other.channel}")


def _messages(files: Iterable[Dbc]) -> tuple[MessageDef, ...]:
    """All messages; of equal identifiers the one of the last file. Names are made unique by the identifier."""
    found: dict[tuple[bool, int], MessageDef] = {}
    for file in files:
        for message in file.messages:
            found[message.extended, message.frame_id] = message
    names = Counter(message.name for message in found.values())
    return tuple(
        message if names[message.name] == 1 else replace(message, name=f"{message.name}_{message.frame_id:X}")
        for message in found.values()
    )


def _signals(messages: Sequence[MessageDef]) -> Iterator[tuple[int, MessageDef, SignalDef]]:
    for index, message in enumerate(messages):
        for signal in message.signals:
            yield index, message, signal


def _find(
    device: CanDevice, what: str, name: str, signals: Mapping[str, tuple[int, SignalDef]]
) -> tuple[int, SignalDef]:
    found = signals.get(name)
    if found is not None:
        return found
    wanted = name.rpartition(".")[2].casefold()
    near = [known for known in signals if known.casefold() == name.casefold()]
    near += [known for known in signals if known.rpartition(".")[2].casefold() == wanted and known not in near]
    hint = f"write one of: {', '.join(near[:5])}" if near else "write Message.Signal as in the DBC"
    raise _mistake(device, f"{what}: the DBC has no signal {name!r}", hint)


def _mapped(device: CanDevice, row: PointMap, message: MessageDef, signal: SignalDef) -> SignalSpec:
    point = find_point(row.point)
    if point is None:
        raise _mistake(
            device,
            f"point {row.point} (of {row.signal}) is not in the vocabulary",
            "write a name of agent/core/points.py, arrays as `name.1`; or keep the signal unmapped",
        )
    scale, offset = signal.scale * row.scale, signal.offset * row.scale + row.offset
    return SignalSpec(
        device.id,
        row.point,
        unit=point.unit,
        kind=point.kind,
        encoding=encoding_of(signal),
        scale=scale,
        offset=offset,
        labels=_labels(signal.choices if row.labels is None else row.labels, scale, offset),
        source=_source(message, signal),
    )


def _unmapped(device: CanDevice, message: MessageDef, signal: SignalDef) -> SignalSpec:
    choice = bool(signal.choices) or signal.length == 1
    return SignalSpec(
        device.id,
        f"{message.name}.{signal.name}",
        unit=signal.unit,
        kind=Kind.STATE if choice else Kind.GAUGE,
        encoding=encoding_of(signal),
        scale=signal.scale,
        offset=signal.offset,
        labels=_labels(signal.choices, signal.scale, signal.offset),
        source=_source(message, signal),
    )


def _labels(names: Mapping[int, str], scale: Number, offset: Number) -> dict[int, str]:
    """Names of raw values as names of values; of a value that is no whole number there can't be one."""
    values = {raw * scale + offset: text for raw, text in names.items()}
    return {int(value): text for value, text in values.items() if isinstance(value, int) or value.is_integer()}


def _sentinel_word(raw: int, signal: SignalDef) -> int:
    """The word of a sentinel, which may be written as the bits of a signed signal (0xFFFF for -1)."""
    if signal.signed and raw >> (signal.length - 1) == 1:
        return raw - (1 << signal.length)
    return uint_to_word(raw)


def _sentinel_words(low: int, high: int, signal: SignalDef) -> Iterator[WordRange]:
    """The words of a range. One that goes on over the sign bit (0x7FFF to 0x8000) has words at both ends."""
    first, last = (_sentinel_word(raw, signal) for raw in sorted((low, high)))
    if first <= last:
        yield first, last
    else:
        top = (1 << signal.length - 1) - 1
        yield from ((first, top), (-top - 1, last))


def _source(message: MessageDef, signal: SignalDef) -> str:
    return f"0x{message.frame_id:X} {message.name}.{signal.name}"


def _address(device: CanDevice, message: MessageDef) -> int | None:
    """The source address that frames of this message have; None for any."""
    return device.source_address if message.j1939 else message.frame_id & 0xFF


def _mistake(device: CanDevice, reason: str, hint: str = "") -> ConfigError:
    return ConfigError(f"device {device.id}", reason, hint)
