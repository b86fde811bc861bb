"""What chargers measure: OCPP's measurands, phases, locations and units against our points. Immutable tables.

Sources: OCPP 1.6 edition 2, 7.31 Measurand with Location, Phase, ReadingContext and UnitOfMeasure; OCPP 2.0.1 part 2,
MeasurandEnumType, PhaseEnumType, LocationEnumType and appendix 2 (standardised units); the enumerations in the schemas
of 2.1, of which only what has a point of ours is listed.

Rules of this file:

1. Names are looked up without regard to case, blanks and quotes around them; what comes out is the standard's spelling.
2. OCPP counts drawing and giving apart. Drawn power has the plain point (``power_w``), given power the export point;
   given current is the plain point's negative. ``ocpp_readings.totals`` puts both together.
3. A phase to neutral is that phase. Between two phases there are only voltages.
4. The location decides whether a value is about the charger at all. What the vehicle or a meter upstream measures has
   no point, but for the state of charge, which only the vehicle knows. Of one quantity at several places of the charger
   the place with the lowest rank counts: for electricity the outlet, where the session is; for temperature the body.
5. A missing unit is the quantity's default. A unit of another quantity means that nobody knows what the value is: it
   gets no point. Reactive energy may say Wh: 1.6 makes that the default unit of all measurands of energy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

REGISTER = "Energy.Active.Import.Register"  #: the measurand where none is named
PERIODIC = "Sample.Periodic"  #: the context where none is named
OUTLET = "Outlet"  #: the location where none is named

PHASES = ("L1", "L2", "L3", "N", "L1-N", "L2-N", "L3-N", "L1-L2", "L2-L3", "L3-L1")
CONTEXTS = (
    "Interruption.Begin",
    "Interruption.End",
    "Other",
    "Sample.Clock",
    "Sample.Periodic",
    "Transaction.Begin",
    "Transaction.End",
    "Trigger",
)
LOCATIONS = ("Body", "Cable", "EV", "Inlet", "Outlet", "Upstream")


@dataclass(frozen=True, slots=True)
class Unit:
    """How a value becomes one in our unit: (value + shift) * factor / divisor, in decimal."""

    factor: Decimal = Decimal(1)
    shift: Decimal = Decimal(0)
    divisor: Decimal = Decimal(1)

    def ours(self, value: Decimal) -> Decimal:
        """The value in our unit."""
        return (value + self.shift) * self.factor / self.divisor


SAME = Unit()
_ONE, _KILO, _MEGA, _MILLI, _CENTI = SAME, *(Unit(Decimal(text)) for text in ("1000", "1000000", "0.001", "0.01"))


@dataclass(frozen=True, slots=True)
class Quantity:
    """The units that a quantity may have. Keys are lower-case; one with capitals is looked up as it is (``MW``)."""

    units: Mapping[str, Unit]

    def unit(self, name: str) -> Unit | None:
        """The unit of a name; the default for no name; None for one of another quantity or of nobody."""
        return _ONE if not name else self.units.get(name) or self.units.get(name.casefold())


ENERGY = Quantity({"Wh": _ONE, "kWh": _KILO, "MWh": _MEGA, "wh": _ONE, "kwh": _KILO})
_REACTIVE_ENERGY = Quantity({"varh": _ONE, "kvarh": _KILO, "wh": _ONE, "kwh": _KILO})
_POWER = Quantity({"W": _ONE, "kW": _KILO, "MW": _MEGA, "w": _ONE, "kw": _KILO, "watt": _ONE, "watts": _ONE})
_REACTIVE_POWER = Quantity({"var": _ONE, "kvar": _KILO})
_CURRENT = Quantity({"A": _ONE, "a": _ONE, "ma": _MILLI, "amp": _ONE, "amps": _ONE, "ampere": _ONE})
_VOLTAGE = Quantity({"V": _ONE, "v": _ONE, "mV": _MILLI, "kv": _KILO, "volt": _ONE, "volts": _ONE})
_FREQUENCY = Quantity({"hz": _ONE, "hertz": _ONE})
_SHARE = Quantity({"Percent": _ONE, "percent": _ONE, "%": _ONE})
_FACTOR = Quantity({"percent": _CENTI, "%": _CENTI})
_SPEED = Quantity({"rpm": _ONE})
_KELVIN = Unit(shift=Decimal("-273.15"))
_FAHRENHEIT = Unit(shift=Decimal(-32), factor=Decimal(5), divisor=Decimal(9))
_TEMPERATURE = Quantity(
    {
        **dict.fromkeys(("Celsius", "celsius", "celcius", "c", "°c", "degc"), _ONE),  # Celcius: 1.6's own misprint
        **dict.fromkeys(("k", "kelvin"), _KELVIN),
        **dict.fromkeys(("fahrenheit", "f", "°f"), _FAHRENHEIT),
    }
)

_ELECTRIC = MappingProxyType({"Outlet": 0, "Body": 1, "Cable": 2, "Inlet": 3, "": 4})
_THERMAL = MappingProxyType({"Body": 0, "Outlet": 1})
_ANYWHERE = MappingProxyType(dict.fromkeys((*LOCATIONS, ""), 0))


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a measurand means to us. ``ranks``: location (empty: one that nobody knows) -> rank."""

    measurand: str
    points: Mapping[str, str]  #: phase -> point
    quantity: Quantity
    ranks: Mapping[str, int] = field(default_factory=lambda: _ELECTRIC)
    negative: bool = False  #: the point has the opposite sign

    def rank(self, location: str) -> int | None:
        """How much a place counts, 0 the most; None where it has no point."""
        found = self.ranks.get(location)
        return self.ranks.get("") if found is None and location not in LOCATIONS else found


