"""Device models as data: ``config/profiles/*.yaml`` say which signals of a device are which points of our vocabulary.

Which kind of profile a file holds is said by its ``driver:``; those of Modbus are described in ``modbus_profiles.py``.

Rules of a profile with ``driver: can``:

1. ``points`` maps a name of ``agent/core/points.py`` to one DBC signal, ``Message.Signal``. Value in the point's unit =
   value in the DBC's unit * ``scale`` + ``offset``; raw values in ``missing`` are no readings.
2. An array takes one line: with ``count: 16`` the name stands without its ``.N``, and ``{n}`` in the signal counts from
   1 to 16.
3. Current, power and their limits follow the house's signs: positive = charging. A device that counts otherwise gets
   ``scale: -1``.
4. ``dbc`` names files that lie beside the profile, or in the ``dbc/`` that travels with the program.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from agent.core.errors import ConfigError
from agent.core.points import POINTS, find_point
from agent.modbus_loader import LoadedModbusProfile, load_modbus_profile
from agent.share import share_path
from agent.yamlfile import Document, Problem, Section, complaint, in_order, parse, read_text, refuse
from agent.yamlwords import did_you_mean
from drivers.can.devices import PointMap
from drivers.codec.dbc import MessageDef, SignalDef

_N = "{n}"
_SUFFIXES = (".yaml", ".yml")
_DRIVERS = ("can", "modbus")

#: What a value in a DBC's unit must be multiplied with, and what added, to be in the point's unit.
_CONVERSIONS: dict[str, dict[str, tuple[float, float]]] = {
    "V": {"V": (1, 0), "mV": (0.001, 0), "kV": (1000, 0)},
    "A": {"A": (1, 0), "mA": (0.001, 0), "kA": (1000, 0)},
    "W": {"W": (1, 0), "kW": (1000, 0)},
    "Wh": {"Wh": (1, 0), "kWh": (1000, 0), "MWh": (1e6, 0)},
    "Ah": {"Ah": (1, 0), "mAh": (0.001, 0)},
    "%": {"%": (1, 0)},
    "°C": {**dict.fromkeys(("degC", "°C", "C", "Celsius"), (1, 0)), "K": (1, -273.15), "degK": (1, -273.15)},
    "Ω": {**dict.fromkeys(("Ohm", "ohm", "Ω"), (1, 0)), "mOhm": (0.001, 0), "kOhm": (1000, 0), "MOhm": (1e6, 0)},
    "Hz": {"Hz": (1, 0)},
}
#: A factor may differ from the exact one by this part, a temperature's offset by this many kelvins: devices round.
_FACTOR_TOLERANCE = 1e-9
_OFFSET_TOLERANCE = 1.0


def _signal_name(value: str) -> str:
    message, dot, signal = value.partition(".")
    if not (message and dot and signal) or "." in signal or " " in value:
        raise complaint(f"`{value}` names no signal", "write Message.Signal as in the DBC file")
    return value


SignalName = Annotated[str, AfterValidator(_signal_name)]


class PointRow(Section):
    """One line of ``points``."""

    signal: SignalName = Field(description="Message.Signal of the DBC", examples=["PackStatus.Voltage"])
    scale: int | float = Field(default=1, description="factor from the DBC's unit to the point's; -1 turns the sign")
    offset: int | float = Field(default=0, description="added after the factor")
    missing: tuple[int | tuple[int, int], ...] = Field(
        default=(), max_length=16, description="raw values, or ranges [first, last] of them, that mean `not known`"
    )
    labels: dict[int, str] | None = Field(default=None, description="names of raw values, in place of the DBC's")
    count: Annotated[int, Field(ge=1, le=1000)] | None = Field(default=None, description="how many an array has")


class ProfileFile(Section):
    """A file of ``config/profiles``."""

    name: str = Field(description="the file's name without .yaml", examples=["my_battery"])
    driver: Literal["can"] = Field(description="what reads it; always can", examples=["can"])
    source: str = Field(description="where the facts come from, so that the next person can check them")
    bitrate: Annotated[int, Field(ge=10_000, le=1_000_000)] | None = Field(
        default=None, description="bit/s that the device speaks", examples=[500_000]
    )
    dbc: tuple[str, ...] = Field(min_length=1, description="DBC files", examples=["[my_battery.dbc]"])
    stale_after_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="silence that makes values invalid; default: 3 cycles of each message, whichever of its parts came",
    )
    alive: tuple[SignalName, ...] = Field(default=(), description="counters that move with each frame")
    keep_unmapped: bool = Field(default=False, description="also keep signals that no point maps")
    points: dict[str, PointRow] = Field(min_length=1, description="which point is which signal")


@dataclass(frozen=True, slots=True)
class CanProfile:
    """A loaded profile. ``dbc`` are existing files, ``points`` have their arrays written out."""

    name: str
    path: Path
    dbc: tuple[Path, ...]
    points: tuple[PointMap, ...]
    alive: tuple[str, ...] = ()
    bitrate: int | None = None
    stale_after_s: float | None = None
    keep_unmapped: bool = False
    document: Document = field(repr=False, compare=False, kw_only=True)  #: places findings in the file

    def check(self, messages: Iterable[MessageDef]) -> list[Problem]:
        """What does not fit the messages of its DBC files: signals that they lack, units that do not convert."""
        signals = {f"{message.name}.{signal.name}": signal for message in messages for signal in message.signals}
        return in_order(_misfits(self, signals))


def profile_folders(*extra: Path) -> tuple[Path, ...]:
    """Where profiles are looked for: these folders, then the ones that travel with the program."""
    return (*extra, share_path("config/profiles"))


def load_any_profile(name_or_path: str, search: Sequence[Path]) -> CanProfile | LoadedModbusProfile:
    """A profile by its name in one of the folders, or by the path of its file; its ``driver:`` says of which kind.

    Raises ``ConfigError`` with every finding, one per line.
    """
    path = _find(name_or_path, search)
    document, problems = parse(read_text(path), str(path))
    if document is None:
        raise refuse(path, problems)
    driver = document.data.get("driver") if isinstance(document.data, dict) else None
    if driver == "can":
        return _load_can(document, path)
    if driver == "modbus":
        return load_modbus_profile(document, path)
    if driver is None:
        raise refuse(path, [document.problem((), "`driver` is missing here", "add `driver: can` or `driver: modbus`")])
    hint = did_you_mean(str(driver), _DRIVERS)
    raise refuse(path, [document.problem(("driver",), f"no profile is for the driver `{driver}`", hint)])


def load_profile(name_or_path: str, search: Sequence[Path]) -> CanProfile:
    """A profile of a device on CAN, as ``load_any_profile``; another one is refused."""
    profile = load_any_profile(name_or_path, search)
    if isinstance(profile, CanProfile):
        return profile
    raise _other_driver(profile.path, profile.document, "modbus", "can")


def load_modbus(name_or_path: str, search: Sequence[Path]) -> LoadedModbusProfile:
    """A profile of a device on Modbus, as ``load_any_profile``; another one is refused."""
    profile = load_any_profile(name_or_path, search)
    if isinstance(profile, LoadedModbusProfile):
        return profile
    raise _other_driver(profile.path, profile.document, "can", "modbus")


def _other_driver(path: Path, document: Document, driver: str, wanted: str) -> ConfigError:
    text = f"this profile is for `driver: {driver}`, the device has `driver: {wanted}`"
    return refuse(path, [document.problem(("driver",), text, "name another profile, or change the device's driver")])


def _load_can(document: Document, path: Path) -> CanProfile:
    file, problems = document.check(ProfileFile)
    if file is None:
        raise refuse(path, problems)
    points = tuple(_point_maps(file))
    found = {name: _find_dbc(name, path.parent) for name in file.dbc}
    problems = list(_wrong_points(document, file)) or list(_doubles(document, file, points))
    problems += _no_dbc(document, file, found)
    if file.name != path.stem:
        hint = f"write `name: {path.stem}`, or rename the file"
        problems.append(document.problem(("name",), f"`{file.name}` is not the file's name", hint))
    if problems:
        raise refuse(path, in_order(problems))
    return CanProfile(
        name=file.name,
        path=path,
        dbc=tuple(dbc for dbc in found.values() if dbc is not None),
        points=points,
        alive=file.alive,
        bitrate=file.bitrate,
        stale_after_s=file.stale_after_s,
        keep_unmapped=file.keep_unmapped,
        document=document,
    )


def _find(name_or_path: str, search: Sequence[Path]) -> Path:
    if "/" in name_or_path or name_or_path.endswith(_SUFFIXES):
        return Path(name_or_path)
    for folder in search:
        for suffix in _SUFFIXES:
            path = folder / f"{name_or_path}{suffix}"
            if path.is_file():
                return path
    known = {path.stem for folder in search if folder.is_dir() for path in folder.iterdir() if path.suffix in _SUFFIXES}
    near = did_you_mean(name_or_path, known)
    hint = near if near.startswith("did") else "docs/profiles.md lists them and says how to write one"
    raise ConfigError(f"find profile {name_or_path}", "there is no such profile", hint)


def _find_dbc(name: str, beside: Path) -> Path | None:
    places = (beside / name, share_path("dbc") / name)
    return next((place for place in places if place.is_file()), None)


def _point_maps(file: ProfileFile) -> Iterator[PointMap]:
    """The rows of a profile, with arrays written out. Rows that ``_wrong_points`` refuses may be odd here."""
    for name, row in file.points.items():
        missing = tuple((one, one) if isinstance(one, int) else one for one in row.missing)
        if row.count is None:
            yield PointMap(name, row.signal, row.scale, row.offset, missing, row.labels)
        else:
            for n in range(1, row.count + 1):
                signal = row.signal.replace(_N, str(n))
                yield PointMap(f"{name}.{n}", signal, row.scale, row.offset, missing, row.labels)


def _wrong_points(document: Document, file: ProfileFile) -> Iterator[Problem]:
    for name, row in file.points.items():
        place = ("points", name)
        base = name.partition(".")[0]
        point = POINTS.get(base)
        if point is None:
            hint = did_you_mean(base, POINTS) or "the names stand in agent/core/points.py"
            yield document.problem(place, f"`{name}` is no point of the vocabulary", hint, at_key=True)
        elif row.count is None:
            if find_point(name) is None:
                hint = f"write `{name}.1`, or add `count:`" if point.array else f"write `{base}`"
                what = "is an array" if point.array else "is no array"
                yield document.problem(place, f"`{name}` {what}", hint, at_key=True)
            if _N in row.signal:
                yield document.problem((*place, "signal"), "`{n}` stands here without `count:`", "add `count: 16`")
        elif not point.array or name != base:
            text = f"`{name}` can't have `count:`: it is {'one of an array' if point.array else 'no array'}"
            hint = f"write `{base}`" if point.array else "delete `count:`"
            yield document.problem((*place, "count"), text, hint, at_key=True)
        elif _N not in row.signal:
            hint = "write {n} where the number stands"
            yield document.problem((*place, "signal"), "`{n}` is missing in a signal with `count:`", hint)
        if row.scale == 0:
            yield document.problem((*place, "scale"), "`scale` is 0, so all values would be the same", "delete it")


def _doubles(document: Document, file: ProfileFile, points: Sequence[PointMap]) -> Iterator[Problem]:
    """Points and signals that are named twice: each value has one name."""
    points_seen: set[str] = set()
    signals_seen: dict[str, str] = {}
    for row in points:
        key = row.point if row.point in file.points else row.point.partition(".")[0]
        if row.point in points_seen:
            yield document.problem(("points", key), f"`{row.point}` is mapped twice", "keep one", at_key=True)
        elif row.signal in signals_seen:
            text = f"`{row.signal}` is mapped to `{signals_seen[row.signal]}` already"
            yield document.problem(("points", key, "signal"), text, "map it once")
        points_seen.add(row.point)
        signals_seen.setdefault(row.signal, row.point)


def _no_dbc(document: Document, file: ProfileFile, found: dict[str, Path | None]) -> Iterator[Problem]:
    for index, name in enumerate(file.dbc):
        if found[name] is None:
            hint = did_you_mean(name, {path.name for path in share_path("dbc").glob("*.dbc")})
            text = f"`{name}` is neither beside the profile nor in the program's dbc folder"
            yield document.problem(("dbc", index), text, hint)


def _misfits(profile: CanProfile, signals: dict[str, SignalDef]) -> Iterator[Problem]:
    """Findings of rows that the DBC does not bear out."""
    document = profile.document
    for index, name in enumerate(profile.alive):
        if name not in signals:
            yield document.problem(("alive", index), f"the DBC has no signal `{name}`", did_you_mean(name, signals))
    for row in profile.points:
        exact = ("points", row.point)
        place = exact if exact in document.tree.values else ("points", row.point.partition(".")[0])
        signal = signals.get(row.signal)
        if signal is None:
            text = f"the DBC has no signal `{row.signal}`"
            yield document.problem((*place, "signal"), text, did_you_mean(row.signal, signals))
            continue
        low, high = _raw_range(signal)
        for value in itertools.chain.from_iterable(row.missing):
            if not low <= value <= high:
                text = f"`missing` names {value}, but `{row.signal}` has {signal.length} bits"
                yield document.problem((*place, "missing"), text, f"write raw values from {low} to {high}")
        mistake = _unit_mistake(row, signal)
        if mistake:
            yield document.problem(place, *mistake)


def _raw_range(signal: SignalDef) -> tuple[int, int]:
    """The raw values that a signal's bits can hold."""
    if signal.signed:
        return -(1 << signal.length - 1), (1 << signal.length - 1) - 1
    return 0, (1 << signal.length) - 1


def _unit_mistake(row: PointMap, signal: SignalDef) -> tuple[str, str] | None:
    """What is wrong with the factor between a DBC's unit and the point's, and what to write; units we know only."""
    point = find_point(row.point)
    known = _CONVERSIONS.get(point.unit) if point else None
    unit = signal.unit.strip()
    if point is None or known is None or not unit:
        return None
    if unit not in known:
        if any(unit in other for other in _CONVERSIONS.values()):
            return f"`{row.signal}` is in {unit}, `{row.point}` in {point.unit}", "map another point"
        return None  # a unit that we do not know: the profile's author does
    scale, offset = known[unit]
    if abs(abs(row.scale) - scale) > _FACTOR_TOLERANCE * scale or (
        point.unit == "°C" and abs(row.offset - offset) > _OFFSET_TOLERANCE
    ):
        text = f"`{row.signal}` is in {unit}, `{row.point}` in {point.unit}"
        return text, f"write `scale: {scale:g}`" + (f", `offset: {offset:g}`" if offset else "")
    return None
