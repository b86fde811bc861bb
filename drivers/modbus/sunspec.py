"""SunSpec: devices that say themselves which registers they have. What they say becomes a profile.

Rules of this file:

1. The marker ``SunS`` stands at 40000, 50000 or 0; behind it a chain of models, each with its number and length, up to
   the number 0xFFFF (SunSpec Device Information Model Specification 1.1, 4.2). What a model's own length does not hold
   is not there, whatever its definition says.
2. One chain may hold several parts: an inverter, its meters, a battery. A device of ours is one of them. Unasked, that
   is the inverter, else the meter, else the battery; of two meters or inverters it is the first.
3. Nothing is kept of a device but the profile: it is discovered anew when its wire was opened anew.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from agent.core.errors import BadData, Unsupported
from drivers.codec.registers import ADDRESSES, Register, Table, TextRegister, text_of
from drivers.modbus.model import ModbusPoint, ModbusProfile, Part
from drivers.modbus.sunspec_models import (
    COMMON,
    EXPORT_POSITIVE,
    EXTRA,
    IDENTITY,
    INPUTS,
    MAIN,
    MODELS,
    PACK_ONLY,
    STORAGE_INPUTS,
    TURNED,
    TYPES,
    Row,
    TextRow,
)

#: Reads ``count`` registers of a table from an address on. Raises ``Unsupported`` where the device refuses them.
Read = Callable[[Table, int, int], Awaitable[list[int]]]

_OP = "discover SunSpec"
_BASES = (40000, 50000, 0)
_MARKER = [0x5375, 0x6E53]
_END = (0xFFFF, 0)  #: 0 is what devices send that leave the marker out
_HEADER = 2  #: number and length
_MAX_MODELS = 100
_MAX_INPUTS = 32
_PARTS: tuple[Part, ...] = ("inverter", "meter", "battery")


@dataclass(frozen=True, slots=True)
class SunspecModel:
    """A model in a device's chain: ``address`` is that of its number, ``length`` counts what follows the length."""

    model: int
    address: int
    length: int


async def discover(read: Read, part: Part | None = None) -> ModbusProfile:
    """The profile of the SunSpec device that ``read`` speaks to, or of one part of it.

    Raises ``Unsupported`` when the device does not speak SunSpec, or has no model that we know; ``BadData`` when its
    chain has no end; and what ``read`` raises.
    """
    chain = await walk(read)
    part = part or next((one for one in _PARTS if _main(chain, one)), None)
    main = _main(chain, part) if part else None
    if part is None or main is None:
        raise Unsupported(
            _OP,
            f"the device has the models {', '.join(str(one.model) for one in chain)}, none of which is "
            + (f"of a {part} that we know" if part else "known"),
            "write a profile for its registers",
        )
    commons = [one for one in chain if one.model == COMMON]
    turned = part == "meter" and (await _text(read, commons[:1], IDENTITY["maker"])).startswith(EXPORT_POSITIVE)
    points: dict[str, ModbusPoint] = {}
    for model in (main, *(one for one in chain if one.model in EXTRA[part])):
        strings = await _strings(read, model) if model.model == INPUTS.model else ()
        for point in (*_points(model, part), *strings):
            points.setdefault(point.point, _turn(point) if turned else point)
    named = [one for one in commons if one.address < main.address][-1:]
    identity = {
        key: TextRegister("holding", common.address + row.offset, row.count)
        for common in named
        for key, row in IDENTITY.items()
        if _holds(common, row.offset + row.count)
    }
    return ModbusProfile("sunspec", tuple(points.values()), identity=identity)


async def walk(read: Read) -> list[SunspecModel]:
    """The models of a device, in their order. Raises what ``discover`` raises."""
    address = await _find(read) + len(_MARKER)
    chain: list[SunspecModel] = []
    while len(chain) < _MAX_MODELS and address + _HEADER <= ADDRESSES:
        try:
            model, length = await read("holding", address, _HEADER)
        except Unsupported:
            if chain:
                return chain  # the end marker is missing
            raise
        if model in _END:
            return chain
        chain.append(SunspecModel(model, address, length))
        address += _HEADER + length
    raise BadData(_OP, f"the chain of models has no end ({len(chain)} models)", "update the device's firmware")


async def _find(read: Read) -> int:
    """Where the marker stands."""
    for base in _BASES:
        try:
            if await read("holding", base, len(_MARKER)) == _MARKER:
                return base
        except Unsupported:
            continue
    raise Unsupported(
        _OP,
        f"there is no SunSpec marker at {', '.join(map(str, _BASES))}",
        "switch SunSpec on in the device, check its unit id, or name another profile",
    )


def _main(chain: Sequence[SunspecModel], part: Part) -> SunspecModel | None:
    return next((one for one in chain if one.model in MAIN[part]), None)


def _points(model: SunspecModel, part: Part) -> Iterator[ModbusPoint]:
    for row in MODELS.get(model.model, ()):
        if _holds(model, row.end) and not (part == "inverter" and row.point in PACK_ONLY):
            yield _point(row, row.point, model.address + row.offset, model.address)


async def _strings(read: Read, model: SunspecModel) -> list[ModbusPoint]:
    """The DC inputs of a model 160, without those that are the battery's; each keeps its number."""
    room = (model.length + _HEADER - INPUTS.first) // INPUTS.stride
    if room < 1:
        return []
    try:
        (count,) = await read("holding", model.address + INPUTS.count, 1)
    except Unsupported:
        return []  # a device that refuses what its chain promises still has its other models
    found = []
    for index in range(min(count, room, _MAX_INPUTS)):
        group = model.address + INPUTS.first + index * INPUTS.stride
        name = await _text(read, [SunspecModel(model.model, group, INPUTS.stride)], INPUTS.name)
        if not name.startswith(STORAGE_INPUTS):
            found += [_point(row, f"{row.point}.{index + 1}", group + row.offset, model.address) for row in INPUTS.rows]
    return found


async def _text(read: Read, models: Sequence[SunspecModel], row: TextRow) -> str:
    """A text of the first of these models; empty when there is none, or the device refuses it."""
    for model in models:
        if _holds(model, row.offset + row.count):
            address = model.address + row.offset
            try:
                words = await read("holding", address, row.count)
            except Unsupported:
                return ""
            return text_of(TextRegister("holding", address, row.count), words)
    return ""


def _holds(model: SunspecModel, end: int) -> bool:
    return end <= model.length + _HEADER and model.address + end <= ADDRESSES


def _point(row: Row, name: str, address: int, model: int) -> ModbusPoint:
    """A row at its address; its scale factor counts from where the model begins."""
    kind, missing = TYPES[row.type]
    return ModbusPoint(
        name,
        Register("holding", address, kind),
        scale=row.scale,
        missing=missing,
        labels=row.labels,
        every_s=row.every_s,
        exponent=None if row.sf is None else Register("holding", model + row.sf, "int16"),
    )


def _turn(point: ModbusPoint) -> ModbusPoint:
    """Of a meter that counts the other way: what has a direction, turned."""
    return replace(point, scale=-point.scale) if point.point.startswith(TURNED) else point
