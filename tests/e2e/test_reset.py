"""``enlace reset``: nothing of the site is left behind, and nothing goes unasked or while a gateway runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.api.users import Role, UserBook
from agent.core.clock import SystemClock
from agent.core.model import Event
from agent.store.db import Store
from tests.e2e import site

SITE = """\
data_dir: {folder}/data
site: {{id: depot-7}}
api: {{listen: "127.0.0.1:0"}}
uplink: {{broker: "mqtt://127.0.0.1:9", username: depot, password_file: {folder}/broker.password}}
devices: []
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path, data = tmp_path / "site.yaml", tmp_path / "data"
    path.write_text(SITE.format(folder=tmp_path))
    (tmp_path / "broker.password").write_text("elsewhere")
    data.mkdir()
    (data / "api-tls").mkdir()
    (data / "api-tls" / "server.pem").write_text("canary of the key")
    store = Store.open(data / "enlace.db", SystemClock())
    store.record(Event("audit.note", 1, "canary of the ledger")).result(60)
    store.close()
    UserBook(data).add("ana", Role.ADMIN, "canary of a hash")
    (tmp_path / "kept").write_text("not of the gateway")
    (data / "link").symlink_to(tmp_path / "kept")
    return path


def reset(config: Path, *arguments: str, said: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent", "reset", "--config", str(config), *arguments]
    return subprocess.run(command, cwd=site.ROOT, input=said, capture_output=True, text=True, timeout=60, check=False)


def test_all_data_users_and_keys_go(config: Path) -> None:
    held = {path: path.open("rb") for path in (config.parent / "data").rglob("*") if path.is_file()}
    done = reset(config, said="depot-7\n")
    assert done.returncode == 0, done.stderr
    assert list((config.parent / "data").iterdir()) == []
    for path, file in held.items():  # whoever had it open reads nothing of it either
        if path.name != "link":
            assert b"canary" not in file.read(), path
        file.close()
    assert (config.parent / "kept").read_text() == "not of the gateway"
    assert config.exists()
    assert "broker.password" in done.stdout


@pytest.mark.parametrize("place", ["site.yaml", "etc/site.yaml"])
def test_a_configuration_that_stands_among_the_data_stays(config: Path, place: str) -> None:
    data = config.parent / "data"
    moved = data / place
    moved.parent.mkdir(exist_ok=True)
    config.rename(moved)
    done = reset(moved, "--yes")
    assert done.returncode == 0, done.stderr
    assert [path for path in data.rglob("*") if not path.is_dir()] == [moved]
    assert "depot-7" in moved.read_text()


@pytest.mark.parametrize("said", ["", "yes\n", "depot\n"])
def test_nothing_goes_unless_somebody_means_this_site(config: Path, said: str) -> None:
    done = reset(config, said=said)
    assert (done.returncode, done.stderr) == (1, "nothing was deleted\n")
    assert UserBook(config.parent / "data").get("ana") is not None


def test_nothing_goes_while_a_gateway_runs(config: Path) -> None:
    store = Store.open(config.parent / "data" / "enlace.db", SystemClock())
    done = reset(config, "--yes")
    store.close()
    assert done.returncode == 2
    assert "a gateway runs on it" in done.stderr
    assert UserBook(config.parent / "data").get("ana") is not None


def test_a_gateway_starts_as_new_after_it(config: Path, tmp_path: Path) -> None:
    assert reset(config, "--yes").returncode == 0
    log = tmp_path / "run.log"
    with site.process("agent", "run", "--config", str(config), log=log) as running:
        site.wait_until(lambda: "set it up with the code" in log.read_text(), "no set-up code")
        assert site.end(running) == 0
