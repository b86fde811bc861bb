"""Ready-made alarms: which fit whom, and that each is raised by what it is about and by nothing less."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apprise
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.alarm_sets import AlarmSetFile, ReadyMade, expand, load_alarm_sets, read_alarm_set
from agent.api.telemetry_bodies import DEVICE
from agent.config import CanDevice
from agent.config_control import Alarm, AlarmAct, AlarmSet, Channel
from agent.control.facts import Facts
from agent.control.when import Condition
from agent.control.when_compile import Judge, compile_truth
from agent.core.errors import ConfigError
from agent.core.model import POSTED_ENERGY, POSTED_READINGS, Batch, Encoding, Number, Signal, SignalSpec, float_to_word
from agent.core.points import POINTS
from agent.pipeline.columns import rows_of
from agent.yamlfile import Section, parse, read_text, validate
from docs import alarms as alarms_page

ROOT = Path(__file__).resolve().parents[2]
SETS = load_alarm_sets([ROOT / "config" / "alarms"])
BY_NAME = {one.name: one for one in SETS}
T0_S = 1000.0


@dataclass(frozen=True)
class Device:
    id: str
    driver: str = "modbus"
    every_s: float | None = None


def _case_file(name: str) -> dict[str, Any]:
    path = ROOT / "tests" / "cases" / "alarm_sets" / f"{name}.yaml"
    document, problems = parse(read_text(path), str(path))
    assert document is not None
    assert not problems
    assert isinstance(document.data, dict)
    return document.data


CASES = {one.name: _case_file(one.name) for one in SETS}


def _signals(case: Mapping[str, Any], without: Sequence[str] = ()) -> list[Signal]:
    labels = case.get("labels", {})
    found = [name for name in case["base"] if name.partition(".")[0] not in without]
    return [
        Signal(
            case["device"]["id"],
            name,
            POINTS[name.partition(".")[0]].unit,
            encoding=Encoding.FLOAT,
            labels=dict(enumerate(labels.get(name.partition(".")[0], ()))),
            id=number,
        )
        for number, name in enumerate(found, 1)
    ]


class World:
    """Signals with values over time, for the real conditions."""

    def __init__(self, signals: Sequence[Signal]) -> None:
        self._ids = {signal.name: signal.id for signal in signals}
        self._facts = Facts()
        self._facts.bind(signals, T0_S)
        self._now_s = T0_S

    def watch(self, condition: Condition) -> Judge:
        return compile_truth(condition.tree, self._facts)

    def put(self, values: Mapping[str, Number]) -> None:
        found = {self._ids[name]: value for name, value in values.items() if name in self._ids}
        words = [float_to_word(value) for value in found.values()]
        self._take(Batch(list(found), [round(self._now_s * 1e6)] * len(found), words))

    def lose(self, names: Sequence[str]) -> None:
        ids = [self._ids[name] for name in names]
        self._take(Batch(ids, [round(self._now_s * 1e6)] * len(ids), [0] * len(ids), valid=False))

    def _take(self, batch: Batch) -> None:
        if len(batch):
            for _, place, value in self._facts.news(rows_of(batch), self._now_s):
                self._facts.accept(place, value)

    def wait(self, seconds: float) -> None:
        self._now_s += seconds
        self._facts.tick(self._now_s)


def _outcome(
    name: str,
    state: Mapping[str, Any],
    without: Sequence[str] = (),
    values: Mapping[str, float] | None = None,
    only: str = "",
) -> dict[str, tuple[Alarm, bool | None, bool | None]]:
    """Template id with its suffix -> the alarm, whether its condition holds, and whether what ends it does."""
    case = CASES[name]
    device, signals = case["device"], _signals(case, without)
    others = tuple(one.id for one in BY_NAME[name].alarms if only and one.id != only)
    entry = AlarmSet(set=name, values=dict(values or {}), without=others)
    alarms = expand([entry], [Device(device["id"], device["driver"])], signals, SETS)
    world = World(signals)
    judged = {}
    for alarm in alarms:
        when, clear = alarm.conditions()
        judged[alarm.id] = (alarm, world.watch(when), clear and world.watch(clear))
    base = dict(case["base"])
    now = {**base, **state.get("before", {})}
    world.put(now)
    for _ in range(state.get("after_s", 0)):
        world.put(now)
        world.wait(1)
    world.put({**base, **state.get("set", {})})
    world.lose(state.get("unknown", ()))
    world.wait(state.get("silent_s", 0))
    prefix = f"{device['id']}-"
    return {
        key.removeprefix(prefix): (alarm, when(), clear() if clear else None)
        for key, (alarm, when, clear) in judged.items()
    }


def test_every_alarm_has_a_case_and_every_case_an_alarm() -> None:
    for one in SETS:
        assert [template.id for template in one.alarms] == list(CASES[one.name]["alarms"]), one.name


@pytest.mark.parametrize("name", BY_NAME)
def test_a_healthy_device_raises_nothing_and_ends_all(name: str) -> None:
    found = _outcome(name, {})
    assert found
    for key, (_, raised, over) in found.items():
        # A rate is not known before its time has passed.
        assert raised is not True, key
        assert over is not False, key


def _cases(name: str, alarm: str) -> list[dict[str, Any]]:
    found = CASES[name]["alarms"][alarm]
    return found if isinstance(found, list) else [found]


ALL_CASES = [
    (one.name, template.id, number)
    for one in SETS
    for template in one.alarms
    for number in range(len(_cases(one.name, template.id)))
]


@pytest.mark.parametrize(("name", "alarm", "number"), ALL_CASES)
def test_each_alarm_is_raised_by_what_it_is_about_and_by_nothing_less(name: str, alarm: str, number: int) -> None:
    case = _cases(name, alarm)[number]
    without, values = case.get("without", ()), case.get("values")
    raised = _outcome(name, case["raises"], without, values, alarm)
    mine = {key for key, (_, holds, _) in raised.items() if holds}
    assert mine == set(case.get("ids", [alarm]))
    assert not [key for key in mine if raised[key][2]], "what ends it holds while it is raised"
    quiet = _outcome(name, case["quiet"], without, values, alarm)
    assert not [key for key, (_, holds, _) in quiet.items() if holds]


def test_each_flag_of_a_bms_has_a_case_of_its_own() -> None:
    tried = {one for alarm in ("reported", "danger", "warned") for case in _cases("bms", alarm) for one in case["ids"]}
    assert tried == {key for key in _outcome("bms", {}) if key.split("-")[0] in {"reported", "danger", "warned"}}
    flags = {point for point in POINTS if point.startswith(("fault_", "warning_"))} - {"fault_code", "warning_code"}
    assert {one.partition("-")[2] for one in tried} == flags


def _specs(device: str, *points: str, labels: Mapping[int, str] | None = None) -> list[SignalSpec]:
    return [SignalSpec(device, point, labels=labels or {}) for point in points]


def _ids(alarms: Sequence[Alarm]) -> list[str]:
    return [one.id for one in alarms]


def test_without_a_word_every_device_gets_what_fits_it() -> None:
    signals = [
        *_specs("battery1", "soc_pct", "voltage_v"),
        *_specs("cp1", "charger_status", "voltage_l1_v", "soc_pct", labels={1: "Faulted"}),
        *_specs("grid", "voltage_l1_v", "frequency_hz"),
        *_specs("pv", "dc_voltage_v", "voltage_l1_v"),
        *_specs("gateway", "loop_lag_s"),
    ]
    devices = [Device("battery1"), Device("cp1"), Device("grid"), Device("pv"), Device("nothing")]
    found = expand(None, devices, signals)
    assert set(_ids(found)) == {
        *("battery1-silent", "battery1-quiet", "battery1-soc_low"),
        *("cp1-silent", "cp1-faulted", "cp1-voltage_high-voltage_l1_v", "cp1-voltage_low-voltage_l1_v"),
        *("grid-silent", "grid-voltage_high-voltage_l1_v", "grid-voltage_low-voltage_l1_v"),
        *("grid-frequency", "grid-frequency_critical"),
        *("gateway-silent", "gateway-lag"),
    }
    assert not any(one.then for one in found)
    assert expand([], devices, signals, SETS) == []


def test_an_alarm_names_the_alarms_of_its_own_device_that_explain_it() -> None:
    (one,) = [one for one in expand(None, [], _specs("b2", "soc_pct"), SETS) if one.id == "b2-quiet"]
    assert one.suppressed_by == ("b2-silent",)
    entry = AlarmSet(set="bms", without=("silent",))
    (one,) = [one for one in expand([entry], [], _specs("b2", "soc_pct"), SETS) if one.id == "b2-quiet"]
    assert one.suppressed_by == ()


def test_values_alarms_and_acts_of_an_entry_count_for_its_devices() -> None:
    act = AlarmAct(station="*", set="off")
    entries = [
        AlarmSet(set="bms", devices=("b2",), values={"soc_low_pct": 25.5}, without=("quiet",), then=(act,)),
        AlarmSet(set="bms"),
    ]
    found = {one.id: one for one in expand(entries, [], [*_specs("b1", "soc_pct"), *_specs("b2", "soc_pct")], SETS)}
    assert set(found) == {"b1-silent", "b1-quiet", "b1-soc_low", "b2-silent", "b2-soc_low"}
    assert found["b1-soc_low"].when == "b1.soc_pct < 10"
    assert found["b2-soc_low"].when == "b2.soc_pct < 25.5"
    assert [key for key, one in found.items() if one.then] == ["b2-silent"]  # the critical one


def test_a_device_that_is_named_gets_a_set_that_would_not_fit() -> None:
    signals = _specs("pv", "dc_voltage_v", "frequency_hz")
    found = expand([AlarmSet(set="meter", devices=("pv",))], [Device("pv")], signals, SETS)
    assert "pv-frequency" in _ids(found)


@pytest.mark.parametrize(
    ("device", "seconds"),
    [
        (Device("m", "modbus"), 60),
        (Device("m", "modbus", every_s=5), 60),
        (Device("m", "modbus", every_s=30), 150),
        (Device("m", "serial_meter"), 300),
        (Device("m", "serial_meter", every_s=900), 4500),
    ],
)
def test_silence_is_measured_by_how_often_a_device_is_asked(device: Device, seconds: int) -> None:
    (one,) = [one for one in expand(None, [device], _specs("m", "power_w"), SETS) if one.id == "m-silent"]
    assert one.when == f"silent(m, {seconds}s)"


def test_a_device_that_clients_post_may_be_silent() -> None:
    sources = {"car": POSTED_READINGS, "cold_room": POSTED_ENERGY, "battery1": "0x355 SoC"}
    points = {"car": "soc_pct", "cold_room": "energy_import_wh", "battery1": "soc_pct"}
    signals = [SignalSpec(one, points[one], source=source) for one, source in sources.items()]
    found = _ids(expand(None, [], signals, SETS))
    assert set(found) == {"battery1-silent", "battery1-quiet", "battery1-soc_low", "car-soc_low"}


def test_a_label_that_a_signal_never_shows_makes_no_alarm() -> None:
    signals = _specs("cp1", "charger_status", labels={0: "Available", 1: "Charging"})
    assert "cp1-faulted" not in _ids(expand(None, [Device("cp1")], signals, SETS))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (AlarmSet(set="bmss"), "there is no set `bmss`.*did you mean `bms`"),
        (AlarmSet(set="bms", devices=("b9",)), "there is no device `b9`"),
        (AlarmSet(set="bms", values={"soc_low": 3}), "there is no value `soc_low`.*did you mean `soc_low_pct`"),
        (AlarmSet(set="bms", without=("silence",)), "there is no alarm `silence`.*did you mean `silent`"),
    ],
)
def test_what_an_entry_names_must_be_there(entry: AlarmSet, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        expand([entry], [Device("b1")], _specs("b1", "soc_pct"), SETS)


def test_only_the_alarms_of_devices_that_changed_are_made_anew() -> None:
    ready, devices = ReadyMade(SETS), [Device("b1"), Device("b2")]
    signals = [*_specs("b1", "soc_pct"), *_specs("b2", "soc_pct")]
    first = {one.id: one for one in ready.alarms(None, devices, signals)}
    more = [*signals, *_specs("b2", "soh_pct")]
    second = {one.id: one for one in ready.alarms(None, devices, more)}
    assert set(second) - set(first) == {"b2-soh_low"}
    assert second["b1-soc_low"] is first["b1-soc_low"]
    other = [AlarmSet(set="bms", values={"soc_low_pct": 20})]
    third = {one.id: one for one in ready.alarms(other, devices, more)}
    assert third["b1-soc_low"].when == "b1.soc_pct < 20"
    assert list(third.values()) == expand(other, devices, more, SETS)
    assert ready.alarms(None, devices, []) == []


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (AlarmSet(set="bms", values={"silent_s": -1}), "b1-silent"),
    ],
)
def test_a_value_that_makes_no_condition_is_refused_with_the_alarms_name(entry: AlarmSet, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"{reason}.*look at the values that are given"):
        expand([entry], [], _specs("b1", "soc_pct"), SETS)


def test_a_device_with_the_longest_name_has_alarms_too() -> None:
    (one, *_) = expand([AlarmSet(set="bms")], [], _specs("b" * 64, "soc_pct"), SETS)
    assert one.id == "b" * 64 + "-silent"


def _points(data: object) -> list[str]:
    """All points of a device profile, with those of its parts."""
    if isinstance(data, list):
        return [point for one in data for point in _points(one)]
    if not isinstance(data, dict):
        return []
    own = data.get("points")
    return [*(own if isinstance(own, dict) else ()), *_points(list(data.values()))]


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_known_model_gets_the_alarms_of_its_kind(path: Path) -> None:
    document, _ = parse(read_text(path), str(path))
    assert document is not None
    points = set(_points(document.data))
    signals = _specs("x", *points, labels={1: "Faulted"})
    found = expand(None, [], signals, SETS)
    assert len({one.id for one in found}) == len(found)
    fitting = [one.name for one in SETS if expand([AlarmSet(set=one.name)], [], signals, SETS)]
    if "charger_status" in points:
        assert fitting == ["charger"]
    elif points & {"soc_pct", "charge_current_limit_a"}:
        assert fitting == ["bms"]
    elif "inverter_status" in points or "string_voltage_v" in points or "dc_power_w" in points:
        assert fitting == []  # they sleep at night
    else:
        assert fitting == ["meter"]


def test_a_battery_that_was_silent_is_back_after_10_s_of_talking_and_not_after_one_frame() -> None:
    signals = _signals(CASES["bms"])
    (silent, *_) = expand([AlarmSet(set="bms")], [Device("battery1", "can")], signals, SETS)
    assert (silent.id, silent.latch, silent.clear_for_s) == ("battery1-silent", True, 10)
    world = World(signals)
    when, clear = (world.watch(one) for one in silent.conditions() if one is not None)
    world.put(CASES["bms"]["base"])
    world.wait(60)
    assert (when(), clear()) == (True, False)
    world.put(CASES["bms"]["base"])
    assert (when(), clear()) == (False, True)
    world.wait(9)
    assert (when(), clear()) == (False, False)  # it counts from the beginning


def test_a_battery_that_repeats_itself_is_told_before_the_driver_takes_its_values_away() -> None:
    frozen_s = BY_NAME["bms"].values["frozen_s"].drivers["can"]
    assert frozen_s < CanDevice.model_fields["frozen_after_s"].default


class SetsOfPage(Section):
    alarm_sets: tuple[AlarmSet, ...]


class ChannelsOfPage(Section):
    notify: tuple[Channel, ...]


def test_the_page_of_alarms_is_what_the_sets_say() -> None:
    page = alarms_page.PAGE.read_text()
    assert page == alarms_page.render(page), "docs/alarms.md is out of date: run `make docs`"
    with pytest.raises(ValueError, match="ready-made"):
        alarms_page.render("# Alarms\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # one of Apprise's services tries an old module
def test_the_samples_of_the_page_of_alarms_can_be_used() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", alarms_page.PAGE.read_text(), re.DOTALL)
    (sets,) = (block for block in blocks if block.startswith("alarm_sets:"))
    (channels,) = (block for block in blocks if block.startswith("notify:"))
    sample, problems = validate(sets, "sample", SetsOfPage)
    assert sample is not None, problems
    signals = [*_specs("battery1", "soc_pct", "cell_voltage_max_v"), *_specs("grid", "current_l1_a")]
    found = {one.id: one for one in expand(sample.alarm_sets, [], signals, SETS)}
    assert found["battery1-cell_voltage_high"].when.endswith("> 3.65")
    assert found["battery1-cell_voltage_high"].then
    assert "grid-current_high-current_l1_a" in found
    told, problems = validate(channels, "sample", ChannelsOfPage)
    assert told is not None, problems
    (addresses,) = re.findall(r"```text\n(mailtos.*?)```", alarms_page.PAGE.read_text(), re.DOTALL)
    assert all(apprise.Apprise().add(line) for line in addresses.splitlines())


GOOD = """\
name: mine
text: mine
needs: [power_w]
values:
  high_w: {value: 100, unit: W, text: much, source: ours}
