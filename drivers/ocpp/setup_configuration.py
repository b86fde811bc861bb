"""A charger's configuration in one form over both versions: 1.6 configuration keys, 2.0.1 variables of components.

Rules of this file:

1. Names are the version's own (``Key``, ``Component.Variable``). 1.6 keys are compared without case (evcc 16186) and
   set as the charger writes them; values are read without quotes and blanks around them (evcc 16255).
2. What was not told is not there, and is not set; where nothing at all was told, setting is tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.core.errors import CommandRejected
from drivers.ocpp.operations import Operations
from drivers.ocpp.operations201 import in_chunks, names_of
from drivers.ocpp.ports import ChargerState

SET = frozenset({"Accepted", "RebootRequired"})


@dataclass(frozen=True, slots=True)
class Names:
    """What is asked for, under the version's names; empty: this version has no such thing."""

    sample: str
    heartbeat: str
    ping: str
    stop_invalid: str
    offline_unknown: str
    measurands: str
    measurands_max: str
    rate_unit: str
    max_level: str
    max_periods: str
    connectors: str
    energy_too: tuple[str, ...] = ()  #: lists that must name the energy register

    def all(self) -> list[str]:
        """Every name, for reading."""
        names = [getattr(self, one) for one in self.__slots__ if one != "energy_too"]
        return [name for name in (*names, *self.energy_too) if name]


NAMES_16 = Names(
    sample="MeterValueSampleInterval",
    heartbeat="HeartbeatInterval",
    ping="WebSocketPingInterval",
    stop_invalid="StopTransactionOnInvalidId",
    offline_unknown="AllowOfflineTxForUnknownId",
    measurands="MeterValuesSampledData",
    measurands_max="MeterValuesSampledDataMaxLength",
    rate_unit="ChargingScheduleAllowedChargingRateUnit",
    max_level="ChargeProfileMaxStackLevel",
    max_periods="ChargingScheduleMaxPeriods",
    connectors="NumberOfConnectors",
)
NAMES_201 = Names(
    sample="SampledDataCtrlr.TxUpdatedInterval",
    heartbeat="OCPPCommCtrlr.HeartbeatInterval",
    ping="OCPPCommCtrlr.WebSocketPingInterval",
    stop_invalid="TxCtrlr.StopTxOnInvalidId",
    offline_unknown="AuthCtrlr.OfflineTxForUnknownIdEnabled",
    measurands="SampledDataCtrlr.TxUpdatedMeasurands",
    measurands_max="",
    rate_unit="SmartChargingCtrlr.RateUnit",
    max_level="SmartChargingCtrlr.ProfileStackLevel",
    max_periods="SmartChargingCtrlr.PeriodsPerSchedule",
    connectors="",
    energy_too=("SampledDataCtrlr.TxStartedMeasurands", "SampledDataCtrlr.TxEndedMeasurands"),
)


class Configuration(Protocol):
    """What a charger is configured to."""

    names: Names
    known: bool  #: whether anything was told

    async def read(self) -> None:
        """Ask for it. Raises as ``Link.call``."""

    def value(self, name: str) -> str | None:
        """A value, without quotes; None where there is none."""

    def fixed(self, name: str) -> bool:
        """Whether it can't be set: read-only, unknown to the charger, or not to be touched on this model."""

    async def put(self, name: str, value: str) -> str:
        """Set it; the charger's word for what came of it. Raises as ``Link.call``."""


def clean(value: object) -> str:
    """A value without the quotes and blanks that some chargers put around it."""
    return value.strip(" \0\"'") if isinstance(value, str) else ""


def csv(value: str | None) -> list[str]:
    """The members of a list."""
    return [clean(one) for one in clean(value).split(",") if clean(one)]


def same(one: str, other: str) -> bool:
    """Whether two values mean the same: numbers, booleans, or texts in any case."""
    if one.isdecimal() and other.isdecimal():
        return int(one) == int(other)
    return one.lower() == other.lower()


