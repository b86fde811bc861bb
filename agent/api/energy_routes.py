"""``/api/energy``: consumption in, totals out. ``/api/recommendations``, and the figures of all stations.

Rules of this file:

1. What is answered with 201 is on disk. A posting that is repeated counts once, so who got no answer posts it again.
2. Postings are data, not acts: they are not told to the audit.
3. What is read from history is read in a thread, two at a time, and bounded by insight.
"""

import asyncio
import csv
import io
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import HTTPException, Query, Request
from starlette.responses import Response

from agent.api import problems
from agent.api.access import Routes
from agent.api.csv_answer import CsvResponse
from agent.api.energy_bodies import (
    BucketName,
    DirectionName,
    EnergyOut,
    EnergySettingsOut,
    EnergyTaken,
    Postings,
    RecommendationOut,
    RecommendationPage,
    StationStats,
)
from agent.api.paging import DeviceFilter, Page, PageSize, Time, needed, page_of, time_us
from agent.api.telemetry_bodies import RowError
from agent.api.telemetry_routes import good_time_us
from agent.api.times import iso
from agent.api.users import Role
from agent.api.view import GatewayView, SitePorts
from agent.core.clock import Clock
from agent.insight.energy import Energy
from agent.insight.service import Insight
from agent.insight.statistics import count_stations

T = TypeVar("T")

READS_AT_ONCE = 2
_DAY_US = 86_400_000_000
_DEFAULT_US = {"hour": _DAY_US, "day": 30 * _DAY_US, "month": 365 * _DAY_US}

Device = Annotated[str, Query(min_length=1, max_length=200, description="a configured or a posted device")]
Bucket = Annotated[BucketName, Query(description="of the site's time zone")]
Direction = Annotated[DirectionName, Query(description="drawn from the site, or given to it")]
Cost = Annotated[bool, Query(description="also tell what it costs, or earns")]
From = Annotated[Time, Query(alias="from")]
KindFilter = Annotated[str | None, Query(min_length=1, max_length=100, description="only of this kind")]


def add_station_stats_route(routes: Routes, ports: SitePorts) -> None:
    """Add ``/api/stations/stats``: before the routes of single stations, of which none can be called ``stats``."""

    async def stats() -> StationStats:
        """Count the stations, and sum up what they can give: what they are registered with, or can be set to."""
        registered = () if ports.registered is None else ports.registered.all()
        known_w = {one.id: one.max_w for one in registered if one.max_w is not None}
        return StationStats.of(count_stations(needed(ports.control, "control").stations(), known_w))

    routes.add("GET", "/api/stations/stats", stats, Role.VIEWER, summary="Figures of all stations", tags=["stations"])


def add_energy_routes(routes: Routes, view: GatewayView, ports: SitePorts, clock: Clock) -> None:
    """Add the routes."""
    one = _EnergyRoutes(view, ports, clock)
    tag: dict[str, Any] = {"tags": ["energy"]}
    read = partial(routes.add, "GET")
    routes.add(
        "POST",
        "/api/energy",
        one.post,
        Role.OPERATOR,
        summary="Count consumption that is posted",
        status_code=HTTPStatus.CREATED,
        response_model=EnergyTaken,
        **tag,
    )
    read("/api/energy", one.totals, Role.VIEWER, summary="Energy of a device by hour, day or month", **tag)
    read("/api/energy.csv", one.export, Role.VIEWER, summary="The same as CSV", response_class=CsvResponse, **tag)
    read("/api/energy/settings", one.settings, Role.VIEWER, summary="What energy is reckoned with", **tag)
    read("/api/recommendations", one.recommendations, Role.VIEWER, summary="What is worth doing", **tag)


class Reads:
    """What insight is asked, in threads, so many at a time."""

    def __init__(self, ports: SitePorts) -> None:
        self._ports = ports
        self._turns = asyncio.Semaphore(READS_AT_ONCE)

    async def ask(self, question: Callable[[Insight], T]) -> T:
        """The answer; a question that is out of bounds is a problem that says how."""
        insight = needed(self._ports.insight, "insight")
        async with self._turns:
            try:
                return await asyncio.to_thread(question, insight)
            except ValueError as error:
                raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


