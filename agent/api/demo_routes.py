"""``/api/demo``: the scenario and the faults of ``enlace demo``, asked of its director over a unix socket.

Rules of this file:

1. A gateway that no demo started has none of this: 404. Nothing of the director's code is loaded here.
2. The gateway only passes on: one line of JSON there and one back (``agent/cli/demo_door.py``), within ``ANSWER_S``.
"""

import asyncio
import json
from http import HTTPStatus
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import HTTPException, Path
from pydantic import Field, ValidationError

from agent.api.access import CallerOf, Routes
from agent.api.auth import Auth
from agent.api.bodies import Body
from agent.api.models import Model
from agent.api.times import iso
from agent.api.users import Role
from agent.api.view import SitePorts
from agent.core.errors import Unavailable

ANSWER_S = 3.0
#: More than what the director knows takes.
MAX_ANSWER = 1 << 18
_MAX_ID = 64

FaultId = Annotated[str, Path(min_length=1, max_length=_MAX_ID, description="of a fault, as `GET /api/demo` lists it")]


class DemoText(Model):
    """One text in the languages of the dashboard."""

    en: str = Field(description="in English")
    es: str = Field(description="in Spanish")


class DemoStep(Model):
    """A step of the scenario."""

    id: str
    text: DemoText = Field(description="what happens in it")
    lasts_s: float = Field(description="how long it goes on")


class DemoScenario(Model):
    """The scenario as it goes on; it begins again behind its last step."""

    running: bool = Field(description="false: only what is switched by hand happens")
    step: str | None = Field(description="id of the step that goes on; null: it does not run")
    text: DemoText | None = Field(description="what happens now")
    since: str = Field(description="when the step began, or the scenario was stopped")
    next: DemoText | None = Field(description="what happens in the step behind it")
    steps: list[DemoStep] = Field(description="all of them, in their order")


class DemoFault(Model):
    """A fault of one of the simulated counterparts."""

    id: str
    title: DemoText = Field(description="what stands on its button")
    text: DemoText = Field(description="what it does and what is to be seen")
    active: bool = Field(description="it is on, by hand or by the scenario")


class DemoOut(Model):
    """What the demo does."""

    scenario: DemoScenario = Field(description="what happens by itself")
    faults: list[DemoFault] = Field(description="what can be switched on by hand")


class FaultSwitch(Body):
    """Whether a fault is on; off heals it."""

    active: bool = Field(description="false: it is healed", examples=[True])


class ScenarioSwitch(Body):
    """Whether the scenario runs."""

    running: bool = Field(description="true: it begins with its first step", examples=[True])


def add_demo_routes(routes: Routes, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _DemoRoutes(ports.demo, auth)
    tag: dict[str, Any] = {"tags": ["demo"]}
    summary = "What the demo does, and its faults"
    routes.add("GET", "/api/demo", one.state, Role.VIEWER, summary=summary, responses={404: {}}, **tag)
    path = "/api/demo/faults/{fault_id}"
    routes.add("POST", path, one.fault, Role.OPERATOR, summary="Switch a fault of the demo", **tag)
    path = "/api/demo/scenario"
    routes.add("POST", path, one.scenario, Role.OPERATOR, summary="Start or stop the demo's scenario", **tag)


class _DemoRoutes:
    def __init__(self, control: FilePath | None, auth: Auth) -> None:
        self._control = control
        self._auth = auth

    async def state(self) -> DemoOut:
        """Tell the step of the scenario, and which faults are on. Only under `enlace demo`."""
        return await self._ask({})

    async def fault(self, fault_id: FaultId, body: FaultSwitch, caller: CallerOf) -> DemoOut:
        """Put a fault into a simulated counterpart, or heal it. Only under `enlace demo`."""
        done = await self._ask({"fault": fault_id, "active": body.active})
        self._auth.audit(caller.name, "demo fault", fault_id, "on" if body.active else "off")
        return done

    async def scenario(self, body: ScenarioSwitch, caller: CallerOf) -> DemoOut:
        """Start the scenario with its first step, or stop it. Only under `enlace demo`."""
        done = await self._ask({"scenario": body.running})
        self._auth.audit(caller.name, "demo scenario", "demo", "started" if body.running else "stopped")
        return done

    async def _ask(self, question: object) -> DemoOut:
        if self._control is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this gateway was not started by a demo: enlace demo starts one")
        try:
            async with asyncio.timeout(ANSWER_S):
                said = await _exchange(self._control, question)
            if "unknown" in said:
                detail = f"there is no fault {said['unknown']!r}: /api/demo lists them"
                raise HTTPException(HTTPStatus.NOT_FOUND, detail)
            scenario = said["scenario"]
            scenario["since"] = iso(scenario.pop("since_us"))
            return DemoOut.model_validate(said)
        except (OSError, TimeoutError, ValueError, LookupError, TypeError, ValidationError) as error:
            raise Unavailable("demo", "its director does not answer", "is enlace demo still running?") from error


async def _exchange(path: FilePath, question: object) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ANSWER)
    try:
        writer.write(json.dumps(question).encode() + b"\n")
        said: dict[str, Any] = json.loads(await reader.readline())
        return said
    finally:
        writer.close()
