"""Set-up over HTTP: settings, check, search, tests of devices, entries, models."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.api.setup_view import (
    CheckFinding,
    DeviceEntryNow,
    DeviceThereError,
    FindingsError,
    FoundDevice,
    KindStatus,
    NoDeviceError,
    OccupiedError,
    ProfileInfo,
    ScanStatus,
    ScanWanted,
    SetUp,
    SiteNow,
    Trial,
    TrialValue,
)
from agent.api.users import Role
from agent.core.errors import ConfigError
from tests.fake_view import START_US
from tests.unit.api_rig import Json, Rig, problem

pytestmark = pytest.mark.usefixtures("free_machine")

WRONG = CheckFinding("error", "site.yaml:3:5", "`url`: this is no Modbus wire", "write tcp://…", "url", "the line")
ENTRY = {"id": "cp1", "driver": "modbus", "profile": "abb_terra_ac", "url": "tcp://10.0.0.21:502"}


@dataclass
class FakeSetUp:
    """All ports of set-up; ``error`` is raised by whatever is asked next."""

    site: SiteNow = field(
        default_factory=lambda: SiteNow("depot-7", "", "UTC", None, 600, "", ("name",), "another site")
    )
    changed: list[Mapping[str, object]] = field(default_factory=list)
    started: list[ScanWanted] = field(default_factory=list)
    asked: list[object] = field(default_factory=list)
    running: bool = False
    blocked: bool = False  #: the event loop waited for the end of a search
    error: Exception | None = None

    def now(self) -> SiteNow:
        return self.site

    def change(self, values: Mapping[str, object]) -> object:
        self._fail()
        self.changed.append(values)
        self.site = replace(self.site, **values)  # type: ignore[arg-type] # its fields
        return values

    def status(self) -> ScanStatus:
        kind = KindStatus("modbus", "running", "unit 3", 1, 2, 4.0)
        found = FoundDevice("modbus", "ABB Terra AC", "unit 1: ABB", ENTRY, "- {id: cp1}", configured=False)
        return ScanStatus("running", START_US, None, [kind], ["found it"], [found]) if self.running else ScanStatus()

    def start(self, wanted: ScanWanted) -> None:
        self._fail()
        self.started.append(wanted)
        self.running = True

    def cancel(self) -> bool:
        self.blocked = threading.current_thread() is threading.main_thread()
        was, self.running = self.running, False
        return was

    async def entry(self, entry: Mapping[str, object]) -> Trial:
        self._fail()
        self.asked.append(entry)
        return Trial(True, "1 value", "", [TrialValue("charger_status", 3, "", "Charging")], 0.8)

    async def device(self, device: str) -> Trial:
        self._fail()
        self.asked.append(device)
        return Trial(False, "no answer", "is it on?")

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class FakeChecks:
    asked: list[object] = field(default_factory=list)

    def file(self) -> Sequence[CheckFinding]:
        return [CheckFinding("info", "", "all is well", text="all is well")]

    def text(self, text: str) -> Sequence[CheckFinding]:
        self.asked.append(text)
        return [WRONG]

    def entry(self, entry: Mapping[str, object], replaces: str = "") -> Sequence[CheckFinding]:
        self.asked.append((entry, replaces))
        return [WRONG]


@dataclass
class SetUpRig:
    rig: Rig
    fake: FakeSetUp
    checks: FakeChecks


def entry_of(device: str) -> DeviceEntryNow | None:
    return DeviceEntryNow(ENTRY, "- {id: cp1}", "it holds a secret") if device == "cp1" else None


PROFILES = [
    ProfileInfo("abb_terra_ac", "modbus", "charger", "ABB", "Terra AC", ("url",), 1),
    ProfileInfo("my_pack", "can", "battery", "", "my_pack", ("channel",), None, 500_000, own=True),
]


@pytest.fixture
def made(tmp_path: Path) -> SetUpRig:
    fake, checks = FakeSetUp(), FakeChecks()
    setup = SetUp(
        settings=fake,
        scans=fake,
        tests=fake,
        checks=checks,
        entry=entry_of,
        profiles=lambda: PROFILES,
        schema=lambda: {"site": {"type": "object"}, "devices": {"can": {"type": "object"}}},
    )
    return SetUpRig(Rig(tmp_path, setup=lambda: setup), fake, checks)


def good(made: SetUpRig, method: str, url: str, body: object = None, role: Role = Role.ADMIN) -> Json:
    more: Json = {} if body is None else {"json": body}
    answer = made.rig.call(method, url, role, **more)
    assert answer.status_code < 300, answer.text
    found: Json = answer.json()
    return found


def test_the_site_is_shown_and_changed(made: SetUpRig) -> None:
    shown = good(made, "GET", "/api/site", role=Role.VIEWER)
    assert (shown["id"], shown["editable"], shown["locked"]) == ("depot-7", True, ["name"])
    changed = good(made, "PATCH", "/api/site", {"timezone": "Europe/Madrid", "import_limit_a": 63})
    assert (changed["timezone"], changed["import_limit_a"]) == ("Europe/Madrid", 63)
    assert made.fake.changed == [{"timezone": "Europe/Madrid", "import_limit_a": 63}]
    assert ("user:admin", "change site (import_limit_a, timezone)", "site", "done") in made.rig.audit()


def test_no_fuse_is_null_and_what_is_absent_stays(made: SetUpRig) -> None:
    good(made, "PATCH", "/api/site", {"import_limit_a": None})
    assert made.fake.changed == [{"import_limit_a": None}]


def test_another_id_is_meant_or_refused(made: SetUpRig) -> None:
    problem(made.rig.call("PATCH", "/api/site", Role.ADMIN, json={"id": "depot-8"}), 409, "another site", "confirm_id")
    assert made.fake.changed == []
    good(made, "PATCH", "/api/site", {"id": "depot-7"})
    assert good(made, "PATCH", "/api/site", {"id": "depot-8", "confirm_id": True})["id"] == "depot-8"


@pytest.mark.parametrize("body", [{}, {"confirm_id": True}, {"timezone": None}, {"id": None}, {"more": 1}, {"name": 5}])
def test_a_change_that_is_none_is_refused(made: SetUpRig, body: Json) -> None:
    problem(made.rig.call("PATCH", "/api/site", Role.ADMIN, json=body), 422)
    assert made.fake.changed == []


def test_wrong_settings_are_refused_with_the_key_that_they_are_about(made: SetUpRig) -> None:
    made.fake.error = FindingsError("check", "`url`: this is no Modbus wire", [WRONG])
    told = problem(made.rig.call("PATCH", "/api/site", Role.ADMIN, json={"name": "x"}), 422, "no Modbus wire")
    assert told["errors"] == [
        {"where": "site.yaml:3:5", "what": "`url`: this is no Modbus wire", "hint": "write tcp://…", "key": "url"}
    ]
    assert ("user:admin", "change site (name)", "site", "refused") in made.rig.audit()


def test_what_is_written_and_does_not_run_is_said(tmp_path: Path) -> None:
    async def never(_: object) -> bool:
        return False

    rig = Rig(tmp_path, setup=lambda: SetUp(settings=FakeSetUp()), applied=never)
    problem(rig.call("PATCH", "/api/site", Role.ADMIN, json={"name": "x"}), 503, "written down")


def test_who_comes_second_with_the_same_change_is_told_what_who_comes_later_is(made: SetUpRig) -> None:
    """The file has the first one's change, which does not run yet; trial t3: it was 422 with findings."""
    made.rig.editor.error = DeviceThereError("edit site.yaml", "there is a device cp1 already")
    problem(made.rig.call("POST", "/api/devices", Role.ADMIN, json=ENTRY), 409, "there is a device cp1 already")
    made.rig.editor.error = NoDeviceError("edit site.yaml", "there is no device meter1")
    problem(made.rig.call("DELETE", "/api/devices/meter1", Role.ADMIN), 404, "no device meter1")
    problem(made.rig.call("PUT", "/api/devices/meter1", Role.ADMIN, json=ENTRY | {"id": "meter1"}), 404)
    assert made.rig.forgotten == []
    assert {one[3] for one in made.rig.audit()} == {"refused"}