alarms:
  - {id: high, when: "{device}.power_w > {high_w}", text: "much at {device}"}
"""


def _read(tmp_path: Path, text: str) -> AlarmSetFile:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return read_alarm_set(path)


def test_a_sites_own_set_stands_beside_ours_or_in_place_of_one(tmp_path: Path) -> None:
    own = _read(tmp_path, GOOD)
    (tmp_path / "meter.yaml").write_text(GOOD.replace("name: mine", "name: meter"))
    sets = load_alarm_sets([tmp_path, tmp_path / "not there", ROOT / "config" / "alarms"])
    assert [one.name for one in sets] == ["bms", "charger", "gateway", "meter", "mine"]
    assert own in sets
    found = expand(None, [], _specs("m", "power_w"), sets)
    assert [(one.id, one.when, one.text) for one in found] == [
        ("m-high", "m.power_w > 100", "much at m"),
        ("m-high", "m.power_w > 100", "much at m"),
    ]


@given(st.from_regex(DEVICE, fullmatch=True))
@example("1")
@example("007")
@example("1e5")
@example("5-1")
@example("5e-1")
@example("9" * 64)
@example("5min")
@example("not")
def test_a_device_may_be_called_as_clients_call_theirs(name: str) -> None:
    found = expand(None, [], _specs(name, "soc_pct", "cell_voltage_max_v", "cell_voltage_min_v"), SETS)
    (silent,) = (one for one in found if one.id == f"{name}-silent")
    assert silent.conditions()[0].devices == {name}


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("name: mine", "name: yours", "mine.yaml:1:7: `yours` is not the file's name"),
        ("[power_w]", "[powr_w]", "mine.yaml:3:9: `powr_w` is no point; did you mean `power_w`?"),
        ("{device}.power_w", "{device}.powr_w", "mine.yaml:7:22: `powr_w` is no point; did you mean `power_w`?"),
        ("{high_w}", "{high}", "mine.yaml:7:5: `high` is none of the set's values; did you mean `high_w`?"),
        ("> {high_w}", "> ", "mine.yaml:7:22: condition, column"),
        ("id: high,", "id: high, for_s: long,", "`long` is none of the set's values"),
        ("id: high,", "id: high, suppressed_by: [low],", "no alarm above it is called `low`"),
        ("id: high,", "id: high, each: [powr_w],", "`powr_w` is no point"),
        ("id: high,", 'id: high, clear: "< x",', "condition, column"),
        (
            "alarms:\n",
            'alarms:\n  - {id: high, when: "{device}.power_w > 1", text: x}\n',
            "two alarms are called `high`",
        ),
        ("source: ours", "sorce: ours", "mine.yaml:5:45"),
    ],
)
def test_a_mistake_in_a_set_is_named_with_its_place(tmp_path: Path, old: str, new: str, finding: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, GOOD.replace(old, new))
    assert finding in str(caught.value)
