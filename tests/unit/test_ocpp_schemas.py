"""The standard's schemas, lenient for what chargers send and strict for what we send."""

from importlib.resources import files

import pytest

from drivers.codec.ocpp_model import Version
from drivers.ocpp.schemas import Schemas

PROFILE = {
    "chargingProfileId": 1,
    "stackLevel": 0,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Absolute",
}


@pytest.mark.parametrize("version", list(Version))
def test_every_schema_of_the_package_compiles_and_works(version: Version) -> None:
    schemas = Schemas()
    folder = files("ocpp") / {"ocpp1.6": "v16", "ocpp2.0.1": "v201", "ocpp2.1": "v21"}[version] / "schemas"
    names = {file.name.removesuffix(".json") for file in folder.iterdir()}
    assert len(names) >= 56
    for name in names:
        action, result = name.removesuffix("Response").removesuffix("Request"), name.endswith("Response")
        # A list is never a payload: only a compiled schema says so in these words.
        assert "must be object" in schemas.deviation(version, action, [], result=result), name
        if not result:
            assert schemas.knows(version, action)
    assert not schemas.knows(version, "Teleport")
    assert not schemas.knows(version, "../v16/schemas/Heartbeat")
    assert not schemas.knows(version, "HeartbeatResponse")


def test_what_chargers_add_is_theirs_and_what_we_send_is_exact() -> None:
    schemas = Schemas()
    payload = {"idTag": "A", "vendorThing": 1}
    assert schemas.deviation(Version.V16, "Authorize", payload) == ""
    assert "vendorThing" in schemas.deviation(Version.V16, "Authorize", payload, strict=True)
    assert "idTag" in schemas.deviation(Version.V16, "Authorize", {})
    assert schemas.deviation(Version.V16, "Authorize", {"idTag": "A" * 21}).startswith("idTag must be shorter")
    assert schemas.deviation(Version.V16, "Authorize", {"idTag": 7}) == "idTag must be string"
    assert schemas.deviation(Version.V16, "Teleport", {}) == "no message of this version"
    assert schemas.missing(Version.V16, "ChangeAvailability", {}) == ["status"]
    assert schemas.missing(Version.V16, "GetConfiguration", {}) == []


@pytest.mark.parametrize("time", ["2026-11-21T05:00:00", "2026-11-21T05:00:00+03", "yesterday", ""])
def test_formats_never_count(time: str) -> None:
    schemas = Schemas()
    start = {"connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": time}
    assert schemas.deviation(Version.V16, "StartTransaction", start) == ""
    status = {"timestamp": time, "connectorStatus": "Available", "evseId": 1, "connectorId": 1}
    assert schemas.deviation(Version.V201, "StatusNotification", status) == ""


@pytest.mark.parametrize(("limit", "fits"), [(21.4, True), (16, True), (0.1, True), (6.3, True), (21.43, False)])
def test_limits_of_one_digit(limit: float, fits: bool) -> None:  # noqa: FBT001 - a column of the table
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}]}
    payload = {"connectorId": 1, "csChargingProfiles": PROFILE | {"chargingSchedule": schedule}}
    schemas = Schemas()
    assert (schemas.deviation(Version.V16, "SetChargingProfile", payload, strict=True) == "") is fits
    assert schemas.deviation(Version.V16, "SetChargingProfile", payload) == ""


def test_names_that_chargers_invent_are_not_kept() -> None:
    schemas = Schemas()
    for number in range(1000):
        assert not schemas.knows(Version.V16, f"Invented{number}")
        assert schemas.deviation(Version.V16, f"Invented{number}", {})
    assert not schemas._schemas
    assert not schemas._checks


def test_what_is_usual_is_ready_before_it_is_needed() -> None:
    schemas = Schemas()
    for version in Version:
        forms = schemas.usual(version)
        assert forms
        for form in forms:
            assert schemas.knows(version, form[1]), "prepared for nothing"
            schemas.prepare(form)
        assert not schemas.usual(version)
    before = len(schemas._checks)
    assert schemas.deviation(Version.V201, "TransactionEvent", {})
    assert schemas.deviation(Version.V16, "SetChargingProfile", {}, strict=True)
    assert schemas.deviation(Version.V201, "RequestStartTransaction", {}, result=True)
    assert schemas.deviation(Version.V16, "BootNotification", {}, result=True, strict=True)
    assert len(schemas._checks) == before