def _phased(point: str) -> dict[str, str]:
    """Phase -> point where the vocabulary numbers three phases; ``*`` stands for the phase's part of the name."""
    found = {"": point.replace("*", "")}
    for phase in ("L1", "L2", "L3"):
        found[phase] = found[f"{phase}-N"] = point.replace("*", f"_{phase.lower()}")
    return found


def _plain(point: str) -> dict[str, str]:
    """Only without a phase."""
    return {"": point}


def _any_phase(point: str) -> dict[str, str]:
    """It is the same whatever the phase."""
    return dict.fromkeys(("", *PHASES), point)


_CURRENTS = {**_phased("current*_a"), "N": "current_n_a"}
_LINE_VOLTAGES = {"L1-L2": "voltage_l1_l2_v", "L2-L3": "voltage_l2_l3_v", "L3-L1": "voltage_l3_l1_v"}

_MEANINGS = (
    Meaning(REGISTER, _phased("energy_import*_wh"), ENERGY),
    Meaning("Energy.Active.Export.Register", _phased("energy_export*_wh"), ENERGY),
    Meaning("Energy.Reactive.Import.Register", _plain("reactive_energy_import_varh"), _REACTIVE_ENERGY),
    Meaning("Energy.Reactive.Export.Register", _plain("reactive_energy_export_varh"), _REACTIVE_ENERGY),
    Meaning("Power.Active.Import", _phased("power*_w"), _POWER),
    Meaning("Power.Active.Export", _phased("power_export*_w"), _POWER),
    Meaning("Power.Reactive.Import", _phased("reactive_power*_var"), _REACTIVE_POWER),
    Meaning("Power.Reactive.Export", _phased("reactive_power_export*_var"), _REACTIVE_POWER),
    Meaning("Power.Offered", _plain("power_offered_w"), _POWER),
    Meaning("Power.Import.Offered", _plain("power_offered_w"), _POWER),
    Meaning("Power.Factor", _phased("power_factor*"), _FACTOR),
    Meaning("Current.Import", _CURRENTS, _CURRENT),
    Meaning("Current.Export", _CURRENTS, _CURRENT, negative=True),
    Meaning("Current.Offered", _any_phase("current_offered_a"), _CURRENT),
    Meaning("Current.Import.Offered", _any_phase("current_offered_a"), _CURRENT),
    Meaning("Voltage", {**_phased("voltage*_v"), **_LINE_VOLTAGES}, _VOLTAGE),
    Meaning("Frequency", _any_phase("frequency_hz"), _FREQUENCY),
    Meaning("Temperature", _plain("temperature_degc"), _TEMPERATURE, _THERMAL),
    Meaning("RPM", _plain("fan_speed_rpm"), _SPEED),
    Meaning("SoC", _any_phase("soc_pct"), _SHARE, _ANYWHERE),
    Meaning("Display.PresentSOC", _any_phase("soc_pct"), _SHARE, _ANYWHERE),
)


def _by_name(names: tuple[str, ...]) -> Mapping[str, str]:
    """Names as they are and in lower case -> the standard's spelling."""
    return MappingProxyType({**{name.casefold(): name for name in names}, **{name: name for name in names}})


_MEASURANDS = {spelt: one for one in _MEANINGS for spelt in (one.measurand, one.measurand.casefold())}
#: Words of the standard that need no second look.
WORDS = frozenset(
    (*PHASES, *CONTEXTS, *LOCATIONS, *_MEASURANDS, "Wh", "kWh", "W", "kW", "A", "V", "Percent", "Celsius")
)
_PHASE_NAMES, _CONTEXT_NAMES, _LOCATION_NAMES = _by_name(PHASES), _by_name(CONTEXTS), _by_name(LOCATIONS)


def meaning(measurand: str, phase: str) -> tuple[Meaning | None, str]:
    """What a measurand means, and the phase. Where a charger writes the phase behind it (``Voltage.L1-N``), both."""
    found = _MEASURANDS.get(measurand) or _MEASURANDS.get(measurand.casefold())
    if found is None and not phase:
        base, _, last = measurand.rpartition(".")
        behind = _PHASE_NAMES.get(last.casefold())
        if behind is not None:
            return _MEASURANDS.get(base.casefold()), behind
    return found, _PHASE_NAMES.get(phase) or _PHASE_NAMES.get(phase.casefold(), phase)


def context_name(text: str) -> str:
    """A reading context in the standard's spelling; one that nobody knows as it is."""
    return _CONTEXT_NAMES.get(text) or _CONTEXT_NAMES.get(text.casefold(), text)


def location_name(text: str) -> str:
    """A location in the standard's spelling; one that nobody knows as it is."""
    return _LOCATION_NAMES.get(text) or _LOCATION_NAMES.get(text.casefold(), text)