def test_the_file_a_text_and_a_device_are_checked(made: SetUpRig) -> None:
    assert good(made, "GET", "/api/check")["ok"] is True
    told = good(made, "POST", "/api/check", {"text": "site: {}"})
    assert (told["ok"], told["findings"][0]["key"], told["findings"][0]["text"]) == (False, "url", "the line")
    good(made, "POST", "/api/check", {"entry": ENTRY, "replaces": "cp1"})
    assert made.checks.asked == ["site: {}", (ENTRY, "cp1")]


@pytest.mark.parametrize("body", [{}, {"text": "a", "entry": ENTRY}, {"entry": {"id": "x"}}, {"text": 5}])
def test_a_check_of_nothing_or_both_is_refused(made: SetUpRig, body: Json) -> None:
    problem(made.rig.call("POST", "/api/check", Role.ADMIN, json=body), 422)
    assert made.checks.asked == []


def test_a_search_is_begun_shown_and_ended(made: SetUpRig) -> None:
    assert good(made, "GET", "/api/scan", role=Role.OPERATOR)["state"] == "idle"
    problem(made.rig.call("DELETE", "/api/scan", Role.ADMIN), 409)
    answer = made.rig.call("POST", "/api/scan", Role.ADMIN, json={"kinds": ["modbus"], "hosts": ["10.0.0.21"]})
    assert answer.status_code == 202
    assert made.fake.started == [ScanWanted(("modbus",), ("10.0.0.21",), (), (), [])]
    shown = good(made, "GET", "/api/scan", role=Role.OPERATOR)
    assert (shown["kinds"][0]["detail"], shown["kinds"][0]["done"], shown["messages"]) == ("unit 3", 1, ["found it"])
    assert (shown["found"][0]["entry"], shown["found"][0]["yaml"]) == (ENTRY, "- {id: cp1}")
    assert good(made, "DELETE", "/api/scan")["state"] == "idle"
    assert [one[1] for one in made.rig.audit()] == ["scan modbus", "cancel scan"]
    assert not made.fake.blocked


