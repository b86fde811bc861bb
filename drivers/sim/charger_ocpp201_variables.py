"""The device model of the simulated 2.0.1 charger: components and variables (2.0.1 part 2, appendix 3.1).

Most are other names of the charger's keys; some are looked up when they are asked for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drivers.sim.charger_ocpp_core import ACCEPTED, Charger
from drivers.sim.charger_ocpp_model import MEASURANDS, Payload

DATA_TYPES = {"int": "integer", "bool": "boolean", "measurands": "MemberList", "text": "string"}
#: (component, variable, its instance) -> key
SAME_AS_KEY = {
    ("AlignedDataCtrlr", "Interval", ""): "ClockAlignedDataInterval",
    ("AlignedDataCtrlr", "Measurands", ""): "MeterValuesAlignedData",
    ("AlignedDataCtrlr", "TxEndedMeasurands", ""): "StopTxnAlignedData",
    ("AuthCtrlr", "AuthorizeRemoteStart", ""): "AuthorizeRemoteTxRequests",
    ("AuthCtrlr", "LocalAuthorizeOffline", ""): "LocalAuthorizeOffline",
    ("AuthCtrlr", "LocalPreAuthorize", ""): "LocalPreAuthorize",
    ("AuthCtrlr", "OfflineTxForUnknownIdEnabled", ""): "AllowOfflineTxForUnknownId",
    ("AuthCacheCtrlr", "Enabled", ""): "AuthorizationCacheEnabled",
    ("LocalAuthListCtrlr", "Enabled", ""): "LocalAuthListEnabled",
    ("LocalAuthListCtrlr", "ItemsPerMessage", ""): "SendLocalListMaxLength",
    ("OCPPCommCtrlr", "HeartbeatInterval", ""): "HeartbeatInterval",
    ("OCPPCommCtrlr", "MessageAttempts", "TransactionEvent"): "TransactionMessageAttempts",
    ("OCPPCommCtrlr", "MessageAttemptInterval", "TransactionEvent"): "TransactionMessageRetryInterval",
    ("OCPPCommCtrlr", "ResetRetries", ""): "ResetRetries",
    ("OCPPCommCtrlr", "UnlockOnEVSideDisconnect", ""): "UnlockConnectorOnEVSideDisconnect",
    ("OCPPCommCtrlr", "WebSocketPingInterval", ""): "WebSocketPingInterval",
    ("SampledDataCtrlr", "TxEndedMeasurands", ""): "StopTxnSampledData",
    ("SampledDataCtrlr", "TxUpdatedInterval", ""): "MeterValueSampleInterval",
    ("SampledDataCtrlr", "TxUpdatedMeasurands", ""): "MeterValuesSampledData",
    ("SecurityCtrlr", "BasicAuthPassword", ""): "AuthorizationKey",
    ("SecurityCtrlr", "OrganizationName", ""): "CpoName",
    ("SecurityCtrlr", "SecurityProfile", ""): "SecurityProfile",
    ("SmartChargingCtrlr", "ProfileStackLevel", ""): "ChargeProfileMaxStackLevel",
    ("SmartChargingCtrlr", "PeriodsPerSchedule", ""): "ChargingScheduleMaxPeriods",
    ("SmartChargingCtrlr", "Entries", "ChargingProfiles"): "MaxChargingProfilesInstalled",
    ("TxCtrlr", "EVConnectionTimeOut", ""): "ConnectionTimeOut",
    ("TxCtrlr", "StopTxOnEVSideDisconnect", ""): "StopTransactionOnEVSideDisconnect",
    ("TxCtrlr", "StopTxOnInvalidId", ""): "StopTransactionOnInvalidId",
}
#: Constants, with their type.
FIXED = {
    ("AlignedDataCtrlr", "Available", ""): ("true", "bool"),
    ("AuthCtrlr", "Enabled", ""): ("true", "bool"),
    ("DeviceDataCtrlr", "BytesPerMessage", "GetReport"): ("8192", "int"),
    ("DeviceDataCtrlr", "BytesPerMessage", "GetVariables"): ("8192", "int"),
    ("DeviceDataCtrlr", "BytesPerMessage", "SetVariables"): ("8192", "int"),
    ("DeviceDataCtrlr", "ItemsPerMessage", "GetReport"): ("20", "int"),
    ("DeviceDataCtrlr", "ItemsPerMessage", "GetVariables"): ("20", "int"),
    ("DeviceDataCtrlr", "ItemsPerMessage", "SetVariables"): ("20", "int"),
    ("LocalAuthListCtrlr", "BytesPerMessage", ""): ("8192", "int"),
    ("OCPPCommCtrlr", "FileTransferProtocols", ""): ("HTTPS", "measurands"),
    ("OCPPCommCtrlr", "MessageTimeout", "Default"): ("30", "int"),
    ("OCPPCommCtrlr", "NetworkConfigurationPriority", ""): ("1", "text"),
    ("ReservationCtrlr", "Available", ""): ("true", "bool"),
    ("SampledDataCtrlr", "Available", ""): ("true", "bool"),
    ("SampledDataCtrlr", "TxStartedMeasurands", ""): ("Energy.Active.Import.Register", "measurands"),
    ("SmartChargingCtrlr", "Available", ""): ("true", "bool"),
    ("SmartChargingCtrlr", "Enabled", ""): ("true", "bool"),
    ("SmartChargingCtrlr", "RateUnit", ""): ("A,W", "measurands"),
    ("TxCtrlr", "TxStartPoint", ""): ("PowerPathClosed", "measurands"),
    ("TxCtrlr", "TxStopPoint", ""): ("EVConnected,Authorized", "measurands"),
}


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of one component, read when it is asked for."""

    component: str
    name: str
    instance: str
    kind: str
    read: Callable[[], str] | None  #: None: write only
    write: Callable[[str], str] | None = None  #: None: read only
    evse: int = 0
    connector: int = 0

    def places(self) -> tuple[Payload, Payload]:
        """Component and variable as the messages name them."""
        component: Payload = {"name": self.component}
        if self.evse:
            component["evse"] = {"id": self.evse} | ({"connector_id": self.connector} if self.connector else {})
        return component, {"name": self.name} | ({"instance": self.instance} if self.instance else {})

    def report(self) -> Payload:
        """For NotifyReport."""
        component, variable = self.places()
        attribute: Payload = {"type": "Actual", "persistent": self.write is not None, "constant": False}
        attribute["mutability"] = (
            "WriteOnly" if self.read is None else "ReadOnly" if self.write is None else "ReadWrite"
        )
        if self.read is not None:
            attribute["value"] = self.read()
        characteristics: Payload = {"data_type": DATA_TYPES.get(self.kind, self.kind), "supports_monitoring": False}
        if self.kind == "measurands" and self.name.endswith("Measurands"):
            characteristics["values_list"] = ",".join(name for name in MEASURANDS if name != "Temperature")
        return {
            "component": component,
            "variable": variable,
            "variable_attribute": [attribute],
            "variable_characteristics": characteristics,
        }


