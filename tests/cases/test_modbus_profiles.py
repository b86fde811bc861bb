"""Each Modbus profile gives its golden values: the planner's questions, answered from a register image that was made by
hand from the maker's description, come out as the values that the description says they mean.

A case is ``modbus_profiles/<profile>.yaml``. Its image answers only the addresses that it has, as a device does: a
question that touches another one is refused (exception 2), so the registers between those that are wanted belong into
the image exactly when the device has them.
"""

import math
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from agent.core.model import Number
from agent.modbus_loader import LoadedModbusProfile
from agent.profiles import load_any_profile, profile_folders
from agent.share import share_path
from agent.yamlfile import Section, load_yaml
from drivers.codec.registers import BIT_TABLES, Register, Table, number_of, text_of
from drivers.codec.registers_block import Block, Exponents
from drivers.codec.registers_pack import Span
from drivers.modbus.reading import rounds, spec_of
from drivers.modbus.writing import Write, allowed, write_of

CASES = Path(__file__).with_name("modbus_profiles")
_TOLERANCE = 1e-9


class WriteCase(Section):
    table: Table
    address: int
    words: tuple[int, ...]
    function: Literal[5, 6, 15, 16]


class SetCase(Section):
    set: str
    value: int | float
    writes: tuple[WriteCase, ...]


class GoldenCase(Section):
    source: str = Field(min_length=1)
    unit_id: int | None = None
    registers: dict[Table, dict[int, tuple[int, ...]]]
    expected: dict[str, int | float | None]
    identity: dict[str, str | int] = Field(default_factory=dict)
    writes: tuple[SetCase, ...] = ()


class RefusedError(Exception):
    """The image has no such register."""


class Image:
    """The registers of a device, as bytes that an answer would carry."""

    def __init__(self, registers: dict[Table, dict[int, tuple[int, ...]]]) -> None:
        self._words = {
            (table, first + offset): word
            for table, runs in registers.items()
            for first, words in runs.items()
            for offset, word in enumerate(words)
        }
        assert len(self._words) == sum(len(words) for runs in registers.values() for words in runs.values()), "overlap"

    def words(self, span: Span) -> list[int]:
        lacks = [at for at in range(span.address, span.end) if (span.table, at) not in self._words]
        if lacks:
            text = f"the question for {span.table} {span.address} to {span.end - 1} touches {lacks[0]}"
            raise RefusedError(f"{text}, which the image lacks: the device would answer with exception 2")
        return [self._words[span.table, at] for at in range(span.address, span.end)]

    def data(self, span: Span) -> bytes:
        words = self.words(span)
        if span.table in BIT_TABLES:
            cells = sum(bool(word) << place for place, word in enumerate(words))
            return cells.to_bytes((span.count + 7) // 8, "little")
        return b"".join(word.to_bytes(2, "big") for word in words)


def modbus_profiles() -> dict[str, LoadedModbusProfile]:
    folder = share_path("config/profiles")
    loaded = (load_any_profile(str(path), ()) for path in sorted(folder.glob("*.yaml")) if is_modbus(path))
    return {one.name: one for one in loaded if isinstance(one, LoadedModbusProfile)}


def is_modbus(path: Path) -> bool:
    return any(line.strip() == "driver: modbus" for line in path.read_text().splitlines())


NAMES = sorted(path.stem for path in share_path("config/profiles").glob("*.yaml") if is_modbus(path))


def loaded(name: str) -> LoadedModbusProfile:
    profile = load_any_profile(name, profile_folders())
    assert isinstance(profile, LoadedModbusProfile)
    return profile


def golden(name: str) -> GoldenCase:
    return load_yaml(CASES / f"{name}.yaml", GoldenCase)


def values(name: str, image: Image) -> dict[str, Number | None]:
    """Every point of a profile as the house reads it from an image."""
    profile = loaded(name).profile
    exponents: Exponents = {}
    found: dict[str, Number | None] = {}
    for one in rounds(profile, profile.every_s):
        for block in one.blocks:
            words = block.decode(image.data(block.span), exponents)
            for place, word in zip(block.places, words, strict=True):
                point = profile.points[place]
                found[point.point] = None if word is None else spec_of("d", point).physical(word)
    return found


def limits_of(block: Block, profile: LoadedModbusProfile) -> int:
    return 2000 if block.span.table in BIT_TABLES else profile.profile.max_registers


def test_each_profile_has_a_case_and_each_case_a_profile() -> None:
    cases = sorted(path.stem for path in CASES.glob("*.yaml")) if CASES.is_dir() else []
    assert cases == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_values_come_out(name: str) -> None:
    case = golden(name)
    found = values(name, Image(case.registers))
    assert set(case.expected) == set(found), "each point of the profile needs its value in `expected`, or null"
    wrong = [f"{point}: {found[point]}, expected {want}" for point, want in case.expected.items() if want is None]
    wrong = [text for text in wrong if ": None," not in text]
    for point, want in case.expected.items():
        got = found[point]
        if want is not None and (got is None or not math.isclose(got, want, rel_tol=_TOLERANCE, abs_tol=0)):
            wrong.append(f"{point}: {got}, expected {want}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", NAMES)
def test_some_value_of_each_case_says_something(name: str) -> None:
    # An image of zeros would fit a profile whose registers are all wrong.
    case = golden(name)
    told = [value for value in case.expected.values() if value]
    assert len(told) * 2 >= len(case.expected), "more than half of the golden values are 0 or null"


@pytest.mark.parametrize("name", NAMES)
def test_questions_keep_to_the_limits(name: str) -> None:
    profile = loaded(name)
    for one in rounds(profile.profile, profile.profile.every_s):
        for block in one.blocks:
            assert block.span.count <= limits_of(block, profile)


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_comes_out(name: str) -> None:
    case = golden(name)
    profile = loaded(name).profile
    image = Image(case.registers)
    found: dict[str, object] = {}
    for key, register in profile.identity.items():
        words = image.words(Span(register.table, register.address, register.count))
        found[key] = number_of(register, words) if isinstance(register, Register) else text_of(register, words)
    assert found == case.identity


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_written_as_the_maker_says(name: str) -> None:
    case = golden(name)
    settings = {setting.point: setting for setting in loaded(name).profile.settings}
    for one in case.writes:
        setting = settings[one.set]
        value = allowed(setting, one.value)
        assert value is not None, f"{one.set} can't be {one.value}"
        wanted = [Write(write.table, write.address, write.words, write.function) for write in one.writes]
        assert [write_of(setting, value)] == wanted
    assert {one.set for one in case.writes} == set(settings), "each setting of the profile needs a golden write"
