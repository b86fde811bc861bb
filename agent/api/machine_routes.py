"""``/api/machines``: what stands on the site. Configured devices appear by themselves, people add what has no wire.

What can't be done is a problem: 404 there is no such machine, 409 its code is taken, 422 it can't be done so.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import HTTPException, Path, Query
from starlette.responses import Response

from agent.api.access import CallerOf, Routes
from agent.api.machine_bodies import MachineChange, MachineOut, MachinePage, MachineSummary, NewMachine
from agent.api.maintenance_bodies import DueOut, EntryOut
from agent.api.paging import Page, PageSize, needed, page_of
from agent.api.users import Role
from agent.api.view import SitePorts
from agent.core.errors import CommandRejected, Refusal
from agent.insight.machines import STATUSES, Facts, Machine, Status
from agent.insight.maintenance import Maintenance
from agent.store.maintenance import Asked

#: So many of what is next and what was last stand in the summary.
SHOWN = 5
STATUS_OF = {
    Refusal.NOT_CAPABLE: HTTPStatus.NOT_FOUND,
    Refusal.DUPLICATE: HTTPStatus.CONFLICT,
    Refusal.OUT_OF_RANGE: HTTPStatus.UNPROCESSABLE_ENTITY,
}

MachineCode = Annotated[str, Path(min_length=1, max_length=64)]
TypeFilter = Annotated[str | None, Query(min_length=1, max_length=60, description="only of this type")]
StatusFilter = Annotated[Status | None, Query(description="only those in this state")]
PlaceFilter = Annotated[str | None, Query(min_length=1, max_length=200, description="only those at this location")]
DeviceOnly = Annotated[bool | None, Query(description="only configured devices, or only machines without a wire")]
Words = Annotated[
    str | None,
    Query(
        max_length=200,
        description="words that all stand in its code, name, type, location, maker, model, serial number or notes",
    ),
]


def add_machine_routes(routes: Routes, ports: SitePorts) -> None:
    """Add the routes."""
    one = _MachineRoutes(ports)
    tag: dict[str, Any] = {"tags": ["machines"]}
    every, path = "/api/machines", "/api/machines/{code}"
    routes.add("GET", every, one.index, Role.VIEWER, summary="List machines", **tag)
    routes.add("POST", every, one.create, Role.OPERATOR, summary="Add a machine", status_code=201, **tag)
    routes.add("GET", f"{every}/summary", one.summary, Role.VIEWER, summary="Machines for a dashboard", **tag)
    routes.add("GET", path, one.get, Role.VIEWER, summary="One machine", **tag)
    routes.add("PATCH", path, one.change, Role.OPERATOR, summary="Say something of a machine", **tag)
    routes.add("DELETE", path, one.remove, Role.OPERATOR, summary="Take out a machine", status_code=204, **tag)


async def done(work: Awaitable[Any]) -> Any:  # noqa: ANN401 - what the work gives
    """What came of it; a refusal is a problem."""
    try:
        return await work
    except CommandRejected as error:
        detail = error.reason + (f": {error.hint}" if error.hint else "")
        raise HTTPException(STATUS_OF.get(error.refusal, HTTPStatus.CONFLICT), detail) from error


class _MachineRoutes:
    def __init__(self, ports: SitePorts) -> None:
        self._ports = ports

    async def index(
        self,
        q: Words = None,
        type: TypeFilter = None,  # noqa: A002 - the query's name
        status: StatusFilter = None,
        location: PlaceFilter = None,
        device: DeviceOnly = None,
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> MachinePage:
        """List machines: the devices in the order of the configuration, then the others by code."""
        words = (q or "").casefold().split()
        found = [
            one
            for one in self._maintenance.machines.machines()
            if (type is None or one.type == type)
            and (status is None or one.status == status)
            and (location is None or one.location == location)
            and (device is None or one.device is device)
            and all(word in one.text for word in words)
        ]
        items = [MachineOut.of(one) for one in page_of(found, page, page_size)]
        return MachinePage(total=len(found), page=page, page_size=page_size, items=items)

    async def summary(self) -> MachineSummary:
        """Count machines by status and type; what is due next, and what was done last."""
        machines = self._maintenance.machines.machines()
        due = await self._maintenance.due()
        _, last = await asyncio.to_thread(self._maintenance.log.page, Asked(counting=True), SHOWN, 0)
        states = Counter(one.state for one in due)
        by_status = Counter(one.status for one in machines)
        return MachineSummary(
            total=len(machines),
            by_status={one: by_status[one] for one in STATUSES},
            by_type=dict(sorted(Counter(one.type for one in machines).items())),
            due=states["due"],
            overdue=states["overdue"],
            next=[DueOut.of(one) for one in due if one.due_us is not None or one.state != "unknown"][:SHOWN],
            last=[EntryOut.of(one) for one in last],
        )

    async def get(self, code: MachineCode) -> MachineOut:
        """Tell one machine."""
        return MachineOut.of(self._known(code))

    async def create(self, body: NewMachine, caller: CallerOf) -> MachineOut:
        """Add a machine that has no wire to this gateway: a transformer, a fire extinguisher."""
        made = await done(self._maintenance.machines.create(body.code, body.facts, caller.issuer))
        self._maintenance.forget()
        return MachineOut.of(made)

    async def change(self, code: MachineCode, body: MachineChange, caller: CallerOf) -> MachineOut:
        """Say something of a machine; of a device that goes before what the device says, and null takes it back."""
        edit = partial(_edited, body)
        machine = await done(self._maintenance.machines.change(code, edit, caller.issuer))
        self._maintenance.forget()
        return MachineOut.of(machine)

    async def remove(self, code: MachineCode, caller: CallerOf) -> Response:
        """Take out a machine without a wire; of a device, what was said of it. Its maintenance log stays."""
        await done(self._maintenance.machines.remove(code, caller.issuer))
        self._maintenance.forget()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    @property
    def _maintenance(self) -> Maintenance:
        return needed(self._ports.maintenance, "machines")

    def _known(self, code: str) -> Machine:
        machine = self._maintenance.machines.machine(code)
        if machine is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no machine {code!r}: /api/machines lists them")
        return machine


def _edited(body: MachineChange, facts: Facts) -> Facts:
    return replace(facts, **body.sent)  # type: ignore[arg-type] # checked by the body
