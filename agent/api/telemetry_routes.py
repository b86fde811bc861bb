"""``/api/telemetry``: rows that clients post, stored once for each device and time. ``/api/points``: our names.

Rules of this file:

1. What is answered with 200 is on disk. Rows that are posted again are counted and change nothing, so a client that got
   no answer sends the same again.
2. Rows are data, not acts: they are not told to the audit.
3. So many bytes of bodies are held at once, whatever so many clients send; two bodies are read at a time, in threads.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException, Request
from pydantic import Field
from starlette.responses import Response

from agent.api import problems
from agent.api.access import Routes
from agent.api.models import Model
from agent.api.paging import NameFilter, Page, PageSize, needed, page_of
from agent.api.telemetry_bodies import SCHEMA, BodyError, RowError, TelemetryOut, read_rows
from agent.api.users import Role
from agent.api.view import SitePorts, Taken
from agent.core.clock import Clock, is_set
from agent.core.model import Kind
from agent.core.points import POINTS

MAX_HELD_BYTES = 32 << 20
READS_AT_ONCE = 2
_AGAIN_S = "5"


class CommonPointOut(Model):
    """A name that a signal may have."""

    name: str
    unit: str
    kind: Kind
    doc: str
    array: bool = Field(description="`name.N` is the N-th of many, from 1")


class PointPage(Model):
    """A page of names."""

    total: int
    page: int
    page_size: int
    items: list[CommonPointOut]


def add_telemetry_routes(routes: Routes, ports: SitePorts, clock: Clock) -> None:
    """Add the routes."""
    one = _TelemetryRoutes(ports, clock)
    tag: dict[str, Any] = {"tags": ["telemetry"]}
    routes.add(
        "POST",
        "/api/telemetry",
        one.post,
        Role.OPERATOR,
        summary="Store rows of vehicles, batteries and other devices",
        response_model=TelemetryOut,
        openapi_extra={"requestBody": SCHEMA},
        **tag,
    )
    routes.add("GET", "/api/points", one.points, Role.VIEWER, summary="List the names of points", **tag)


class _TelemetryRoutes:
    def __init__(self, ports: SitePorts, clock: Clock) -> None:
        self._ports = ports
        self._clock = clock
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._held_bytes = 0

    async def post(self, request: Request) -> Response:
        """Store rows, at most 10,000, each checked by itself; a device and time that is stored already is a duplicate.

        Two forms, mixed as it comes: the battery monitor's (`vin`, `ts`, `soc`, `soh`, `pack_voltage`, `pack_current`,
        `max_temp`, `min_temp`, `odo_km`) and `device`, `ts`, `values` by the names of `/api/points`. Numbers are kept
        exactly as sent, and so is the sign of `pack_current`. The answer comes when the rows are on disk. It is 422
        when no row was good; 503 asks to send the same again later.
        """
        posted = needed(self._ports.posted, "posted devices")
        now_us = good_time_us(self._clock)
        length = int(request.headers.get("content-length", "0"))
        if self._held_bytes + length > MAX_HELD_BYTES:
            detail = "too much is being posted at once: send the same again later"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": _AGAIN_S})
        self._held_bytes += length
        try:
            body = await request.body()
            async with self._turns:
                rows = await asyncio.to_thread(read_rows, body, now_us, posted.oldest_us())
            taken = await posted.post(rows.good)
        except BodyError as error:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if error.too_large else HTTPStatus.UNPROCESSABLE_ENTITY
            raise HTTPException(status, str(error)) from error
        finally:
            self._held_bytes -= length
        bad = sorted([*rows.bad, *taken.refused])
        return await asyncio.to_thread(_answer, taken, bad, request.url.path)

    async def points(self, name: NameFilter = None, page: Page = 1, page_size: PageSize = 100) -> PointPage:
        """List the names that posted values may have, with their units."""
        found = [point for point in POINTS.values() if name is None or name in point.name]
        items = [
            CommonPointOut(name=one.name, unit=one.unit, kind=one.kind, doc=one.doc, array=one.array)
            for one in page_of(found, page, page_size)
        ]
        return PointPage(total=len(found), page=page, page_size=page_size, items=items)


def good_time_us(clock: Clock) -> int:
    """The time, to judge others' times by; a problem while the clock was never set, after a start without a network."""
    if not is_set(clock):
        detail = "the clock of this gateway is not set yet: send the same again later"
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": _AGAIN_S})
    return clock.now_us()


def _answer(taken: Taken, bad: list[tuple[int, str]], path: str) -> Response:
    """The answer; of ten thousand bad rows it takes a while, so it is made in a thread."""
    if bad and not taken.inserted and not taken.duplicates:
        errors = [{"row": row, "detail": detail} for row, detail in bad]
        detail = f"no row was good: {bad[0][1]} (row {bad[0][0]})"
        return problems.problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, instance=path, errors=errors)
    found = TelemetryOut(
        inserted=taken.inserted,
        duplicates=taken.duplicates,
        errors=[RowError(row=row, detail=detail) for row, detail in bad],
    )
    return Response(found.model_dump_json(), media_type="application/json")