def configuration(state: ChargerState, operations: Operations) -> Configuration:
    """The one of the version that it speaks. Raises ``Unavailable``."""
    return Configuration201(state, operations) if state.link.version.two else Configuration16(state)


class Configuration16:
    """Keys of 1.6 (edition 2, 5.8 and 9)."""

    def __init__(self, state: ChargerState) -> None:
        self.names = NAMES_16
        self.known = False
        self._state = state
        self._keys: dict[str, tuple[str | None, bool]] = {}
        self._spelling: dict[str, str] = {}

    async def read(self) -> None:
        """All keys at once; of a charger that can't do that only those that we need."""
        if "GetConfiguration" in self._state.quirks.skip:
            return
        try:
            self._take(await self._state.link.call("GetConfiguration", {}))
        except CommandRejected:
            self._take(await self._state.link.call("GetConfiguration", {"key": self.names.all()}))

    def value(self, name: str) -> str | None:
        """A value, without quotes; None where there is none."""
        return self._keys.get(name.lower(), (None, False))[0]

    def fixed(self, name: str) -> bool:
        """Whether it can't be set."""
        if not name or f"Key.{name}" in self._state.quirks.skip or "ChangeConfiguration" in self._state.quirks.skip:
            return True
        return self._keys[name.lower()][1] if name.lower() in self._keys else self.known

    async def put(self, name: str, value: str) -> str:
        """ChangeConfiguration (5.3), with the key as the charger writes it."""
        key = self._spelling.get(name.lower(), name)
        answer = await self._state.link.call("ChangeConfiguration", {"key": key, "value": value})
        status = str(answer.get("status"))
        if status in SET:
            self._keys[name.lower()] = value, False
        return status

    def _take(self, answer: Mapping[str, object]) -> None:
        rows = answer.get("configurationKey")
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, Mapping) and isinstance(row.get("key"), str):
                value = row.get("value")
                told = None if value is None else clean(value) if isinstance(value, str) else str(value)
                key = clean(row["key"])
                self._keys[key.lower()] = told, row.get("readonly") is True
                self._spelling[key.lower()] = key
        self.known = bool(self._keys)


class Configuration201:
    """Variables of 2.0.1 (part 2, B05 and B06)."""

    def __init__(self, state: ChargerState, operations: Operations) -> None:
        self.names = NAMES_201
        self.known = False
        self._state = state
        self._operations = operations
        self._values: dict[str, str] = {}

    async def read(self) -> None:
        """Those that we need."""
        if "GetVariables" in self._state.quirks.skip:
            return
        items = [names_of(name) for name in self.names.all()]
        for one in await in_chunks(self._operations, "GetVariables", "getVariableData", items, "getVariableResult"):
            name = _name(one)
            if name and one.get("attributeStatus") == "Accepted":
                self._values[name.lower()] = clean(one.get("attributeValue"))
        self.known = bool(self._values)

    def value(self, name: str) -> str | None:
        """A value, without quotes; None where there is none."""
        return self._values.get(name.lower())

    def fixed(self, name: str) -> bool:
        """Whether it can't be set. Which variables are read-only is seen when they are set."""
        if not name or f"Key.{name}" in self._state.quirks.skip or "SetVariables" in self._state.quirks.skip:
            return True
        return name.lower() not in self._values and self.known

    async def put(self, name: str, value: str) -> str:
        """SetVariables of one."""
        item = {**names_of(name), "attributeValue": value}
        results: Sequence[Mapping[str, object]] = await in_chunks(
            self._operations, "SetVariables", "setVariableData", [item], "setVariableResult"
        )
        status = str(results[0].get("attributeStatus")) if results else "nothing"
        if status in SET:
            self._values[name.lower()] = value
        return status


def _name(one: Mapping[str, object]) -> str:
    component, variable = one.get("component"), one.get("variable")
    if not isinstance(component, Mapping) or not isinstance(variable, Mapping):
        return ""
    return f"{component.get('name')}.{variable.get('name')}"
