"""Files of the configuration that systemd hands to the service."""

from pathlib import Path

import pytest

from agent import credentials
from agent.backup import named_files
from agent.config import load_config
from agent.core.errors import ConfigError

SITE = """
site: {{id: s, name: S, timezone: UTC}}
uplink:
  broker: mqtts://central.example:8883
  username: s
  password_file: {password}
  ca_file: ca.pem
"""


def load(folder: Path, password: str) -> tuple[Path | None, list[Path]]:
    path = folder / "site.yaml"
    path.write_text(SITE.format(password=password))
    config = load_config(path, {})
    assert config.uplink is not None
    found = config.uplink.settings("s", folder).password_file
    return found, [file for _, file in named_files(config, folder)]


def test_a_credential_is_the_file_that_systemd_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed = tmp_path / "handed"
    handed.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    assert load(tmp_path, "credential:broker")[0] == handed / "broker"
    (handed / "enlace_broker").touch()  # of the folder that the unit loads
    assert load(tmp_path, "credential:broker")[0] == handed / "enlace_broker"


def test_without_the_service_it_is_looked_for_where_the_service_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert load(tmp_path, "credential:broker")[0] == credentials.SERVICE / "broker"


def test_any_other_text_is_a_path_from_the_configuration_s_folder(tmp_path: Path) -> None:
    assert load(tmp_path, "broker-password")[0] == tmp_path / "broker-password"


def test_a_backup_leaves_credentials_to_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "handed"))
    assert load(tmp_path, "credential:broker")[1] == [tmp_path / "ca.pem"]
    assert load(tmp_path, "own")[1] == [tmp_path / "own", tmp_path / "ca.pem"]


@pytest.mark.parametrize("name", ["", "../shadow", "/etc/shadow", ".", "a b", "x" * 65])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no name of a credential"):
        load(tmp_path, f'"credential:{name}"')
