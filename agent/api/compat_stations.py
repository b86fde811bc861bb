"""The charging-station backend's routes: its names and words for our stations and schedules."""

import asyncio
from typing import Annotated, Literal

from fastapi import HTTPException, Path, Query, Response
from pydantic import Field

from agent.api.access import CallerOf
from agent.api.answers import JobRunOut, ResultOut, StationOut, StationPage
from agent.api.auth import Caller
from agent.api.bodies import JobRun, NewStation, StationChange, StationCommand, StationKw, StationName, StationPlace
from agent.api.compat_base import X_TOTAL, FormerBody, Translator
from agent.api.models import Model
from agent.api.paging import MAX_PAGE_SIZE, Page, PageSize, needed
from agent.api.problems import RejectedError
from agent.api.station_registry_routes import registry

#: So many stations are toggled at the same time: each waits for the disk.
AT_ONCE = 16

Word = Literal["activo", "inactivo", "active", "inactive"]
Id = Annotated[str, Path(min_length=1, max_length=100, description="its number, or its id")]


class FormerStation(FormerBody):
    """A station to register."""

    name: StationName = Field(examples=["Lot 4"])
    location: StationPlace = Field("", examples=["North yard"])
    max_kw: StationKw | None = Field(None, description="what it can deliver", examples=[22])
    status: Word = "activo"


class FormerStationOut(Model):
    """A station."""

    id: int | str = Field(description="its number; the id of one that has none yet")
    name: str
    location: str
    max_kw: float | None = Field(description="what it can deliver; null: not known")
    status: Literal["activo", "inactivo"] = Field(description="inactivo: it was decided to be off")

    @classmethod
    def of(cls, station: StationOut) -> "FormerStationOut":
        """In its names and words."""
        return cls(
            id=station.id if station.number is None else station.number,
            name=station.name,
            location=station.location,
            max_kw=station.max_kw,
            status="inactivo" if station.status == "off" else "activo",
        )


class FormerStatsOut(Model):
    """How many stations there are."""

    total: int
    active: int
    inactive: int
    total_kw: float = Field(description="what all of them can deliver together, as far as that is known")


class ToggledOut(Model):
    """What came of toggling."""

    message: str
    toggled: int = Field(description="stations that were toggled")
    failed: int = Field(description="stations that were not: refused, or somebody stronger wants otherwise")
    schedules: list[str] = Field(description="the schedules that were done; empty: registered stations were toggled")


class StationBackend(Translator):
    """Its routes."""

    async def create(self, body: FormerStation, caller: CallerOf) -> FormerStationOut:
        """Register a station. It gets a number that no other station ever has."""
        wanted = NewStation(name=body.name, location=body.location, max_kw=body.max_kw, status=body.status)
        return FormerStationOut.of(await self.canonical("POST /api/stations")(wanted, caller))

    async def index(
        self, response: Response, page: Page = 1, page_size: PageSize = MAX_PAGE_SIZE
    ) -> list[FormerStationOut]:
        """List the stations, chargers among them; the header `x-total-count` says how many there are in all."""
        found: StationPage = await self.canonical("GET /api/stations")(page=page, page_size=page_size)
        response.headers[X_TOTAL] = str(found.total)
        return [FormerStationOut.of(one) for one in found.items]

    async def change(
        self, station_id: Id, status: Annotated[Word, Query(description="what it is to be")], caller: CallerOf
    ) -> FormerStationOut:
        """Activate or deactivate a station, by hand: it holds until somebody says otherwise."""
        name = self._name_of(station_id)
        changed = await self.canonical("PATCH /api/stations/{station_id}")(name, StationChange(status=status), caller)
        return FormerStationOut.of(changed.station)

    async def stats(self) -> FormerStatsOut:
        """Count the stations. A charger with several outlets is these, not one more."""
        found = await self.canonical("GET /api/stations/stats")()
        return FormerStatsOut(total=found.total, active=found.active, inactive=found.inactive, total_kw=found.total_kw)

    async def run(self, caller: CallerOf) -> ToggledOut:
        """Toggle now: do all schedules that toggle stations. Where there is none, toggle all registered stations.

        Chargers are only toggled by a schedule that names them (or `*`): nobody's charging is cut off by default.
        """
        jobs = [one.id for one in needed(self.ports.control, "control").jobs() if one.toggles]
        if jobs:
            done = [one for job in jobs for one in await self._do(job, caller)]
        else:
            turns = asyncio.Semaphore(AT_ONCE)
            names = [one.id for one in registry(self.ports).all()]
            done = [*await asyncio.gather(*(self._toggle(name, caller, turns) for name in names))]
        toggled = done.count(True)
        failed = len(done) - toggled
        return ToggledOut(message=f"{toggled} stations were toggled", toggled=toggled, failed=failed, schedules=jobs)

    async def _do(self, job: str, caller: Caller) -> list[bool]:
        ran: JobRunOut = await self.canonical("POST /api/scheduler/run")(JobRun(id=job), caller)
        return [_came_about(one) for one in ran.results]

    async def _toggle(self, name: str, caller: Caller, turns: asyncio.Semaphore) -> bool:
        command = self.canonical("POST /api/stations/{station_id}/commands")
        async with turns:
            try:
                result = await command(name, StationCommand(action="toggle"), caller)
            except (RejectedError, HTTPException):  # one that is taken out meanwhile
                return False
        return _came_about(result)

    def _name_of(self, text: str) -> str:
        """The id of the station with that number; what is no number is an id."""
        if self.ports.registered is None or not text.isdecimal():
            return text
        names = {str(number): name for name, number in self.ports.registered.numbers().items()}
        return names.get(text, text)


def _came_about(result: ResultOut) -> bool:
    """Whether a station is what was wished: somebody stronger may want something else."""
    return result.outcome == "done" and result.data.get("in_force") is not False
