"""Devices are added to and taken out of the site's file, and what people wrote in it stays."""

import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import OcppDevice, load_config
from agent.core.errors import ConfigError
from agent.site_editor import SiteEditor

TEXT = """\
# Depot 7, north hall
data_dir: /tmp/enlace-test       # on the SSD
site: {id: depot-7, timezone: "Europe/Madrid"}
devices:
  # the old pack
  - {id: battery1, driver: can, channel: can0, profile: pylontech_lv}   # behind the door
  - id: cp2
    driver: modbus
    profile: abb_terra_ac
    url: tcp://127.0.0.1:1502    # wall, left
"""
ENTRY = {"id": "cp1", "driver": "ocpp", "charge_point_id": "CP-0001"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(TEXT)
    file.chmod(0o600)
    return file


def test_a_device_is_added_and_every_comment_stays(path: Path) -> None:
    config = SiteEditor(path).add(ENTRY)
    assert [device.id for device in config.devices] == ["battery1", "cp2", "cp1"]
    assert load_config(path) == config
    text = path.read_text()
    for comment in ("# Depot 7, north hall", "# on the SSD", "# the old pack", "# behind the door", "# wall, left"):
        assert comment in text
    assert [line for line in TEXT.splitlines() if line not in text.splitlines()] == []
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_first_device_of_a_file_without_any(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("site: {id: a}   # new\n")
    config = SiteEditor(path).add(ENTRY)
    assert isinstance(config.devices[0], OcppDevice)
    assert "# new" in path.read_text()


def test_a_device_is_replaced_and_removed(path: Path) -> None:
    editor = SiteEditor(path)
    editor.add(ENTRY)
    config = editor.replace("cp1", {**ENTRY, "connectors": 2})
    assert isinstance(config.devices[2], OcppDevice)
    assert config.devices[2].connectors == 2
    config = editor.remove("battery1")
    assert [device.id for device in config.devices] == ["cp2", "cp1"]
    assert "# wall, left" in path.read_text()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({**ENTRY, "id": "cp2"}, "two devices are called `cp2`"),
        ({**ENTRY, "connectors": 0}, "connectors"),
        ({**ENTRY, "colour": "red"}, "unknown key `colour`"),
        ({"id": "x", "driver": "modbus", "profile": "no_such", "url": "tcp://127.0.0.1"}, "no_such"),
    ],
)
def test_what_would_be_refused_is_never_written(path: Path, entry: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SiteEditor(path).add(entry)
    assert words in str(caught.value)
    assert path.read_text() == TEXT
    assert os.listdir(path.parent) == ["site.yaml"]  # noqa: PTH208 - names only


def test_a_device_that_is_not_there(path: Path) -> None:
    with pytest.raises(ConfigError, match="no device cp9"):
        SiteEditor(path).remove("cp9")


def test_a_file_that_somebody_broke_is_not_touched(path: Path) -> None:
    path.write_text(TEXT + "  - {id: half")
    with pytest.raises(ConfigError):
        SiteEditor(path).add(ENTRY)
    assert path.read_text().endswith("{id: half")


def test_two_at_once_are_both_there(path: Path) -> None:
    editor = SiteEditor(path)
    entries = [{**ENTRY, "id": f"cp{number}", "charge_point_id": f"CP-{number}"} for number in range(10, 18)]
    threads = [threading.Thread(target=editor.add, args=(entry,)) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {device.id for device in load_config(path).devices} >= {str(entry["id"]) for entry in entries}


@pytest.mark.parametrize("start", ["devices: []   # none yet\n", ""])
def test_the_list_may_be_empty(tmp_path: Path, start: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(f"site: {{id: a}}\n{start}log: {{level: info}}\n")
    assert [device.id for device in SiteEditor(path).add(ENTRY).devices] == ["cp1"]
    assert SiteEditor(path).remove("cp1").devices == ()
    assert "log: {level: info}" in path.read_text()


def test_a_list_in_brackets_is_left_to_people(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("site: {id: a}\ndevices: [{id: cp3, driver: ocpp, charge_point_id: X}]\n")
    with pytest.raises(ConfigError, match="brackets"):
        SiteEditor(path).add(ENTRY)


@settings(max_examples=25)
@given(st.text(min_size=1, max_size=30).filter(lambda text: text.isprintable() and text == text.strip()))
def test_any_name_comes_back_as_it_was(name: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "site.yaml"
        path.write_text(TEXT)
        assert SiteEditor(path).add({**ENTRY, "name": name}).devices[2].name == name


def test_comments_behind_the_last_device_stay_behind_the_new_one(path: Path) -> None:
    path.write_text(
        TEXT + "\n  # - {id: later, driver: ocpp, charge_point_id: X}\n\n# the store\nstore: {commit_s: 2}\n"
    )
    SiteEditor(path).add(ENTRY)
    assert path.read_text().endswith(
        "    url: tcp://127.0.0.1:1502    # wall, left\n"
        "  - {id: cp1, driver: ocpp, charge_point_id: CP-0001}\n"
        "\n  # - {id: later, driver: ocpp, charge_point_id: X}\n\n# the store\nstore: {commit_s: 2}\n"
    )