def variables(charger: Charger) -> list[Variable]:
    """All that it has."""
    return [*_of_keys(charger), *_fixed(), *_live(charger)]


def _of_keys(charger: Charger) -> Iterator[Variable]:
    for (component, name, instance), key_name in SAME_AS_KEY.items():
        key = charger.keys[key_name]

        def write(value: str, key_name: str = key_name) -> str:
            return charger.set_key(key_name, value)

        def read(key_name: str = key_name) -> str:
            return charger.keys[key_name].value

        kind = "string" if component == "SecurityCtrlr" else "integer" if name == "Entries" else key.kind
        yield Variable(component, name, instance, kind, read if key.readable else None, write if key.writable else None)


def _fixed() -> Iterator[Variable]:
    for (component, name, instance), (value, kind) in FIXED.items():
        if name == "NetworkConfigurationPriority":
            yield Variable(component, name, instance, "SequenceList", lambda: "1", lambda _: ACCEPTED)
        else:
            yield Variable(component, name, instance, kind, lambda value=value: value)  # type: ignore[misc]


def _live(charger: Charger) -> Iterator[Variable]:
    settings = charger.settings
    yield Variable("ClockCtrlr", "DateTime", "", "dateTime", charger.stamp)
    yield Variable("LocalAuthListCtrlr", "Entries", "", "integer", lambda: str(len(charger.local_list)))
    yield Variable("SecurityCtrlr", "Identity", "", "string", lambda: settings.identity)
    yield Variable("ChargingStation", "Model", "", "string", lambda: settings.model)
    yield Variable("ChargingStation", "VendorName", "", "string", lambda: settings.vendor)
    yield Variable("ChargingStation", "FirmwareVersion", "", "string", lambda: charger.firmware)
    yield Variable("ChargingStation", "SupplyPhases", "", "integer", lambda: str(settings.phases))
    yield Variable(
        "ChargingStation",
        "AvailabilityState",
        "",
        "OptionList",
        lambda: "Available" if charger.operative else "Unavailable",
    )
    power_w = f"{settings.max_a * 230 * settings.phases:.0f}"
    for outlet in charger.outlets:

        def state(outlet=outlet) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001 - bound here
            return connector_status(outlet.status)

        yield Variable("EVSE", "AvailabilityState", "", "OptionList", state, evse=outlet.number)
        yield Variable("EVSE", "Power", "", "decimal", lambda: power_w, evse=outlet.number)
        yield Variable("EVSE", "SupplyPhases", "", "integer", lambda: str(settings.phases), evse=outlet.number)
        yield Variable("Connector", "ConnectorType", "", "string", lambda: "sType2", evse=outlet.number, connector=1)
        yield Variable("Connector", "AvailabilityState", "", "OptionList", state, evse=outlet.number, connector=1)


def connector_status(status: str) -> str:
    """2.0.1 ConnectorStatusEnum of 1.6's status."""
    return status if status in {"Available", "Reserved", "Unavailable", "Faulted"} else "Occupied"
