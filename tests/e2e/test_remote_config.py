"""Remote configuration: what is refused, what is on trial, what is put back; cut off at each step; and a real site."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer

from agent import config_trial, remote_config
from agent.api.view import DeviceInfo
from agent.config import Config, load_config
from agent.config_changes import hash_of
from agent.control.execution import Answer
from agent.control.model import Command, Origin, Outcome
from agent.core.clock import SystemClock
from agent.core.errors import ConfigError, Refusal, StoreError
from agent.core.model import Event
from agent.pipeline.health import Health, UnitState
from agent.remote_config import RemoteConfig, SiteView
from drivers.sim.charger_modbus import SimulatedCharger
from drivers.sim.evse import Evse
from tests.control_fakes import Rig, run
from tests.e2e.brokers import MOSQUITTO, broker_process
from tests.e2e.site import process
from tests.e2e.subscriber import until
from tests.e2e.test_mqtt_commands import Office, command, running
from tests.killed import killed_at
from tests.ports import free_port

TEXT = """\
# the depot
data_dir: {folder}/data
site: {{id: depot-7}}   # one of many
api: {{listen: "127.0.0.1:0"}}
devices:
  # a charger
  - {{id: cp1, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{modbus}", every_s: 0.5}}
alarm_sets: []
uplink: {{broker: "{broker}", configure: yes}}
"""
EVERY = "/devices/cp1/every_s"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute and more of the fast clock: the files are read in threads, which take the time that they take."""
    monkeypatch.setattr(remote_config, "APPLY_S", 10_000.0)


class FastClock(SystemClock):
    """A hundred times as fast."""

    def monotonic_s(self) -> float:
        return super().monotonic_s() * 100

    async def sleep_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


class FakeSite:
    """A gateway that applies its file as the real one does, with devices that are as a test wants them."""

    def __init__(self, folder: Path, text: str | None = None) -> None:
        self.path = folder / "site.yaml"
        self.path.write_text(text or TEXT.format(folder=folder, modbus=502, broker="mqtt://127.0.0.1:1883"))
        self.config: Config = load_config(self.path, {})
        self.ill: Callable[[Config], bool] = lambda _: False
        self.connected: Callable[[Config], bool] = lambda _: True
        self.applying = True
        self.events: list[Event] = []
        view = SiteView(lambda: self.config, self._devices, lambda: self.connected(self.config))
        self.remote = RemoteConfig(self.path, FastClock(), self.events.append, view)

    @property
    def text(self) -> str:
        return self.path.read_text()

    def _devices(self) -> list[DeviceInfo]:
        state = Health.OFFLINE if self.ill(self.config) else Health.ONLINE
        return [
            DeviceInfo(one.id, one.driver, None, UnitState(one.id, "wire", state, 0, "", "", None, 0, None))
            for one in self.config.devices
        ]

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            if self.applying:
                with suppress(ConfigError):
                    self.config = await asyncio.to_thread(load_config, self.path, {})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def do(self, action: str = "configure", **args: object) -> Answer:
        args = {"base": hash_of(self.config), "confirm_s": 30, **args} if action == "configure" else args
        return await self.remote.do(Command("c1", "gateway", action, args, Origin.REMOTE, "central:ana"))

    def one(self, action: str = "configure", **args: object) -> Answer:
        async def scenario() -> Answer:
            async with self.running():
                return await self.do(action, **args)

        return asyncio.run(scenario())

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def replace(path: str, value: object) -> list[dict[str, object]]:
    return [{"op": "replace", "path": path, "value": value}]


def test_a_change_that_stands_its_trial_stays_and_only_its_line_is_another(tmp_path: Path) -> None:
    site = FakeSite(tmp_path)
    before, old = site.text, hash_of(site.config)
    answer = site.one(patch=replace(EVERY, 5))
    assert (answer.outcome, answer.reason) == (Outcome.DONE, "")
    assert site.text == before.replace("every_s: 0.5", "every_s: 5")
    assert site.config.devices[0].every_s == 5  # type: ignore[union-attr] # it is on Modbus
    assert answer.data["hash"] == hash_of(site.config) == answer.data["new"] != old
    assert answer.data["devices"] == {"changed": ["cp1"]}
    assert answer.data["diff"][3].startswith("-  - {id: cp1")  # type: ignore[index] # lines
    (event,) = site.events
    assert (event.kind, event.data["by"], event.data["old"]) == ("config.trial", "central:ana", old)
    assert not config_trial.undo_unfinished(site.path)
    assert site.remote.ended()["c1"].outcome is Outcome.DONE


def test_the_open_database_is_not_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks into a database takes 50 MB, with which a small machine may be full: its health tells of it."""
    site = FakeSite(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/enlace.db").touch()
    looked: list[Path] = []

    def describe(path: Path) -> dict[str, int]:
        looked.append(path)
        raise StoreError("look", "not here")

    monkeypatch.setattr("agent.findings.describe", describe)
    assert site.one(patch=replace(EVERY, 5), dry_run=True).outcome is Outcome.DONE
    assert looked == []


def test_without_leave_nothing_is_told_or_changed(tmp_path: Path) -> None:
    site = FakeSite(tmp_path)
    site.path.write_text(site.text.replace(", configure: yes", ""))
    site.config = load_config(site.path, {})
    for action in ("configure", "configuration"):
        answer = site.one(action=action, patch=replace(EVERY, 5))
        assert (answer.outcome, answer.refusal) == (Outcome.REJECTED, Refusal.NOT_CAPABLE)
        assert not answer.data


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"base": "0" * 64}, "another configuration"),
        ({"patch": "no list"}, "patch is a list"),
        ({"confirm_s": 5}, "from 30 to 900"),
        ({"confirm_s": True}, "from 30 to 900"),
        ({"other": 1}, "no argument other"),
        ({"patch": replace("/devices/cp9/every_s", 5)}, "no entry `cp9`"),
        ({"patch": replace("/data_dir", "/elsewhere")}, "data_dir can't be changed"),
        ({"patch": replace("/devices/cp1/profile", "nothing_like_it")}, "no such profile"),
        ({"patch": replace(EVERY, "often")}, "every_s"),
        ({"patch": [{"op": "add", "path": "/colour", "value": "red"}]}, "colour"),
    ],
)
def test_what_can_not_be_done_is_refused_in_words_and_changes_nothing(
    tmp_path: Path, args: Mapping[str, object], words: str
) -> None:
    site = FakeSite(tmp_path)
    before = site.text
    answer = site.one("configure", **{"patch": replace(EVERY, 5), **args})
    assert answer.outcome is Outcome.REJECTED
    assert words in answer.reason
    assert site.text == before
    assert not site.events
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site.yaml"]


def test_the_words_are_those_of_check(tmp_path: Path) -> None:
    site = FakeSite(tmp_path)
    error = str(site.one(patch=replace(EVERY, -1)).reason).removeprefix("it can't be used: ")
    assert error.startswith("site.yaml:7:"), error
    assert "every_s" in error


def test_a_dry_run_says_what_would_be_and_does_nothing(tmp_path: Path) -> None:
    site = FakeSite(tmp_path)
    before = site.text
    answer = site.one(patch=replace(EVERY, 5), dry_run=True)
    assert answer.outcome is Outcome.DONE
    assert answer.data["sections"] == ["devices"]
    assert site.text == before
    assert "nothing" in site.one(patch=replace(EVERY, 0.5)).reason


@pytest.mark.parametrize("what", ["device", "broker", "both"])
def test_what_does_not_come_back_has_the_former_text_put_back(tmp_path: Path, what: str) -> None:
    site = FakeSite(tmp_path)
    before, old = site.text, site.config
    if what != "broker":
        site.ill = lambda config: config.devices[0].every_s == 5  # type: ignore[union-attr] # it is on Modbus
    if what != "device":
        site.connected = lambda config: config == old
    answer = site.one(patch=replace(EVERY, 5))
    assert answer.outcome is Outcome.FAILED
    assert ("cp1" in answer.reason) == (what != "broker")
    assert ("the connection to the broker" in answer.reason) == (what != "device")
    assert site.text == before
    assert site.config == old
    assert site.kinds() == ["config.trial", "config.rolled_back"]


@pytest.mark.parametrize("full", [False, True])
def test_a_disk_that_can_not_note_the_end_of_a_trial_leaves_the_former_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    site = FakeSite(tmp_path)
    before = site.text
    with monkeypatch.context() as patch:
        patch.setattr(config_trial, "keep", fail)
        if full:
            patch.setattr(config_trial, "undo", fail)
        answer = site.one(patch=replace(EVERY, 5))
    assert answer.outcome is Outcome.FAILED
    assert "that it stays could not be written down: No space left on device" in answer.reason
    assert ("the next start does it" in answer.reason) is full
    assert config_trial.undo_unfinished(site.path) is full
    assert site.text == before


def test_what_was_ill_before_or_is_taken_out_is_no_reason(tmp_path: Path) -> None:
    site = FakeSite(tmp_path)
    site.ill = lambda _: True
    assert site.one(patch=replace(EVERY, 5)).outcome is Outcome.DONE
    site = FakeSite(tmp_path)
    assert site.one(patch=[{"op": "remove", "path": "/devices/cp1"}]).outcome is Outcome.DONE
    assert "# the depot" in site.text


def test_a_configuration_that_is_not_applied_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_config, "APPLY_S", 30.0)
    site = FakeSite(tmp_path)
    before, site.applying = site.text, False
    answer = site.one(patch=replace(EVERY, 5))
    assert answer.outcome is Outcome.FAILED
    assert "not applied" in answer.reason
    assert site.text == before


def test_one_at_a_time_and_who_edits_meanwhile_wins(tmp_path: Path) -> None:
    async def scenario() -> None:
        site = FakeSite(tmp_path)
        site.applying = False  # so long its trial can't end
        async with site.running():
            first = asyncio.create_task(site.do(patch=replace(EVERY, 5)))
            await until(lambda: config_trial.read(site.path) is not None and "every_s: 5" in site.text)
            second = await site.do(patch=replace(EVERY, 6))
            assert second.refusal is Refusal.INTERLOCKED
            site.path.write_text(site.text + "# by hand\n")
            site.applying = True
            answer = await first
        assert (answer.outcome, answer.reason) == (Outcome.FAILED, config_trial.EDITED)
        assert site.text.endswith("# by hand\n")

    asyncio.run(scenario())


def test_a_file_that_is_managed_elsewhere_is_left_to_that(tmp_path: Path) -> None:
    site = FakeSite(tmp_path)
    real = tmp_path / "store" / "site.yaml"
    real.parent.mkdir()
    site.path.rename(real)
    site.path.symlink_to(real)
    answer = site.one(patch=replace(EVERY, 5))
    assert (answer.outcome, answer.refusal) == (Outcome.REJECTED, Refusal.NOT_CAPABLE)
    assert "managed elsewhere" in answer.reason
    assert site.path.is_symlink()


def test_reading_gives_lines_in_pieces_and_no_secret(tmp_path: Path) -> None:
    site = FakeSite(tmp_path)
    long = "".join(f"# {number:04} {'x' * 200}\n" for number in range(60))
    site.path.write_text(site.text + long + '# api_token: "do-not-tell"\n# password_file: /etc/p\n')
    lines: list[str] = []
    first: object = 1
    while first is not None:
        data: Mapping[str, Any] = site.one(action="configuration", first_line=first).data
        assert data["hash"] == hash_of(site.config)
        lines += data["lines"]
        first = data.get("next_line")
    assert lines == [line.replace('"do-not-tell"', "***") for line in site.text.splitlines()]


def test_only_the_central_server_reaches_it_and_a_cut_off_one_is_told_its_outcome(tmp_path: Path) -> None:
    async def scenario() -> None:
        site = FakeSite(tmp_path)
        rig = await Rig().start()
        async with rig.service, site.running():
            rig.service.serve("gateway", site.remote)
            args = {"base": hash_of(site.config), "patch": replace(EVERY, 5), "confirm_s": 30}
            local = Command("m1", "gateway", "configure", args, Origin.MANUAL, "user:ana")
            assert (await rig.service.execute(local)).refusal is Refusal.NOT_CAPABLE
            remote = Command("r1", "gateway", "configure", args, Origin.REMOTE, "central", ttl_s=1)
            assert (await rig.service.execute(remote)).outcome is Outcome.DONE
            assert (await rig.service.execute(remote)).outcome is Outcome.DONE
            assert site.kinds() == ["config.trial"]

    run(scenario)


#: The steps of a trial, fewer than all that a restore takes.
CHANGES = {"os.rename", "os.remove", "os.chmod", "os.chown"}


def killed_change(folder: Path, step: int, *, ill: bool) -> bool:
    site = FakeSite(folder)
    site.ill = lambda config: ill and config.devices[0].every_s == 5  # type: ignore[union-attr] # it is on Modbus
    return killed_at(step, lambda: site.one(patch=replace(EVERY, 5)), CHANGES)


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("ill", [False, True], ids=["kept", "put back"])
def test_a_kill_at_any_step_leaves_the_former_text_or_after_the_trial_the_new_one(
    tmp_path: Path, stride: int, *, ill: bool
) -> None:
    former = FakeSite(tmp_path).text
    found: list[str] = []
    for step in range(2, 100, stride):
        ended = killed_change(tmp_path, step, ill=ill)
        told = config_trial.read(tmp_path / "site.yaml")
        config_trial.undo_unfinished(tmp_path / "site.yaml")
        site = FakeSite(tmp_path, (tmp_path / "site.yaml").read_text())
        assert site.text in {former, former.replace("every_s: 0.5", "every_s: 5")}
        found.append("former" if site.text == former else "new")
        outcome = site.remote.ended().get("c1")
        if told is not None and outcome is not None:
            assert (outcome.outcome is Outcome.DONE) == (found[-1] == "new")
        if ended:
            break
        for path in tmp_path.glob(".site.yaml*"):
            path.unlink()
    assert ended
    assert found == sorted(found), "kept once, kept for ever"
    assert found[-1] == ("former" if ill else "new")
    assert found.count("former") > 5 // stride


@pytest.mark.announced_warnings
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.parametrize("lost", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_real_site_is_changed_rolls_back_and_rolls_back_when_it_is_killed(tmp_path: Path, *, lost: bool) -> None:
    """A gateway, a charger on Modbus TCP, Mosquitto: a good change, one that loses the charger, one that is cut off."""

    async def scenario() -> None:
        modbus = free_port()
        server = ModbusTcpServer(SimulatedCharger(Evse(pace=0), SystemClock()).device(1), address=("127.0.0.1", modbus))
        await server.serve_forever(background=True)
        try:
            async with broker_process("mosquitto", tmp_path) as broker:
                path = tmp_path / "site.yaml"
                text = TEXT.format(folder=tmp_path, modbus=modbus, broker=broker.url)
                path.write_text(text)
                office = Office(broker.url)
                async with running(office):
                    await office.ready.wait()
                    await _scenario(path, office, text, lost=lost)
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]

    asyncio.run(scenario())


async def _scenario(path: Path, office: Office, text: str, *, lost: bool) -> None:
    def configure(command_id: str, patch: list[dict[str, object]]) -> dict[str, object]:
        args = {"base": hash_of(load_config(path, {})), "patch": patch, "confirm_s": 30}
        return command(command_id, target="gateway", action="configure", args=args)

    def is_said(*words: bytes) -> bool:
        return any(all(word in one.payload for word in words) for one in office.came)

    def is_there(wanted: str) -> bool:
        return path.read_text() == wanted

    async def answered(command_id: str) -> list[str]:
        await until(lambda: command_id in office.outcomes(), 120)
        return office.outcomes()[command_id]

    changed, gone = text.replace("every_s: 0.5", "every_s: 1.0"), replace("/devices/cp1/url", "tcp://127.0.0.1:1")
    with process("agent", "run", "--config", str(path), log=path.parent / "first.log") as gateway:
        await until(lambda: is_said(b"device.online"), 60)
        await office.send(configure("good", replace(EVERY, 1.0)))
        assert await answered("good") == ["done"]
        assert is_there(changed)
        if lost:
            await office.send(configure("bad", gone))
            assert await answered("bad") == ["failed"]
            assert is_there(changed)
        await office.send(configure("cut", gone))
        await until(lambda: not is_there(changed))
        gateway.kill()
        gateway.wait()
    with process("agent", "run", "--config", str(path), log=path.parent / "second.log"):
        assert await answered("cut") == ["failed"]
        assert is_there(changed)
        await until(lambda: is_said(b"config.rolled_back", b'"cut"'))
