"""``enlace rehearse``: what alarms would have told and done, over a store and over a log; and it changes nothing."""

import contextlib
import hashlib
import io
import json
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main
from agent.core.clock import FakeClock
from agent.core.model import Batch, Encoding, SignalSpec, float_to_word
from agent.store.db import Store
from agent.store.settings import StoreSettings
from tests.e2e.test_gateway import write_log

WAIT_S = 60.0
SECOND_US = 1_000_000
#: 2026-03-28 12:00 UTC
NOON_US = 1_774_699_200_000_000
HOT = SignalSpec("battery1", "temperature_max_degc", "°C", encoding=Encoding.FLOAT)
POWER = SignalSpec("cp1", "power_w", "W")

CONFIG = """\
data_dir: {folder}/data
site: {{id: test, timezone: America/Mexico_City}}
devices:
  - {{id: battery1, driver: can, channel: can0, profile: demo_pack}}
  - {{id: cp1, driver: ocpp, charge_point_id: CP-1}}
  - {{id: cp2, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:1", unit_id: 1}}
alarm_sets: []
alarms:
  - {{id: hot, when: "battery1.temperature_max_degc > 50", clear: "< 45", clear_for_s: 0, severity: critical,
      then: [{{station: cp1, set: "off"}}]}}
"""
RULES = """\
rules:
  - {id: warm, when: "battery1.temperature_max_degc > 40", clear_for_s: 0, then: [{station: "*", limit_a: 10}]}
  - {id: stop, when: "battery1.temperature_max_degc > 58", clear_for_s: 0,
     then: [{station: cp2, do: stop}, {station: cp9, do: stop}]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def put(store: Store, t_s: float, signal: int, value: float | None) -> None:
    word = 0 if value is None else float_to_word(value) if signal == 1 else int(value)
    columns = array("i", [signal]), array("q", [NOON_US + round(t_s * SECOND_US)]), array("q", [word])
    store.append(Batch(*columns, valid=value is not None))


@pytest.fixture
def history(config: Path) -> Iterator[Path]:
    """Two hours: hot from 10:00 (min:s) to 20:00 and from 100:00 on; the charger draws 6 kW all the time."""
    path = config.parent / "data" / "enlace.db"
    path.parent.mkdir()
    with closing(Store.open(path, FakeClock(NOON_US), StoreSettings())) as store:
        assert [one.id for one in store.assign([HOT, POWER])] == [1, 2]
        for t_s, value in ((0, 30.0), (600, 55.0), (900, 60.0), (1200, 40.0), (6000, 51.0), (7200, 52.0)):
            for minute in range(10 if t_s == 0 else 1):
                put(store, t_s + minute * 60, 1, value)
            put(store, t_s, 2, 6000)
            store.flush().result(WAIT_S)
            if t_s == 900:
                store.maintain().result(WAIT_S)  # some of it sealed, some not
        yield path


def rehearse(config: Path, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["rehearse", "--config", str(config), *arguments])
    return code, out.getvalue(), err.getvalue()


def lines(config: Path, *arguments: str) -> list[dict[str, Any]]:
    code, out, _ = rehearse(config, "--format", "jsonl", *arguments)
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_prints_what_would_have_been_told_and_done(config: Path, history: Path) -> None:
    *events, end = lines(config)
    told = [(one["time"][11:19], one["kind"], one["subject"]) for one in events]
    assert told == [
        ("12:10:00", "alarm.raised", "hot"),
        ("12:10:00", "station.decided", "cp1"),
        ("12:20:00", "alarm.cleared", "hot"),
        ("12:20:00", "station.decided", "cp1"),
        ("13:40:00", "alarm.raised", "hot"),
        ("13:40:00", "station.decided", "cp1"),
    ]
    assert events[0]["data"]["inputs"] == {"battery1.temperature_max_degc": 55}
    summary = end["summary"]
    assert (summary["rules"]["hot"]["raised"], summary["rules"]["hot"]["active"]) == (2, True)
    cp1 = summary["stations"]["cp1"]
    assert cp1["off_s"] == pytest.approx(600 + 1200, abs=3)
    assert cp1["not_delivered_wh"] == pytest.approx(3000, abs=10)
    assert summary["stations"]["cp2"] == {"switched_off": 0, "off_s": 0.0, "not_delivered_wh": None, "off": False}


def test_the_text_is_in_the_sites_time_and_ends_with_a_summary(config: Path, history: Path) -> None:
    code, out, err = rehearse(config)
    shown = out.splitlines()
    assert (code, err) == (0, "")
    assert shown[0].startswith(
        "2026-03-28 06:10:00  alarm hot raised (critical): battery1.temperature_max_degc is 55 °C"
    )
    assert shown[0].endswith("; does: cp1 off")
    assert shown[1].startswith("2026-03-28 06:10:00  station cp1: off by alarm hot since 06:10")
    assert shown[-3].startswith("-- over 2:00:00 of history, ")
    assert shown[-2] == "hot: raised 2 times, active for 0:30:00, and still at the end"
    assert shown[-1] == "station cp1: off for 0:30:00, and still at the end; it drew 3.000 kWh meanwhile"


def test_rules_of_a_file_take_the_place_of_the_configurations(config: Path, history: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    *events, end = lines(config, "--rule", str(rules))
    assert {one["subject"] for one in events} == {"warm", "stop", "cp1", "cp2"}
    assert list(end["summary"]["rules"]) == ["warm", "stop"]
    decided = [one["data"] for one in events if one["kind"] == "station.decided"]
    assert {one["limit_a"] for one in decided} == {10, None}
    _, out, err = rehearse(config, "--rule", str(rules))
    assert "no stations of the configuration, nothing is done with them: cp9" in err
    assert "06:15:00  station cp2: stop is ordered by rule:stop" in out
    assert "06:15:00  rule stop not done: stop of cp9: there is no station or device cp9" in out


def test_a_part_of_the_time_begins_as_it_stood_then(config: Path, history: Path) -> None:
    *events, end = lines(config, "--from", "2026-03-28T12:15:00Z", "--to", "2026-03-28T12:30:00Z")
    assert [one["kind"] for one in events] == ["alarm.cleared", "station.decided"]
    assert end["summary"]["seconds"] == 900
    assert end["summary"]["rules"]["hot"]["raised"] == 0
    assert end["summary"]["stations"]["cp1"]["off_s"] == pytest.approx(300, abs=3)


def test_nothing_is_written_beside_a_running_gateway(config: Path, history: Path) -> None:
    before = digest(history), [*history.parent.iterdir()]
    assert len(lines(config)) == 7
    assert (digest(history), [*history.parent.iterdir()]) == before


def test_where_raw_rows_were_dropped_it_says_so(config: Path, history: Path) -> None:
    import sqlite3  # noqa: PLC0415

    with closing(sqlite3.connect(history)) as connection:
        connection.execute("INSERT INTO mark VALUES('raw_cut_us', ?)", (NOON_US + 3000 * SECOND_US,))
        connection.commit()
    code, out, err = rehearse(config)
    assert code == 0
    assert err.startswith("before 2026-03-28T12:50:00.000000Z only averages and extremes are left")
    assert "-- over 1:10:00 of history" in out


def test_a_damaged_block_is_left_out_and_counted(config: Path, history: Path) -> None:
    import sqlite3  # noqa: PLC0415

    with closing(sqlite3.connect(history)) as connection:
        connection.execute("UPDATE hot SET crc = crc + 1 WHERE seq = (SELECT max(seq) FROM hot)")
        connection.commit()
    code, _, err = rehearse(config)
    assert (code, err) == (0, "blocks that can't be read, left out: 1\n")


def test_a_log_is_read_through_the_can_devices(config: Path, tmp_path: Path) -> None:
    log = tmp_path / "battery.log"
    write_log(log, 60)
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "alarms:\n"
        '  - {id: quiet, when: "silent(battery1, 20s)"}\n'
        '  - {id: some, when: "battery1.soc_pct > 1", then: [{station: cp1, set: "off"}]}\n'
    )
    *events, end = lines(config, "--rule", str(rules), "--log", str(log))
    assert [(one["kind"], one["subject"]) for one in events] == [("alarm.raised", "some"), ("station.decided", "cp1")]
    assert events[0]["time"].startswith("2023-11-14T22:13:")
    assert 55 < end["summary"]["seconds"] < 61
    assert not (tmp_path / "data").exists(), "the log is decoded in a folder of its own"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--from", "2027-01-01T00:00:00Z"], "there are no readings in that time: they go from 2026-03-28T12:00:00"),
        (["--rule", "{folder}/empty.yaml"], "there is neither an alarm nor a rule in"),
        (["--rule", "{folder}/bad.yaml"], "bad.yaml:1:"),
        (["--rule", "{folder}/twice.yaml"], "twice.yaml:2:14: two rules or alarms are called `x`"),
        (["--data-dir", "{folder}/nowhere"], "no such file"),
    ],
)
def test_what_can_not_be_rehearsed_is_said(config: Path, history: Path, arguments: list[str], text: str) -> None:
    (config.parent / "empty.yaml").write_text("rules: []\n")
    (config.parent / "bad.yaml").write_text('rules: [{id: x, when: "1 +", then: [{station: cp1, set: "off"}]}]\n')
    watched = '[{id: x, when: "cp1.power_w > 1", then: [{station: cp1, set: "off"}]}]'
    (config.parent / "twice.yaml").write_text(f"alarms: {watched}\nrules: {watched}\n")
    code, out, err = rehearse(config, *(one.format(folder=config.parent) for one in arguments))
    assert code in {2, 78}
    assert (out, text in err) == ("", True), err