def test_a_second_search_waits_for_the_first(made: SetUpRig) -> None:
    made.fake.error = OccupiedError("scan", "a search goes on already", "wait")
    problem(made.rig.call("POST", "/api/scan", Role.ADMIN, json={}), 409, "goes on already")
    made.fake.error = ConfigError("scan", "'x/y' is no host", "write 10.0.0.21")
    problem(made.rig.call("POST", "/api/scan", Role.ADMIN, json={"hosts": ["x/y"]}), 422, "no host")


@pytest.mark.parametrize("body", [{"kinds": []}, {"kinds": ["zigbee"]}, {"hosts": "10.0.0.1"}, {"units": [256]}])
def test_a_search_for_nothing_is_refused(made: SetUpRig, body: Json) -> None:
    problem(made.rig.call("POST", "/api/scan", Role.ADMIN, json=body), 422)
    assert made.fake.started == []


def test_devices_are_tested_saved_or_not(made: SetUpRig) -> None:
    told = good(made, "POST", "/api/devices/test", ENTRY)
    assert told == {
        "ok": True,
        "text": "1 value",
        "hint": "",
        "values": [{"point": "charger_status", "value": 3, "unit": "", "label": "Charging"}],
        "seconds": 0.8,
    }
    assert good(made, "POST", "/api/devices/meter1/test", role=Role.OPERATOR)["hint"] == "is it on?"
    assert made.fake.asked == [ENTRY, "meter1"]
    problem(made.rig.call("POST", "/api/devices/nobody/test", Role.OPERATOR), 404)
    assert [one[1:] for one in made.rig.audit()] == [("test entry", "cp1", "ok"), ("test device", "meter1", "failed")]
    made.fake.error = OccupiedError("test", "device cp2 has this wire", "save it")
    problem(made.rig.call("POST", "/api/devices/test", Role.ADMIN, json=ENTRY), 409, "cp2 has this wire")


def test_a_device_that_is_not_saved_says_which_key_is_wrong(made: SetUpRig) -> None:
    made.rig.editor.error = ConfigError("edit site.yaml", "no Modbus wire")
    for method, url, replaces in (("POST", "/api/devices", ""), ("PUT", "/api/devices/meter1", "meter1")):
        told = problem(made.rig.call(method, url, Role.ADMIN, json=ENTRY), 422, "no Modbus wire")
        assert [one["key"] for one in told["errors"]] == ["url"]
        assert made.checks.asked[-1] == (ENTRY, replaces)
        wrong = problem(made.rig.call(method, url, Role.ADMIN, json={**ENTRY, "id": "no id"}), 422, "body.id")
        assert [(one["where"], one["key"]) for one in wrong["errors"]] == [("body.id", "id")]
    told = problem(made.rig.call("DELETE", "/api/devices/meter1", Role.ADMIN), 422, "no Modbus wire")
    assert "errors" not in told


def test_an_entry_is_shown_for_editing(made: SetUpRig) -> None:
    shown = good(made, "GET", "/api/devices/cp1/entry")
    assert shown == {
        "id": "cp1",
        "entry": ENTRY,
        "yaml": "- {id: cp1}",
        "editable": False,
        "reason": "it holds a secret",
    }
    problem(made.rig.call("GET", "/api/devices/nobody/entry", Role.ADMIN), 404)


def test_models_are_listed_and_filtered(made: SetUpRig) -> None:
    def names(query: str) -> list[str]:
        return [one["name"] for one in good(made, "GET", f"/api/profiles{query}", role=Role.VIEWER)["items"]]

    assert names("") == ["abb_terra_ac", "my_pack"]
    assert names("?driver=can") == ["my_pack"]
    assert names("?name=terra%20AC") == ["abb_terra_ac"]
    assert good(made, "GET", "/api/profiles")["items"][0]["title"] == "ABB Terra AC"
    assert good(made, "GET", "/api/config/schema")["devices"] == {"can": {"type": "object"}}


def test_a_gateway_without_a_file_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for path in ("/api/site", "/api/scan", "/api/check", "/api/profiles", "/api/config/schema", "/api/devices/a/entry"):
        problem(rig.call("GET", path, Role.ADMIN), 503, "runs without")
