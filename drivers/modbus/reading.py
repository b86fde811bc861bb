"""What a profile's points come to: signals, and the rounds of questions that read them. Pure values, no wire."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.errors import ConfigError
from agent.core.model import SignalSpec
from agent.core.points import find_point
from drivers.codec.registers import Register
from drivers.codec.registers_block import Block, Field, blocks_for
from drivers.modbus.model import ModbusPoint, ModbusProfile


@dataclass(frozen=True, slots=True)
class Round:
    """What is asked every ``every_s``: blocks whose ``places`` are indexes into the profile's points."""

    every_s: float
    blocks: tuple[Block, ...]


def rounds(profile: ModbusProfile, every_s: float) -> list[Round]:
    """The rounds of a device that is read every ``every_s``, the fastest first; points may be slower than that."""
    by_period: dict[float, list[int]] = {}
    for index, point in enumerate(profile.points):
        by_period.setdefault(max(point.every_s or every_s, every_s), []).append(index)
    return [Round(period, _blocks(profile, by_period[period])) for period in sorted(by_period)]


def field_of(point: ModbusPoint) -> Field:
    """How a point is decoded."""
    return Field(point.register, point.missing, point.exponent)


def spec_of(device: str, point: ModbusPoint) -> SignalSpec:
    """The signal that a point becomes. Raises ``ConfigError`` when the vocabulary has no such point."""
    known = find_point(point.point)
    if known is None:
        raise ConfigError(
            f"device {device}",
            f"point {point.point} is not in the vocabulary",
            "write a name of agent/core/points.py, arrays as `name.1`",
        )
    return SignalSpec(
        device,
        point.point,
        unit=known.unit,
        kind=known.kind,
        encoding=field_of(point).encoding,
        scale=point.scale,
        offset=point.offset,
        labels=dict(point.labels),
        source=place_of(point.register),
    )


def place_of(register: Register) -> str:
    """Where a register lies, in the field's words: ``holding 52``, ``input 7 bits 3..4``."""
    text = f"{register.table} {register.address}"
    if register.bits is None:
        return text
    lowest, width = register.bits
    return f"{text} bit {lowest}" if width == 1 else f"{text} bits {lowest}..{lowest + width - 1}"


def _blocks(profile: ModbusProfile, places: Sequence[int]) -> tuple[Block, ...]:
    """Blocks of these points, with their places told in the profile's points and not in this selection."""
    fields = [field_of(profile.points[place]) for place in places]
    made = blocks_for(fields, profile.max_registers, profile.max_gap)
    return tuple(
        Block(block.span, block.fields, block.exponents, tuple(places[place] for place in block.places))
        for block in made
    )
