"""What ``enlace check`` finds about alarms, rules, channels, load management: what they name and nobody has."""

from pathlib import Path

import pytest

from agent.cli.main import main

pytestmark = pytest.mark.usefixtures("free_machine")

HEAD = """\
data_dir: {folder}/data
site: {{id: test, import_limit_a: 63}}
devices:
  - {{id: battery1, driver: can, interface: virtual, channel: v0, profile: demo_pack}}
  - {{id: cp2, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:1", every_s: 5}}
"""


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> list[str]:
    path = tmp_path / "site.yaml"
    path.write_text(HEAD.format(folder=tmp_path) + text)
    code = main(["check", "--config", str(path)])
    found = capsys.readouterr().out.splitlines()
    assert code == int(any(line.startswith("error") for line in found))
    return [line.replace(f"{path}:", "") for line in found]


def test_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ops.url").write_text("json://localhost\n")
    text = """\
alarms:
  - {id: hot, when: battery1.temperature_max_degc > 50, then: [{station: "*", set: "off"}], notify: [ops],
     suppressed_by: [battery1-silent]}
rules: [{id: low, when: "silent(cp2, 60s) or gateway.disk_free_pct < 5", then: [{station: cp2, limit_a: 6}]}]
alarm_sets: [{set: bms, devices: [battery1]}]
notify: [{id: ops, url_file: ops.url}]
"""
    assert check(tmp_path, capsys, text) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "alarms: [{id: hot, when: battery1.temperature_maxdegc > 50}]\n",
            "nobody has `battery1.temperature_maxdegc`; did you mean `battery1.temperature_max_degc`?",
        ),
        ("alarms: [{id: hot, when: batery1.soc_pct > 50}]\n", "there is no device `batery1`"),
        (
            'rules: [{id: r, when: \'cp2.charger_status == "Chargin"\', then: [{station: cp2, set: "off"}]}]\n',
            'nobody has `cp2.charger_status == "Chargin"`',
        ),
        (
            'alarms: [{id: hot, when: battery1.soc_pct > 50, then: [{station: cp9, set: "off"}]}]\n',
            "there is no station `cp9`: nothing is done",
        ),
        ("alarms: [{id: a, when: battery1.soc_pct > 5, suppressed_by: [b]}]\n", "there is no alarm `b`"),
        ("notify: [{id: ops, url_file: nowhere}]\n", "there is no file"),
        ("event_backend: {url: 'http://localhost', token_file: nowhere}\n", "there is no file"),
        ("stations: [{station: cp7}]\n", "there is no station `cp7`"),
        ("load_management: {meter: battery1, stations: [{station: cp2.2}]}\n", "there is no station `cp2.2`"),
        ("load_management: {meter: cp2, silent_s: 10}\n", "`cp2` is asked every 5 s"),
    ],
)
def test_a_warning_says_where_and_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    found = check(tmp_path, capsys, text)
    assert len(found) == 1, found
    assert found[0].startswith("warning: 6:")
    assert says in found[0]


def test_a_set_that_nobody_has_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = check(tmp_path, capsys, "alarm_sets: [{set: bmss}]\n")
    assert found.startswith("error: 6:")
    assert "bms" in found
