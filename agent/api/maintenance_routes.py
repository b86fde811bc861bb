"""``/api/maintenance``: what was done to machines, what is due when, and reports of both.

The log is never changed: who made a mistake corrects it by another entry. What can't be done is a problem: 404 there is
no such machine, entry or plan, 409 it was corrected meanwhile, 422 it can't be done so.
"""

import asyncio
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import HTTPException, Path, Query
from starlette.responses import HTMLResponse, Response

from agent.api import maintenance_report as report
from agent.api.access import CallerOf, Routes
from agent.api.csv_answer import CsvResponse
from agent.api.machine_routes import MachineCode, done
from agent.api.maintenance_bodies import (
    MAX_NUMBER,
    Correction,
    DueOut,
    DuePage,
    EntryOut,
    EntryPage,
    NewEntry,
    NewPlan,
    PlanChange,
    PlanOut,
    PlanPage,
    moment_us,
)
from agent.api.paging import Page, PageSize, needed, page_of
from agent.api.users import Role
from agent.api.view import GatewayView, SitePorts
from agent.core.clock import Clock
from agent.insight.maintenance import Maintenance
from agent.insight.maintenance_model import Kind, Plan, State
from agent.store.maintenance import Asked, Entry

READS_AT_ONCE = 2

EntryNumber = Annotated[int, Path(ge=1, le=MAX_NUMBER)]
PlanId = Annotated[str, Path(min_length=1, max_length=64)]
MachineFilter = Annotated[str | None, Query(min_length=1, max_length=64, description="only of this machine")]
KindFilter = Annotated[Kind | None, Query(description="only of this kind")]
StateFilter = Annotated[State | None, Query(description="only those in this state")]
Counting = Annotated[bool, Query(description="without those that were corrected or are void")]
When = Annotated[str | None, Query(max_length=40, description="2026-11-20, or a time with its offset")]
From = Annotated[When, Query(alias="from")]


def add_maintenance_routes(routes: Routes, view: GatewayView, ports: SitePorts, clock: Clock) -> None:
    """Add the routes."""
    one = _MaintenanceRoutes(view, ports, clock)
    tag: dict[str, Any] = {"tags": ["maintenance"]}
    every, entry, plans = "/api/maintenance", "/api/maintenance/{number}", "/api/maintenance/plans"
    viewer, operator = Role.VIEWER, Role.OPERATOR
    routes.add("GET", every, one.index, viewer, summary="The maintenance log", **tag)
    routes.add("POST", every, one.add, operator, summary="Write down maintenance", status_code=201, **tag)
    routes.add("GET", f"{every}/due", one.due, viewer, summary="What is due when", **tag)
    routes.add("GET", f"{every}/history/{{code}}", one.history, viewer, summary="The log of a machine", **tag)
    page = {"response_class": HTMLResponse, **tag}
    routes.add("GET", f"{every}/report", one.report, viewer, summary="A report to print", **page)
    table = {"response_class": CsvResponse, **tag}
    routes.add("GET", f"{every}/report.csv", one.report_csv, viewer, summary="The log as CSV", **table)
    routes.add("GET", plans, one.plans, viewer, summary="List maintenance plans", **tag)
    routes.add("POST", plans, one.add_plan, operator, summary="Make a plan", status_code=201, **tag)
    routes.add("PATCH", f"{plans}/{{plan_id}}", one.change_plan, operator, summary="Change a plan", **tag)
    routes.add(
        "DELETE", f"{plans}/{{plan_id}}", one.remove_plan, operator, summary="Delete a plan", status_code=204, **tag
    )
    routes.add("GET", entry, one.get, viewer, summary="One entry of the log", **tag)
    correct = {"summary": "Correct an entry", "status_code": 201, **tag}
    routes.add("POST", f"{entry}/correction", one.correct, operator, **correct)


