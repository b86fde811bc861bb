"""The site's settings in its file, what check says of one device, entries and models for forms."""

from pathlib import Path

import pytest

from agent.api.setup_view import FindingsError
from agent.config import Config, load_config
from agent.core.errors import ConfigError
from agent.site_check import SiteCheck
from agent.site_editor import SiteEditor, read_only
from agent.site_forms import SiteForms, without_secrets
from agent.site_settings import SiteSettings

pytestmark = pytest.mark.usefixtures("free_machine")

TEXT = """\
# the depot's own file
data_dir: %s   # fast disk
site: {id: depot-7, name: Old}   # as in the contract
api: {listen: "127.0.0.1:0"}
devices:
  - id: cp2    # wall, left
    driver: modbus
    profile: abb_terra_ac
    url: tcp://127.0.0.1:1502
"""
ENTRY = {"id": "cp1", "driver": "modbus", "profile": "abb_terra_ac", "url": "tcp://127.0.0.1:1503"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(TEXT % (tmp_path / "data"))
    return file


def settings_of(path: Path) -> SiteSettings:
    return SiteSettings(path, SiteEditor(path), lambda: load_config(path))


def check_of(path: Path) -> SiteCheck:
    config: Config = load_config(path)
    return SiteCheck(path, SiteEditor(path), lambda: config)


def test_settings_are_written_into_their_lines(path: Path) -> None:
    before = path.read_text()
    settings_of(path).change({"name": "Depot 7", "import_limit_a": 63, "timezone": "Europe/Madrid"})
    now = settings_of(path).now()
    assert (now.id, now.name, now.timezone, now.import_limit_a) == ("depot-7", "Depot 7", "Europe/Madrid", 63)
    changed = [line for line in path.read_text().splitlines() if line not in before.splitlines()]
    assert len(changed) == 1
    assert changed[0].endswith("# as in the contract")
    settings_of(path).change({"import_limit_a": None})
    assert settings_of(path).now().import_limit_a is None


def test_wrong_settings_are_not_written(path: Path) -> None:
    before = path.read_text()
    with pytest.raises(FindingsError, match="no known time zone") as caught:
        settings_of(path).change({"timezone": "Nowhere"})
    assert [(one.key, one.where) for one in caught.value.findings] == [("timezone", "site.yaml:3:42")]
    assert path.read_text() == before


def test_what_the_environment_says_is_not_changed_here(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENLACE_SITE_NAME", "Elsewhere")
    assert settings_of(path).now().locked == ("name",)
    with pytest.raises(ConfigError, match="environment"):
        settings_of(path).change({"name": "x"})
    settings_of(path).change({"timezone": "Europe/Madrid"})


def test_a_file_that_is_managed_elsewhere_is_not_written(path: Path) -> None:
    link = path.with_name("link.yaml")
    link.symlink_to(path)
    assert read_only(path) == ""
    assert "managed elsewhere" in settings_of(link).now().read_only
    with pytest.raises(ConfigError, match="managed elsewhere"):
        settings_of(link).change({"name": "x"})


def test_an_id_that_is_sent_to_a_central_server_means_more(path: Path) -> None:
    assert "stay here" in settings_of(path).now().id_change
    path.write_text(path.read_text() + "uplink: {broker: mqtt://127.0.0.1}\n")
    assert "central server" in settings_of(path).now().id_change


@pytest.mark.parametrize(
    ("entry", "severity", "key", "words"),
    [
        ({**ENTRY, "url": "x"}, "error", "url", "no Modbus wire"),
        ({**ENTRY, "profile": "abb_tera_ac"}, "error", "profile", "abb_terra_ac"),
        ({"id": "cp1", "driver": "modbus"}, "error", "profile", "missing"),
        ({**ENTRY, "id": "cp2"}, "error", "id", "two devices are called `cp2`"),
        ({**ENTRY, "colour": 1}, "error", "colour", "unknown key"),
        (
            {"id": "m", "driver": "serial_meter", "protocol": "dsmr", "port": "/dev/ttyNONE9"},
            "warning",
            "port",
            "/dev/ttyNONE9",
        ),
    ],
)
def test_check_says_what_is_about_a_device_and_where_in_it(
    path: Path, entry: dict[str, object], severity: str, key: str, words: str
) -> None:
    before = path.read_text()
    found = check_of(path).entry(entry)
    assert [one for one in found if (one.severity, one.key) == (severity, key) and words in one.text], found
    assert path.read_text() == before


def test_a_good_device_has_no_findings_and_one_in_its_place_neither(path: Path) -> None:
    assert check_of(path).entry(ENTRY) == []
    assert check_of(path).entry({**ENTRY, "id": "cp2"}, "cp2") == []
    check_of(path).refuse_wrong(ENTRY)
    with pytest.raises(FindingsError, match="no Modbus wire"):
        check_of(path).refuse_wrong({**ENTRY, "url": "x"})


def test_check_of_the_file_and_of_a_text_say_what_the_command_says(path: Path) -> None:
    assert check_of(path).file() == []
    (found,) = check_of(path).text("site: {id: a b}\n")
    assert (found.severity, found.where) == ("error", "site.yaml:1:12")
    assert found.text.startswith(f"{path}:1:12: `id`")


def test_entries_are_shown_as_the_file_has_them_without_secrets(path: Path) -> None:
    forms = SiteForms(path)
    shown = forms.entry("cp2")
    assert shown is not None
    assert (shown.entry["url"], shown.locked) == ("tcp://127.0.0.1:1502", "")
    assert forms.entry("nobody") is None
    text = "  - {id: b, driver: can, channel: c, interface: x, dbc: a.dbc, options: {auth_token: hunter2, rate: 5}}\n"
    path.write_text(path.read_text() + text)
    secret = forms.entry("b")
    assert secret is not None
    assert "hunter2" not in str(secret)
    assert secret.entry["options"] == {"rate": 5}
    assert "secret" in secret.locked
    assert without_secrets([{"key_file": "a", "private": 1, "pin": 2, "auth_key": "c"}]) == [{"key_file": "a"}]


def test_models_beside_the_configuration_come_first(path: Path) -> None:
    folder = path.parent / "profiles"
    folder.mkdir()
    (folder / "my_pack.yaml").write_text("name: my_pack\ndriver: can\npoints: {soc_pct: {signal: A.B}}\n")
    (folder / "broken.yaml").write_bytes(b"\xff")
    (folder / "gone.yaml").symlink_to("nowhere.yaml")
    models = SiteForms(path).profiles()
    assert (models[0].name, models[0].own, models[0].kind, models[0].needs) == (
        "my_pack",
        True,
        "battery",
        ("channel",),
    )
    terra = next(one for one in models if one.name == "abb_terra_ac")
    assert (terra.kind, terra.maker, terra.needs, terra.own) == ("charger", "ABB", ("url",), False)
    assert {"sunspec", "pylontech_lv"} <= {one.name for one in models}


def test_the_schema_has_the_keys_of_each_driver(path: Path) -> None:
    schema = SiteForms(path).schema()
    devices = schema["devices"]
    assert isinstance(devices, dict)
    assert set(devices) == {"can", "modbus", "serial_meter", "ocpp"}
    assert "url" in devices["modbus"]["required"]
