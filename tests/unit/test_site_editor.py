"""Devices are added to and taken out of the site's file, and what people wrote in it stays."""

import asyncio
import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.api.setup_view import DeviceThereError, NoDeviceError
from agent.config import Config, OcppDevice, load_config
from agent.config_changes import comes_to_run, hash_of
from agent.core.clock import FakeClock
from agent.core.errors import ConfigError
from agent.site_editor import SiteEditor, one_line

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
        ({**ENTRY, "id": "cp2"}, "there is a device cp2 already"),
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
    with pytest.raises(NoDeviceError, match="no device cp9"):
        SiteEditor(path).remove("cp9")


def test_of_equal_changes_one_is_made_and_the_others_know_why_not(path: Path) -> None:
    """Trial t3: while the first did not run yet, the others were told what is wrong with the file."""
    editor = SiteEditor(path)
    editor.add(ENTRY)
    with pytest.raises(DeviceThereError):
        editor.add(ENTRY)
    editor.remove("cp1")
    with pytest.raises(NoDeviceError):
        editor.remove("cp1")
    with pytest.raises(NoDeviceError):
        editor.replace("cp1", ENTRY)
    with pytest.raises(ConfigError, match="two devices are called `cp2`"):
        editor.replace("battery1", {**ENTRY, "id": "cp2"})


def comes_to(editor: SiteEditor, wanted: Config, running: Config) -> bool:
    return asyncio.run(comes_to_run(lambda: running, wanted, FakeClock(), 0, editor.since))


def test_a_change_that_is_written_over_runs_with_what_was_written_upon_it(path: Path) -> None:
    """Trial t5: of three changes of the site at once, two "did not run yet"."""
    editor, start = SiteEditor(path), load_config(path)
    added = editor.add(ENTRY)
    taken = editor.remove("cp2")
    assert not comes_to(editor, added, start)
    assert comes_to(editor, added, added)
    assert comes_to(editor, added, taken)
    assert not comes_to(editor, taken, added), "it came before"
    back = editor.remove("cp1")
    again = editor.add(ENTRY)
    assert hash_of(again) == hash_of(taken)
    assert not comes_to(editor, again, back)


def test_nobody_knows_what_somebody_else_wrote_over_a_change(path: Path) -> None:
    editor = SiteEditor(path)
    added = editor.add(ENTRY)
    path.write_text(TEXT)
    upon = editor.remove("cp2")
    assert not comes_to(editor, added, upon)
    assert comes_to(editor, upon, upon)


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


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("/dev/ttyUSB0", "/dev/ttyUSB0"),
        ("y", '"y"'),
        ("No", '"No"'),
        ("NaN", '"NaN"'),
        ("1e3", '"1e3"'),
        ("a b", '"a b"'),
    ],
)
def test_a_plain_word_stands_as_it_is_where_every_yaml_reads_it_as_text(value: str, written: str) -> None:
    assert one_line(value) == written


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
