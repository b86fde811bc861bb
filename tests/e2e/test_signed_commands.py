"""Signed commands through a real Mosquitto into a real gateway and charger: an attacker who may publish, replays, keys.

The messages are made as docs/mqtt.md says, by its own examples: what a stranger copies from there works.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymodbus.server import ModbusTcpServer

from agent.core.clock import SystemClock
from drivers.sim.charger_modbus import SimulatedCharger
from drivers.sim.evse import Evse
from tests.e2e.brokers import MOSQUITTO, BrokerProcess, broker_process
from tests.e2e.site import ROOT, enlace, environment, process
from tests.e2e.subscriber import until
from tests.e2e.test_mqtt_commands import Office, command, running
from tests.ports import free_port

OPENSSL = shutil.which("openssl")
#: Stands in for Mosquitto's client where that is not installed: the options that the page uses.
MOSQUITTO_PUB = """\
#!{python}
import argparse, sys
from paho.mqtt import publish
parser = argparse.ArgumentParser(add_help=False)
parser.add_argument("-h", dest="host"), parser.add_argument("-p", type=int), parser.add_argument("-q", type=int)
parser.add_argument("-t"), parser.add_argument("-s", action="store_true", required=True)
told = parser.parse_args()
publish.single(told.t, sys.stdin.buffer.read(), qos=told.q, hostname=told.host, port=told.p)
"""
PAGE = ROOT / "docs" / "mqtt.md"
SITE = """\
data_dir: {folder}/data
site: {{id: depot-7}}
api: {{listen: "127.0.0.1:0"}}
devices:
  - {{id: cp1, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{modbus}", every_s: 0.5}}
stations: [{{station: cp1, min_on_s: 0, min_off_s: 0}}]
alarm_sets: []
uplink:
  broker: "{broker}"
  configure: "yes"
  commanders:
{commanders}
"""
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def key(folder: Path, name: str) -> str:
    """A new key in ``folder``, made as a person does it; its public line."""
    made = enlace("keys", str(folder / f"{name}.pem"))
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


class Attacker(Office):
    """Who may publish at the broker, and sees what goes by."""

    async def say(self, payload: bytes, *, retain: bool = False) -> None:
        assert self._session is not None
        await (await self._session.publish("enlace/depot-7/command", payload, retain=retain))

    def answers(self, command_id: str) -> list[tuple[str, str | None]]:
        """The distinct ones."""
        told = [json.loads(text) for text in self.results().get(command_id, ())]
        return sorted((one["outcome"], one["refusal"]) for one in told)

    def told(self, kind: str) -> list[dict[str, object]]:
        said = [json.loads(message.payload) for message in self.came if message.topic.endswith("/event")]
        return [one for one in said if one["kind"] == kind]


@asynccontextmanager
async def depot(folder: Path, *commanders: tuple[str, str]) -> AsyncIterator[tuple[BrokerProcess, Attacker, Path]]:
    """A gateway with a charger that takes commands of these commanders."""
    modbus, config = free_port(), folder / "site.yaml"
    server = ModbusTcpServer(SimulatedCharger(Evse(pace=0), SystemClock()).device(1), address=("127.0.0.1", modbus))
    await server.serve_forever(background=True)
    lines = "\n".join(f"    - {{name: {name}, public_key: {line}}}" for name, line in commanders)
    try:
        async with broker_process("mosquitto", folder) as broker:
            config.write_text(SITE.format(folder=folder, modbus=modbus, broker=broker.url, commanders=lines))
            attacker = Attacker(broker.url)
            with process("agent", "run", "--config", str(config), log=folder / "gateway.log"):
                async with running(attacker):
                    for number in range(600):
                        await attacker.send(command(f"probe{number}", site="depot-7"))
                        await asyncio.sleep(0.2)
                        if attacker.results():
                            break
                    assert attacker.results(), (folder / "gateway.log").read_text()
                    yield broker, attacker, config
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def given(folder: Path, broker: BrokerProcess, *arguments: str) -> tuple[int, dict[str, object]]:
    """``enlace command`` to cp1 as ``office``: its exit code and what it printed."""
    sign = ("--sign", str(folder / "office.pem"), "--broker", broker.url)
    ended = await asyncio.to_thread(enlace, "command", "depot-7", *arguments, *sign)
    return ended.returncode, json.loads(ended.stdout or "{}")


@needs_mosquitto
@pytest.mark.announced_warnings
def test_who_may_publish_at_the_broker_switches_nothing_and_the_rightful_is_done_once(tmp_path: Path) -> None:
    office, stranger = key(tmp_path, "office"), key(tmp_path, "stranger")
    assert office != stranger

    async def scenario() -> None:
        async with depot(tmp_path, ("office", office)) as (broker, attacker, config):
            limit = ("cp1", "limit", '{"limit_a": 9}', "--id", "rightful")
            # First with the id of the rightful one, unsigned, by another key, for another site.
            await attacker.send(command("rightful", site="depot-7", action="limit", args={"limit_a": 32}))
            by_other = enlace("command", "depot-7", *limit, "--sign", str(tmp_path / "stranger.pem"), "--print").stdout
            await attacker.say(by_other.encode())
            for_other = enlace("command", "depot-8", *limit, "--sign", str(tmp_path / "office.pem"), "--print").stdout
            await attacker.say(for_other.encode())
            await until(lambda: len(attacker.results().get("rightful", ())) == 3)
            assert attacker.answers("rightful") == [("rejected", "not_authorized")] * 3
            assert not attacker.events(), "control has heard of none"

            signed = enlace("command", "depot-7", *limit, "--sign", str(tmp_path / "office.pem"), "--print").stdout
            await attacker.say(signed.encode())
            await until(lambda: ("done", None) in attacker.answers("rightful"))
            # From here on it is known: changed, and as it was.
            await attacker.say(signed.replace('"limit_a":9', '"limit_a":32').encode())
            await attacker.say(signed.encode(), retain=True)
            for _ in range(20):
                await attacker.say(signed.encode())
            code, last = await given(tmp_path, broker, "cp1", "limit", '{"limit_a": 10}')
            assert (code, last["outcome"]) == (0, "done")
            await until(lambda: len(attacker.events()) >= 2)
            assert [event["data"]["id"] for event in attacker.events()].count("rightful") == 1
            assert [event["data"]["issuer"] for event in attacker.events()] == ["central:office"] * 2
            assert attacker.answers("rightful") == [("done", None), *[("rejected", "not_authorized")] * 4]

            # The configuration is asked for and changed by command, too.
            await attacker.send(command("steal", site="depot-7", target="gateway", action="configuration", args={}))
            await until(lambda: "steal" in attacker.results())
            assert attacker.answers("steal") == [("rejected", "not_authorized")]
            code, read = await given(tmp_path, broker, "gateway", "configuration")
            assert code == 0
            assert f"public_key: {office}" in json.dumps(read)
            assert attacker.told("command.not_authorized")
            checked = enlace("check", "--config", str(config))
            assert "commands are taken that are signed by office" in checked.stdout + checked.stderr

    asyncio.run(scenario())


def _old(signed: str) -> str:
    """The text of a command of an hour ago, which still has to be signed."""
    document = json.loads(signed)
    document["issued_at"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    return json.dumps(document)


@needs_mosquitto
@pytest.mark.announced_warnings
@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_what_a_stranger_copies_from_the_page_works(tmp_path: Path) -> None:
    """The examples of docs/mqtt.md in Python and for a shell, as they stand there."""
    page = PAGE.read_text()
    (python,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (shell,) = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "mosquitto_pub" in block]
    assert OPENSSL is not None
    subprocess.run([OPENSSL, "genpkey", "-algorithm", "ed25519", "-out", "office.pem"], cwd=tmp_path, check=True)
    (tmp_path / "office.pem").chmod(0o600)
    line = key(tmp_path, "office")
    public = subprocess.run(
        [OPENSSL, "pkey", "-in", "office.pem", "-pubout"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert public.splitlines()[1] == line, "as the page says of the line between BEGIN and END"

    async def scenario() -> None:
        async with depot(tmp_path, ("office", line)) as (broker, attacker, _):
            made = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", python], cwd=tmp_path, check=True, capture_output=True
            )
            await attacker.say(made.stdout)
            by_python = json.loads(made.stdout)["id"]
            await until(lambda: attacker.answers(by_python) == [("done", None)])
            script = shell.replace("-p 1883", f"-p {broker.port}")
            assert script != shell
            await asyncio.to_thread(_run_shell, script, tmp_path)
            await until(lambda: sum(attacker.answers(name) == [("done", None)] for name in attacker.results()) == 2)
            old = _old(made.stdout.decode())
            await attacker.say(old.encode())
            await until(lambda: ("rejected", "not_authorized") in attacker.answers(by_python))

    asyncio.run(scenario())


def _run_shell(script: str, folder: Path) -> None:
    own = folder / "bin"
    own.mkdir()
    (own / "mosquitto_pub").write_text(MOSQUITTO_PUB.format(python=sys.executable))
    (own / "mosquitto_pub").chmod(0o755)
    there = environment(PATH=f"{os.environ['PATH']}:{own}")
    subprocess.run(["/bin/sh", "-euc", script], cwd=folder, check=True, env=there)


@needs_mosquitto
@pytest.mark.announced_warnings
def test_keys_are_changed_over_a_command_that_the_old_one_signed(tmp_path: Path) -> None:
    old, new = key(tmp_path, "office"), key(tmp_path, "next")

    async def scenario() -> None:
        async with depot(tmp_path, ("office", old)) as (broker, _, config):
            _, read = await given(tmp_path, broker, "gateway", "configuration")
            entry = {"name": "office", "public_key": new}
            patch = [{"op": "add", "path": "/uplink/commanders/-", "value": entry}]
            data = read["data"]
            assert isinstance(data, dict)
            args = json.dumps({"base": data["hash"], "patch": patch, "confirm_s": 60})
            code, told = await given(tmp_path, broker, "gateway", "configure", args, "--wait", "120")
            assert (code, told.get("outcome")) == (0, "done"), told
            assert new in config.read_text()
            (tmp_path / "office.pem").rename(tmp_path / "gone.pem")
            (tmp_path / "next.pem").rename(tmp_path / "office.pem")
            code, told = await given(tmp_path, broker, "cp1", "limit", '{"limit_a": 8}')
            assert (code, told.get("outcome")) == (0, "done"), told

    asyncio.run(scenario())


def test_a_key_that_others_may_read_signs_nothing(tmp_path: Path) -> None:
    key(tmp_path, "office")
    (tmp_path / "office.pem").chmod(0o640)
    refused = enlace("command", "depot-7", "cp1", "on", "--sign", str(tmp_path / "office.pem"), "--print")
    assert refused.returncode == 78
    assert "chmod 600" in refused.stderr
    assert not refused.stdout
    assert enlace("keys", str(tmp_path / "office.pem")).returncode == 78
    missing = enlace("command", "depot-7", "cp1", "on", "--sign", str(tmp_path / "none.pem"), "--print")
    assert "enlace keys" in missing.stderr
    assert not (tmp_path / "none.pem").exists()


@needs_mosquitto
def test_who_waits_in_vain_is_told_whether_broker_or_site_is_silent(tmp_path: Path) -> None:
    key(tmp_path, "office")

    async def run() -> tuple[str, str]:
        async with broker_process("mosquitto", tmp_path) as broker:
            away = ("command", "depot-7", "cp1", "on", "--sign", str(tmp_path / "office.pem"), "--broker")
            no_site = await asyncio.to_thread(enlace, *away, broker.url, "--wait", "15")
        no_broker = await asyncio.to_thread(enlace, *away, broker.url, "--wait", "2")
        assert (no_site.returncode, no_broker.returncode) == (2, 2)
        return no_site.stderr, no_broker.stderr

    no_site, no_broker = asyncio.run(run())
    assert "no result came within 15 s" in no_site
    assert "Connection refused within 2 s" in no_broker
