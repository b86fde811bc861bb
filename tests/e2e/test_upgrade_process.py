"""``enlace upgrade`` as a process: pip and venv, a gateway that is stopped and started, kill -9."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.upgrade.layout import Root
from agent.upgrade.make import make
from tests.e2e.site import ROOT, enlace, environment, wait_until
from tests.ports import free_port
from tests.upgrade_rig import NEW, write_keys, write_wheel

#: This checkout, as if it were the version that the wheel says.
PROGRAM = """\
import sys
sys.path[:0] = [{root!r}, {site!r}]
import agent
agent.__version__ = {version!r}
from agent.cli.main import main
{extra}
"""
#: A new version that never comes up.
CRASHES = "_sound = main\ndef main():\n    return 1 if 'run' in sys.argv else _sound()\n"


class Place:
    """A machine on which this checkout runs as version 0.1.0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = Root(folder / "opt")
        env = self.root.envs / "0.1.0" / "bin"
        env.mkdir(parents=True)
        (env / "enlace").write_text(f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -m agent "$@"\n')
        (env / "enlace").chmod(0o755)
        self.root.current.symlink_to("envs/0.1.0")
        self.config = folder / "site.yaml"
        self.config.write_text(
            f"data_dir: {folder}/data\nsite: {{id: depot}}\napi: {{listen: '127.0.0.1:{free_port()}'}}\n"
        )
        write_keys(folder, "release")
        self._service = f"{sys.executable} {ROOT}/tests/e2e/upgrade_service.py {self.root.path} {self.config}"

    def service(self, verb: str) -> None:
        subprocess.run([*self._service.split(), verb], check=True)

    def package(self, extra: str = "", says: str = NEW) -> Path:
        wheels = self.folder / "wheels"
        wheels.mkdir(exist_ok=True)
        site = sysconfig.get_paths()["purelib"]
        text = PROGRAM.format(root=str(ROOT), site=site, version=says, extra=extra)
        write_wheel(wheels, "enlace", NEW, {"enlace_test.py": text}, "enlace_test:main")
        make(self.folder / "p.upgrade", wheels, self.folder / "release.pem")
        return self.folder / "p.upgrade"

    def arguments(self, package: Path, steady_s: float = 0.5, within_s: float = 60.0) -> list[str]:
        return [
            "upgrade",
            str(package),
            *("--config", str(self.config), "--root", str(self.root.path), "--keys", str(self.folder / "release.pub")),
            *("--service", self._service + " {}", "--steady", str(steady_s), "--within", str(within_s)),
        ]

    def events(self) -> list[tuple[str, str]]:
        """What the ledger says of upgrades: kind and version."""
        done = enlace("audit", "export", "--config", str(self.config), "--kind", "upgrade.")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return [(one["kind"], json.loads(one["data"])["version"]) for one in found if "kind" in one]

    def runs(self) -> str:
        return str(self.root.running())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    found.service("start")
    try:
        wait_until((tmp_path / "data" / "enlace.db").exists, "the gateway runs")
        yield found
    finally:
        found.service("stop")


def test_a_real_environment_is_made_and_the_gateway_passes(place: Place) -> None:
    done = enlace(*place.arguments(place.package()))
    assert done.returncode == 0, done.stdout + done.stderr + (place.root.path / "gateway.log").read_text()
    assert done.stdout.splitlines()[-1] == f"Enlace {NEW} runs and is well"
    assert place.runs() == NEW
    assert (place.root.env(NEW) / "bin" / "python").exists()
    wait_until(lambda: place.events() == [("upgrade.done", NEW)], "the ledger says so")
    again = enlace(*place.arguments(place.package()))
    assert again.returncode == 2
    assert f"it is {NEW}, and {NEW} runs" in again.stderr


def test_a_version_that_does_not_come_up_is_undone(place: Place) -> None:
    done = enlace(*place.arguments(place.package(CRASHES), within_s=3.0))
    assert done.returncode == 2
    assert "the gateway does not answer" in done.stderr
    assert place.runs() == "0.1.0"
    wait_until(lambda: place.events() == [("upgrade.rolled_back", NEW)], "the ledger says so")


def test_wheels_that_do_not_start_or_lack_something_are_not_switched_to(place: Place) -> None:
    for extra, says, told in (("import nothing_such", NEW, "nothing_such"), ("", "3.0.0", "it says that it is")):
        done = enlace(*place.arguments(place.package(extra, says)))
        assert done.returncode == 2
        assert told in done.stderr
        assert place.runs() == "0.1.0"
        assert not place.root.env(NEW).exists()


@pytest.mark.parametrize("moment", ["making", "trying"])
def test_kill_9_leaves_the_former_version_at_the_next_start(place: Place, moment: str) -> None:
    journal = place.root.path / "upgrade.json"
    moments: dict[str, Callable[[], bool]] = {
        "making": (place.root.env(NEW) / "bin").exists,
        "trying": lambda: journal.exists() and '"trying"' in journal.read_text() and place.runs() == NEW,
    }
    command = [sys.executable, "-m", "agent", *place.arguments(place.package(), steady_s=600.0, within_s=600.0)]
    output = subprocess.DEVNULL
    # With what it runs at that moment: the service's own command would go on, beside the start below.
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=output, stderr=output, start_new_session=True
    ) as child:
        wait_until(lambda: moments[moment]() or child.poll() is not None, moment)
        os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    place.service("stop")
    place.service("start")
    assert place.runs() == "0.1.0"
    assert not journal.exists()
    assert not place.root.env(NEW).exists()
    wait_until(lambda: place.events() == [("upgrade.rolled_back", NEW)], "the ledger says so")


def test_another_upgrade_at_the_same_time_and_a_machine_without_versions_are_told(place: Place) -> None:
    with place.root.held() as mine:
        assert mine
        done = enlace(*place.arguments(place.package()))
        assert "another one is being done" in done.stderr
    checked = enlace(*place.arguments(place.package()), "--check")
    assert checked.stdout.strip().endswith("it fits here")
    place.root.current.unlink()
    done = enlace(*place.arguments(place.package()))
    assert done.returncode == 2
    assert "leads to no version" in done.stderr
    place.root.point(place.root.current, "0.1.0")