class _MaintenanceRoutes:
    def __init__(self, view: GatewayView, ports: SitePorts, clock: Clock) -> None:
        self._view = view
        self._ports = ports
        self._clock = clock
        self._turns = asyncio.Semaphore(READS_AT_ONCE)

    async def index(
        self,
        machine: MachineFilter = None,
        kind: KindFilter = None,
        from_: From = None,
        to: When = None,
        counting: Counting = False,  # noqa: FBT002 - a query
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> EntryPage:
        """List what was done from ``from`` on and before ``to``, the latest first; with what was corrected."""
        return await self._page(_asked(machine, kind, from_, to, counting=counting), page, page_size)

    async def history(
        self, code: MachineCode, kind: KindFilter = None, page: Page = 1, page_size: PageSize = 100
    ) -> EntryPage:
        """List what was done to a machine, the latest first; also of one that was taken out."""
        found = await self._page(Asked(code, kind), page, page_size)
        if not found.total and self._maintenance.machines.machine(code) is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no machine {code!r}: /api/machines lists them")
        return found

    async def get(self, number: EntryNumber) -> EntryOut:
        """Tell one entry."""
        return EntryOut.of(await self._known(number))

    async def add(self, body: NewEntry, caller: CallerOf, response: Response) -> EntryOut:
        """Write down what was done, with what the machine's counters showed then. 200: it was there under its key."""
        entry = body.entry(self._clock.now_us(), key=body.key)
        return await self._add(entry, caller.issuer, response)

    async def correct(self, number: EntryNumber, body: Correction, caller: CallerOf, response: Response) -> EntryOut:
        """Replace an entry by what it should have said, or (``void``) say that it was not done. Both stay."""
        old = await self._known(number)
        entry = body.entry(old.t_us, corrects=number, void=body.void)
        return await self._add(entry, caller.issuer, response)

    async def due(
        self,
        machine: MachineFilter = None,
        state: StateFilter = None,
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> DuePage:
        """List the plans of each machine, the worst and soonest first. Worked out ten minutes ago at most."""
        found = [
            one
            for one in await self._maintenance.due()
            if (machine is None or one.machine == machine) and (state is None or one.state == state)
        ]
        items = [DueOut.of(one) for one in page_of(found, page, page_size)]
        return DuePage(total=len(found), page=page, page_size=page_size, items=items)

    async def plans(self, page: Page = 1, page_size: PageSize = 100) -> PlanPage:
        """List the plans: the ready-made ones as they hold here, then the site's own."""
        found = self._maintenance.plans.all()
        items = [PlanOut.of(one) for one in page_of(found, page, page_size)]
        return PlanPage(total=len(found), page=page, page_size=page_size, items=items)

    async def add_plan(self, body: NewPlan, caller: CallerOf) -> PlanOut:
        """Make a plan, for a machine or for all of a type."""
        if body.machine is not None and self._maintenance.machines.machine(body.machine) is None:
            detail = f"there is no machine {body.machine!r}: /api/machines lists them"
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        return PlanOut.of(await done(self._maintenance.plans.add(body.plan, caller.issuer)))

    async def change_plan(self, plan_id: PlanId, body: PlanChange, caller: CallerOf) -> PlanOut:
        """Give a plan other intervals, another name, or switch it off. What was told is told again if it is due."""
        return PlanOut.of(await done(self._maintenance.plans.change(plan_id, partial(_edited, body), caller.issuer)))

    async def remove_plan(self, plan_id: PlanId, caller: CallerOf) -> Response:
        """Delete a plan; one that came with the program becomes again what it was: switch it off instead."""
        await done(self._maintenance.plans.remove(plan_id, caller.issuer))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def report(self, machine: MachineFilter = None, from_: From = None, to: When = None) -> HTMLResponse:
        """Show each machine with its state, counters, what is due and what was done, as a page to print or to keep."""
        asked = _asked(machine, None, from_, to)
        maintenance, now_us = self._maintenance, self._clock.now_us()
        machines = [one for one in maintenance.machines.machines() if machine in {None, one.code}]
        if machine is not None and not machines:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no machine {machine!r}: /api/machines lists them")
        due = await maintenance.due()
        shown = machines[: report.MAX_MACHINES]
        async with self._turns:
            total, entries = await asyncio.to_thread(maintenance.log.page, asked, report.MAX_ENTRIES, 0)
            counters = await asyncio.to_thread(
                lambda: {one.code: maintenance.readings(one.code, now_us) for one in shown if one.device}
            )
        states = {one.id: one.state.value for one in self._view.devices()}
        site = self._view.site()
        text = report.page(
            report.Report(
                site.name or site.id,
                now_us,
                asked.from_us,
                asked.to_us,
                shown,
                states,
                counters,
                due,
                entries,
                left_out=(len(machines) - len(shown), total - len(entries)),
            )
        )
        headers = {
            "content-security-policy": report.POLICY,
            "content-disposition": 'inline; filename="maintenance.html"',
        }
        return HTMLResponse(text, headers=headers)

    async def report_csv(
        self, machine: MachineFilter = None, kind: KindFilter = None, from_: From = None, to: When = None
    ) -> Response:
        """Columns as the fields of an entry; what is not known is empty. The latest first, 10,000 at most."""
        asked = _asked(machine, kind, from_, to)
        async with self._turns:
            _, entries = await asyncio.to_thread(self._maintenance.log.page, asked, report.MAX_ROWS, 0)
        text = await asyncio.to_thread(report.to_csv, entries)
        return CsvResponse(text, headers={"content-disposition": 'attachment; filename="maintenance.csv"'})

    async def _add(self, entry: Entry, who: str, response: Response) -> EntryOut:
        stored, new = await done(self._maintenance.add(entry, who))
        if not new:
            response.status_code = HTTPStatus.OK
        return EntryOut.of(stored)

    async def _page(self, asked: Asked, page: int, page_size: int) -> EntryPage:
        async with self._turns:
            total, found = await asyncio.to_thread(self._maintenance.log.page, asked, page_size, (page - 1) * page_size)
        items = [EntryOut.of(one) for one in found]
        return EntryPage(total=total, page=page, page_size=page_size, items=items)

    async def _known(self, number: int) -> Entry:
        async with self._turns:
            entry = await asyncio.to_thread(self._maintenance.log.entry, number)
        if entry is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no entry {number}: /api/maintenance lists them")
        return entry

    @property
    def _maintenance(self) -> Maintenance:
        return needed(self._ports.maintenance, "maintenance")


def _asked(
    machine: str | None, kind: Kind | None, from_: str | None, to: str | None, *, counting: bool = False
) -> Asked:
    return Asked(machine, kind, _us("query.from", from_), _us("query.to", to), counting)


def _us(where: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return moment_us(text)
    except ValueError as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {error}") from error


def _edited(body: PlanChange, plan: Plan) -> Plan:
    return replace(plan, **body.sent)
