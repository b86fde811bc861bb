"""The units and what is installed with them: systemd's own checks, and that nothing names what is not there."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.alive import GRACE_S, LOOK_S, STUCK_S
from agent.app import CLOSE_S
from agent.cli.main import EXIT_CONFIG
from agent.cli.run import LEAVE_S
from agent.config import load_config
from agent.pipeline.supervisor import STOP_S

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
ANALYZE = shutil.which("systemd-analyze")
WANTED = "systemd-analyze is not here"


def service() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=", comment_prefixes="#")
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(UNITS / "enlace.service")
    return {key: value for section in parser.sections() for key, value in parser[section].items()}


@pytest.mark.skipif(ANALYZE is None, reason=WANTED)
def test_the_gateway_s_exposure_is_low() -> None:
    command = [str(ANALYZE), "security", "--offline=yes", "--threshold=20", "--no-pager"]
    done = subprocess.run(
        [*command, str(UNITS / "enlace.service")], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@pytest.mark.skipif(ANALYZE is None, reason=WANTED)
@pytest.mark.parametrize("name", ["enlace.service", "enlace-can@can0.service"])
def test_systemd_finds_nothing_wrong_in_the_units(name: str, tmp_path: Path) -> None:
    for unit in UNITS.glob("*.service"):
        shutil.copy(unit, tmp_path / unit.name.replace("@.", "@can0."))
    # Programs that the package brings, or that this machine may lack.
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(re.sub(r"^(Exec\w+=[-+]*)\S+", r"\1/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    mine = [line for line in (done.stdout + done.stderr).splitlines() if "enlace" in line]
    assert not mine, "\n".join(mine)


def test_a_missing_folder_of_secrets_does_not_keep_the_service_from_starting() -> None:
    # systemd.exec(5): a credential of the same name that is set here is taken where the loaded one is missing.
    unit = service()
    assert unit["SetCredential"].partition(":")[0] == unit["LoadCredential"].partition(":")[0]


def test_the_unit_fits_the_program() -> None:
    unit = service()
    assert unit["Type"] == "notify"
    assert unit["RestartPreventExitStatus"] == str(EXIT_CONFIG)
    # A stuck part is told of, and acted on, within 45 s; the watchdog alone takes no longer.
    assert STUCK_S + GRACE_S + 2 * LOOK_S <= 45
    assert int(unit["WatchdogSec"]) <= 45
    # Everything that a stop waits for, and what an interrupted statement may take.
    assert STOP_S + CLOSE_S + 2.0 + LEAVE_S <= 10 < int(unit["TimeoutStopSec"])


def test_a_drop_in_for_a_newer_systemd_is_not_in_the_unit_itself() -> None:
    assert "RestartSteps" not in (UNITS / "enlace.service").read_text()
    assert "RestartSteps" in (UNITS / "restart-steps.conf").read_text()


def test_what_the_package_installs_first_can_be_used() -> None:
    config = load_config(ROOT / "packaging" / "site.yaml", {})
    assert str(config.data_dir) == "/var/lib/enlace"
    assert service()["StateDirectory"] == "enlace"


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_the_package_s_scripts_are_shell(name: str) -> None:
    script = ROOT / "packaging" / "debian" / name
    done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True, check=False)  # noqa: S607
    assert done.returncode == 0, done.stderr
    assert "set -e" in script.read_text()


@pytest.mark.parametrize(("enabled", "told"), [("true", ["start enlace.service"]), ("false", [])])
def test_a_removal_that_is_called_off_starts_the_service_again(tmp_path: Path, enabled: str, told: list[str]) -> None:
    """prerm has stopped it by then. What the script calls is played by files in a folder of ours."""
    log = tmp_path / "log"
    for name, does in (("deb-systemd-invoke", f'echo "$@" >>{log}'), ("systemctl", enabled)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "booted").mkdir()
    script = (
        (ROOT / "packaging" / "debian" / "postinst").read_text().replace("/run/systemd/system", f"{tmp_path}/booted")
    )
    for word in ("abort-remove", "abort-deconfigure"):
        done = subprocess.run(
            ["sh", "-c", script, "postinst", word],  # noqa: S607
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            check=False,
        )
        assert done.returncode == 0
    assert (log.read_text().splitlines() if log.exists() else []) == told * 2
