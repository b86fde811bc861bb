"""``/api/scheduler``: the schedules of the configuration, and doing one out of turn."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import HTTPException, Query

from agent.api.access import CallerOf, Routes
from agent.api.answers import JobOut, JobPage, JobRunOut, ResultOut
from agent.api.auth import Auth
from agent.api.bodies import JobRun
from agent.api.paging import IdFilter, Page, PageSize, needed, page_of, tells
from agent.api.users import Role
from agent.api.view import SitePorts
from agent.control.model import Control

RunningFilter = Annotated[bool | None, Query(description="only those that are being done now, or are not")]


def add_schedule_routes(routes: Routes, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _ScheduleRoutes(ports, auth)
    tag: dict[str, Any] = {"tags": ["schedules"]}
    routes.add("GET", "/api/scheduler/jobs", one.index, Role.VIEWER, summary="List schedules", **tag)
    routes.add("POST", "/api/scheduler/run", one.run, Role.OPERATOR, summary="Do a schedule now", **tag)


class _ScheduleRoutes:
    def __init__(self, ports: SitePorts, auth: Auth) -> None:
        self._ports = ports
        self._auth = auth

    async def index(
        self, name: IdFilter = None, running: RunningFilter = None, page: Page = 1, page_size: PageSize = 100
    ) -> JobPage:
        """List the schedules that are not switched off, in the order of the configuration."""
        jobs = [one for one in self._control.jobs() if running in {None, one.running} and tells(name, one.id)]
        items = [JobOut.of(job) for job in page_of(jobs, page, page_size)]
        return JobPage(total=len(jobs), page=page, page_size=page_size, items=items)

    async def run(self, body: JobRun, caller: CallerOf) -> JobRunOut:
        """Do it out of turn, in the schedule's name, and wait for what comes of it; its times stay as they are."""
        results = await self._control.run_now(body.id)
        if results is None:
            detail = f"there is no schedule {body.id!r}: /api/scheduler/jobs lists them"
            raise HTTPException(HTTPStatus.NOT_FOUND, detail)
        words = ", ".join(result.outcome.value for result in results)
        self._auth.audit(caller.name, "run schedule", body.id, words or "nothing was done")
        return JobRunOut(id=body.id, results=[ResultOut.of(result) for result in results])

    @property
    def _control(self) -> Control:
        return needed(self._ports.control, "control")