class _EnergyRoutes:
    def __init__(self, view: GatewayView, ports: SitePorts, clock: Clock) -> None:
        self._view = view
        self._ports = ports
        self._clock = clock
        self._reads = Reads(ports)

    async def post(self, request: Request, body: Postings) -> Response:
        """Count consumption: one posting, or a list of them, each the energy of an interval that its time names.

        (device, time) counts once: a repeated posting is a duplicate and changes nothing, another energy for the same
        time is refused. One that is older than others of its device counts, at the time of the newest. The answer
        comes when all is on disk; it is 409 or 422 when no posting was taken.
        """
        good_time_us(self._clock)
        rows = [one.posted(place) for place, one in enumerate(body if isinstance(body, list) else [body])]
        taken = await needed(self._ports.energy, "posted consumption").post(rows)
        errors = [RowError(row=row, detail=detail) for row, detail in taken.refused]
        if errors and not taken.inserted and not taken.duplicates:
            status = HTTPStatus.CONFLICT if taken.conflicts == len(errors) else HTTPStatus.UNPROCESSABLE_ENTITY
            found = [one.model_dump() for one in errors]
            return problems.problem(status, errors[0].detail, instance=request.url.path, errors=found)
        answer = EnergyTaken(inserted=taken.inserted, duplicates=taken.duplicates, late=taken.late, errors=errors)
        return Response(answer.model_dump_json(), HTTPStatus.CREATED, media_type="application/json")

    async def totals(
        self,
        device: Device,
        bucket: Bucket = "day",
        from_: From = None,
        to: Time = None,
        direction: Direction = "import",
        cost: Cost = False,  # noqa: FBT002 - a query
    ) -> EnergyOut:
        """Tell the energy by the hours, days or months that the range touches: from its register, from what is posted,
        or from its power. Without `from`: the last 24 hours, 30 days, or 12 months.
        """  # noqa: D205 - one sentence
        found = await self._energy(device, bucket, from_, to, direction)
        if not cost:
            return EnergyOut.of(found, bucket)
        from_us, to_us = found.periods[0].from_us, found.periods[-1].to_us
        money = await self._reads.ask(lambda insight: insight.cost(device, bucket, from_us, to_us, direction))
        return EnergyOut.of(found, bucket, money)

    async def export(
        self,
        device: Device,
        bucket: Bucket = "day",
        from_: From = None,
        to: Time = None,
        direction: Direction = "import",
    ) -> Response:
        """Columns device, direction, from, to, wh, estimated, reasons; what is not known is empty."""
        found = await self._energy(device, bucket, from_, to, direction)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(["device", "direction", "from", "to", "wh", "estimated", "reasons"])
        for one in found.periods:
            wh = None if one.wh is None else round(one.wh, 3)
            reasons = " ".join(one.reasons)
            writer.writerow([device, direction, iso(one.from_us), iso(one.to_us), wh, int(one.estimated), reasons])
        return CsvResponse(text.getvalue(), headers={"content-disposition": 'attachment; filename="energy.csv"'})

    async def settings(self) -> EnergySettingsOut:
        """Tell which device measures the grid connection, and what a kWh costs by the day of the week and the time."""
        return EnergySettingsOut.of(needed(self._ports.insight, "insight").settings)

    async def recommendations(
        self, device: DeviceFilter = None, kind: KindFilter = None, page: Page = 1, page_size: PageSize = 100
    ) -> RecommendationPage:
        """List what the last four weeks say is worth doing, the most urgent first."""
        found = [
            one
            for one in await self._reads.ask(lambda insight: insight.recommendations())
            if (device is None or one.device == device) and (kind is None or one.kind == kind)
        ]
        items = [RecommendationOut.of(one) for one in page_of(found, page, page_size)]
        return RecommendationPage(total=len(found), page=page, page_size=page_size, items=items)

    async def _energy(
        self, device: str, bucket: BucketName, from_: str | None, to: str | None, direction: DirectionName
    ) -> Energy:
        if not any(signal.device == device for signal in self._view.signals()):
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no device {device!r}: /api/signals lists them")
        to_us = self._clock.now_us() if to is None else time_us("query.to", to)
        from_us = to_us - _DEFAULT_US[bucket] if from_ is None else time_us("query.from", from_)
        return await self._reads.ask(lambda insight: insight.energy(device, bucket, from_us, to_us, direction))
