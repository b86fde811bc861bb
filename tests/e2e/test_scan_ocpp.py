"""``enlace scan ocpp`` as it is typed, and chargers that knock while it runs."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from agent.cli.main import main
from agent.config import OcppDevice
from agent.core.clock import SystemClock
from agent.yamlfile import Section, parse
from drivers.sim.charger_ocpp import SimulatedCharger
from drivers.sim.charger_ocpp_model import SimSettings

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a-password-of-more-than-16"  # noqa: S105 - a simulated one


class _File(Section):
    devices: tuple[OcppDevice, ...]


@contextmanager
def scan(config: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command, and the port that it opened."""
    command = [sys.executable, "-m", "agent", "scan", "ocpp", "--listen", "127.0.0.1:0", "--seconds", "60"]
    with subprocess.Popen(
        [*command, "--config", str(config), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            told = wait_for(process, "chargers may knock")
            yield process, int(told.partition("127.0.0.1:")[2].partition("/")[0])
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], *words: str) -> str:
    """The line that has all of these words."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if all(word in line for word in words):
            return line
    pytest.fail(f"never said {words}: {said}")


def test_who_knocks_is_shown_and_proposed(tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text(
        "devices:\n"
        "  - {id: sim_1, driver: modbus, url: tcp://10.0.0.1}\n"
        "  - {id: cp1, driver: ocpp, charge_point_id: CP-OLD}\n"
    )

    async def chargers(process: subprocess.Popen[str], port: int) -> None:
        url = f"ws://127.0.0.1:{port}/ocpp"
        one = SimSettings(f"{url}/SIM-1", version="1.6", password=PASSWORD.encode(), pace=0.0)
        two = SimSettings(f"{url}/SIM-2", version="2.0.1", pace=0.0)
        with pytest.raises(InvalidStatus, match="503"):
            async with connect(f"{url}/CP-OLD", subprotocols=[Subprotocol("ocpp1.6")]):
                pass
        await asyncio.to_thread(wait_for, process, "CP-OLD is configured: left alone")
        async with SimulatedCharger(one, SystemClock()):
            await asyncio.to_thread(wait_for, process, "SIM-1 knocks", "offers ocpp1.6", "presents a password")
            await asyncio.to_thread(wait_for, process, "found charger SIM-1", "Enlace Sim")
        async with SimulatedCharger(two, SystemClock()):
            await asyncio.to_thread(wait_for, process, "SIM-2 knocks", "offers ocpp2.0.1", "presents no password")
            await asyncio.to_thread(wait_for, process, "found charger SIM-2", "Enlace Sim")
        async with connect(f"{url}/RUDE") as rude:  # offers no subprotocol, and has a transaction to tell
            await rude.send(json.dumps([2, "1", "StartTransaction", {"connectorId": 1, "idTag": "T", "meterStart": 0}]))
            with pytest.raises(ConnectionClosedError, match="1013"):
                await rude.recv()
        await asyncio.to_thread(wait_for, process, "RUDE knocks", "no subprotocol")

    with scan(config) as (process, port):
        asyncio.run(chargers(process, port))
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 130
    document, problems = parse(out, "proposal")
    assert document is not None, problems
    file, found = document.check(_File)
    assert file is not None, found
    assert [(device.id, device.charge_point_id) for device in file.devices] == [
        ("rude", "RUDE"),
        ("sim_1_2", "SIM-1"),
        ("sim_2", "SIM-2"),
    ]
    assert "Enlace Sim" in out
    assert "offers ocpp2.0.1" in out
    assert "adopt it, and that is its password" in out
    assert "without_subprotocol: ocpp1.6" in out
    assert PASSWORD not in out


def test_a_port_that_the_gateway_has_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "site.yaml"
        config.write_text(f"ocpp: {{listen: '127.0.0.1:{taken.getsockname()[1]}'}}\n")
        assert main(["scan", "ocpp", "--config", str(config)]) == 2
    out, told = capsys.readouterr()
    assert out == "devices: []\n"
    assert "another program has this port" in told
    assert "GET /api/chargers/pending" in told


def test_a_scan_leaves_no_keys_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "site.yaml"
    data = tmp_path / "data"
    data.mkdir()
    config.write_text(f"data_dir: {data}\nocpp: {{security_profile: 2}}\n")
    arguments = ["scan", "ocpp", "--listen", "127.0.0.1:0", "--seconds", "0.01"]
    assert main([*arguments, "--config", str(config)]) == 0
    assert "chargers may knock at wss://127.0.0.1:" in capsys.readouterr().err
    assert list(data.iterdir()) == []


def test_that_nobody_knocked_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["scan", "ocpp", "--listen", "127.0.0.1:0", "--seconds", "0.01", "--format", "jsonl"]
    assert main([*arguments, "--config", str(tmp_path / "none.yaml")]) == 0
    out, told = capsys.readouterr()
    assert out == ""
    assert "nobody knocked" in told


def test_arguments_and_a_section_that_can_not_be_used_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["ocpp", "--listen", "9000"], ["modbus", "--listen", "0.0.0.0:9000"], ["ocpp", "--host", "a"]):
        with pytest.raises(SystemExit):
            main(["scan", *arguments])
    config = tmp_path / "site.yaml"
    config.write_text("ocpp: {listen: nowhere}\n")
    assert main(["scan", "ocpp", "--config", str(config)]) == 78
    assert "`nowhere` is no address" in capsys.readouterr().err
