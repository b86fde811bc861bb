"""``/api/demo``: what the gateway passes on to the demo's director, and what it does without one."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.api import demo_routes
from agent.api.users import Role
from agent.cli.demo_director import Director
from agent.cli.demo_door import door
from agent.core.clock import FakeClock
from tests.unit.api_rig import Rig, problem


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def rig(tmp_path: Path, control: Path) -> Rig:
    return Rig(tmp_path, demo=control)


@pytest.fixture
def told() -> list[tuple[str, Any]]:
    return []


@pytest.fixture
def director(told: list[tuple[str, Any]]) -> Director:
    return Director(FakeClock(), lambda name, order: told.append((name, order)), lambda text: None)


def test_a_gateway_without_a_demo_has_none_of_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for answer in (
        rig.call("GET", "/api/demo", Role.VIEWER),
        rig.call("POST", "/api/demo/faults/battery_hot", Role.OPERATOR, json={"active": True}),
        rig.call("POST", "/api/demo/scenario", Role.OPERATOR, json={"running": True}),
    ):
        assert "enlace demo" in problem(answer, 404)["detail"]
    described = rig.app.openapi()["paths"]["/api/demo"]["get"]["responses"]
    assert described["404"] == {"$ref": "#/components/responses/NotFound"}


def test_the_state_is_the_directors(rig: Rig, director: Director, control: Path) -> None:
    async def ask() -> httpx.Response:
        async with door(director, control):
            await director.play(running=True)
            answer = await asyncio.to_thread(rig.call, "GET", "/api/demo", Role.VIEWER)
            await director.play(running=False)
            return answer

    answer = asyncio.run(ask()).json()
    scenario = answer["scenario"]
    assert scenario["running"] is True
    assert scenario["step"] == scenario["steps"][0]["id"]
    assert scenario["text"] == scenario["steps"][0]["text"]
    assert scenario["next"] == scenario["steps"][1]["text"]
    assert scenario["since"].endswith("Z")
    assert {"battery_silent", "cp1_offline", "cp2_mute", "cp3_offline", "grid_garbled", "broker_down"} <= {
        fault["id"] for fault in answer["faults"]
    }
    assert not any(fault["active"] for fault in answer["faults"])


def test_a_fault_is_switched_and_stands_in_the_audit(
    rig: Rig, director: Director, control: Path, told: list[tuple[str, Any]]
) -> None:
    async def ask(active: bool) -> httpx.Response:  # noqa: FBT001 - a switch
        path = "/api/demo/faults/cp2_mute"
        async with door(director, control):
            return await asyncio.to_thread(rig.call, "POST", path, Role.OPERATOR, json={"active": active})

    for active in (True, False):
        faults = asyncio.run(ask(active)).json()["faults"]
        assert [fault["id"] for fault in faults if fault["active"]] == ["cp2_mute"] * active
    assert told == [
        ("cp2", {"do": "fault", "name": "mute", "on": True}),
        ("cp2", {"do": "fault", "name": "mute", "on": False}),
    ]
    audited = [event.data for event in rig.told if event.kind == "audit" and event.subject == "cp2_mute"]
    assert [(one["what"], one["result"]) for one in audited] == [("demo fault", "on"), ("demo fault", "off")]


def test_the_scenario_is_stopped(rig: Rig, director: Director, control: Path) -> None:
    async def ask() -> httpx.Response:
        async with door(director, control):
            await director.play(running=True)
            return await asyncio.to_thread(
                rig.call, "POST", "/api/demo/scenario", Role.OPERATOR, json={"running": False}
            )

    scenario = asyncio.run(ask()).json()["scenario"]
    assert (scenario["running"], scenario["step"], scenario["text"], scenario["next"]) == (False, None, None, None)


def test_an_unknown_fault_is_not_found(rig: Rig, director: Director, control: Path) -> None:
    async def ask(fault: str) -> httpx.Response:
        async with door(director, control):
            path = f"/api/demo/faults/{fault}"
            return await asyncio.to_thread(rig.call, "POST", path, Role.OPERATOR, json={"active": True})

    for fault in ("nonsense", "battery_warm"):
        assert fault in problem(asyncio.run(ask(fault)), 404)["detail"]


@pytest.mark.parametrize("said", [b"", b"nonsense\n", b"[]\n", b"{}\n", b'{"scenario": {}}\n', b"x" * 300_000])
def test_a_director_that_talks_nonsense_is_a_problem(rig: Rig, control: Path, said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert json.loads(await reader.readline()) == {}
        writer.write(said)
        writer.close()

    async def ask() -> httpx.Response:
        async with await asyncio.start_unix_server(answer, control):
            return await asyncio.to_thread(rig.call, "GET", "/api/demo", Role.VIEWER)

    assert "does not answer" in problem(asyncio.run(ask()), 503)["detail"]


def test_a_director_that_is_gone_or_mute_is_a_problem(rig: Rig, control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not answer" in problem(rig.call("GET", "/api/demo", Role.VIEWER), 503)["detail"]
    monkeypatch.setattr(demo_routes, "ANSWER_S", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def ask() -> httpx.Response:
        async with await asyncio.start_unix_server(silent, control):
            return await asyncio.to_thread(rig.call, "GET", "/api/demo", Role.VIEWER)

    assert "enlace demo" in problem(asyncio.run(ask()), 503)["hint"]
