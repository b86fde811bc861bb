"""``/api/sessions`` and ``/api/id-tags``: who charged what, and who may charge. A tag is shown as its hash only."""

import asyncio
import csv
import io
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Path, Query
from starlette.responses import Response

from agent.api.access import CallerOf, Routes
from agent.api.answers import IdTagOut, IdTagPage, SessionOut, SessionPage
from agent.api.auth import Auth
from agent.api.bodies import IdTag, IdTagFields
from agent.api.csv_answer import CsvResponse
from agent.api.paging import DeviceFilter, Page, PageSize, Time, needed, page_of, tells, time_us
from agent.api.times import parse_time
from agent.api.users import Role
from agent.api.view import SessionBook, SitePorts
from agent.core.model import Session
from agent.core.ports import Notebook

MAX_TAGS = 10_000
MAX_EXPORT = 10_000
READS_AT_ONCE = 2

_KIND = "id_tag"
_MAX_NUMBER = (1 << 63) - 1
_MAX_OUTLET = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

SessionNumber = Annotated[int, Path(ge=1, le=_MAX_NUMBER)]
TagHash = Annotated[str, Path(pattern="^[0-9a-f]{1,64}$")]
Running = Annotated[bool | None, Query(description="only those that run, or that have ended")]
Outlet = Annotated[int | None, Query(ge=0, le=_MAX_OUTLET, description="only of this outlet; 0: it has one alone")]
TagStatus = Annotated[Literal["Accepted", "Blocked"] | None, Query(description="only those of this status")]
LabelFilter = Annotated[str | None, Query(min_length=1, max_length=200, description="part of the label")]
Rows = Annotated[int, Query(ge=1, le=MAX_EXPORT, description="at most so many, the newest")]


def add_session_routes(routes: Routes, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _SessionRoutes(ports)
    tag: dict[str, Any] = {"tags": ["sessions"]}
    routes.add("GET", "/api/sessions", one.index, Role.VIEWER, summary="List charging sessions", **tag)
    routes.add(
        "GET",
        "/api/sessions.csv",
        one.export,
        Role.VIEWER,
        summary="The same as CSV",
        response_class=CsvResponse,
        **tag,
    )
    routes.add("GET", "/api/sessions/{number}", one.get, Role.VIEWER, summary="One charging session", **tag)
    tags = _TagRoutes(ports, auth)
    tag = {"tags": ["id tags"]}
    path = "/api/id-tags/{tag_id}"
    routes.add("GET", "/api/id-tags", tags.index, Role.OPERATOR, summary="List id tags", **tag)
    routes.add("PUT", "/api/id-tags", tags.put, Role.OPERATOR, summary="Let an id tag charge, or block it", **tag)
    routes.add("PUT", path, tags.change, Role.OPERATOR, summary="Change what is known of an id tag", **tag)
    routes.add("DELETE", path, tags.remove, Role.OPERATOR, summary="Forget an id tag", status_code=204, **tag)


class _SessionRoutes:
    def __init__(self, ports: SitePorts) -> None:
        self._ports = ports
        self._turns = asyncio.Semaphore(READS_AT_ONCE)

    async def index(
        self,
        device: DeviceFilter = None,
        outlet: Outlet = None,
        running: Running = None,
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> SessionPage:
        """List sessions that started from ``from`` on and before ``to``, newest first."""
        total, found = await self._read(
            device, outlet, running, from_, to, limit=page_size, offset=(page - 1) * page_size
        )
        items = [SessionOut.of(session, self._hash) for session in found]
        return SessionPage(total=total, page=page, page_size=page_size, items=items)

    async def get(self, number: SessionNumber) -> SessionOut:
        """Tell one session by its number."""
        async with self._turns:
            session = await asyncio.to_thread(self._book.session, number)
        if session is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no session {number}: /api/sessions lists them")
        return SessionOut.of(session, self._hash)

    async def export(
        self,
        device: DeviceFilter = None,
        outlet: Outlet = None,
        running: Running = None,
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
        rows: Rows = MAX_EXPORT,
    ) -> Response:
        """Columns as the fields of a session; what is not known is empty."""
        _, found = await self._read(device, outlet, running, from_, to, limit=rows, offset=0)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        names = list(SessionOut.model_fields)
        writer.writerow(names)
        for session in found:
            fields = SessionOut.of(session, self._hash).model_dump()
            writer.writerow([_cell(fields[name]) for name in names])
        return CsvResponse(text.getvalue(), headers={"content-disposition": 'attachment; filename="sessions.csv"'})

    async def _read(
        self,
        device: str | None,
        outlet: int | None,
        running: bool | None,  # noqa: FBT001 - a filter of three values
        from_: str | None,
        to: str | None,
        *,
        limit: int,
        offset: int,
    ) -> tuple[int, list[Session]]:
        from_us = None if from_ is None else time_us("query.from", from_)
        to_us = None if to is None else time_us("query.to", to)
        async with self._turns:
            read = partial(self._book.list_sessions, device, running, from_us, to_us, outlet=outlet)
            total, found = await asyncio.to_thread(read, limit=limit, offset=offset)
        return total, [*found]

    @property
    def _book(self) -> SessionBook:
        return needed(self._ports.sessions, "sessions")

    def _hash(self, tag: str) -> str:
        return needed(self._ports.tag_hash, "id tags")(tag)


class _TagRoutes:
    def __init__(self, ports: SitePorts, auth: Auth) -> None:
        self._ports = ports
        self._auth = auth

    async def index(
        self, status: TagStatus = None, name: LabelFilter = None, page: Page = 1, page_size: PageSize = 100
    ) -> IdTagPage:
        """List the tags that are known, by label."""
        known = [IdTagOut.of(tag, note, self._hash) for tag, note in self._notebook.notes(_KIND).items()]
        known = [one for one in known if status in {None, one.status} and tells(name, one.label)]
        known.sort(key=lambda one: (one.label.casefold(), one.id))
        items = page_of(known, page, page_size)
        return IdTagPage(total=len(known), page=page, page_size=page_size, items=[*items])

    async def put(self, body: IdTag, caller: CallerOf) -> IdTagOut:
        """Add a tag, or replace what is known of it. The tag is not shown again: its hash is."""
        tag = body.tag.casefold()
        known = self._notebook.notes(_KIND)
        if tag not in known and len(known) >= MAX_TAGS:
            raise HTTPException(HTTPStatus.CONFLICT, f"there are {MAX_TAGS} id tags already: forget some first")
        return await self._write(tag, body, caller.name, body.tag)

    async def change(self, tag_id: TagHash, body: IdTagFields, caller: CallerOf) -> IdTagOut:
        """Replace what is known of a tag, by the hash that the list shows."""
        tag = self._find(tag_id)
        spelt = (self._notebook.note(_KIND, tag) or {}).get("tag")
        return await self._write(tag, body, caller.name, spelt if isinstance(spelt, str) else tag)

    async def remove(self, tag_id: TagHash, caller: CallerOf) -> Response:
        """Forget a tag: it is unknown then."""
        event = self._auth.audit_event(caller.name, "forget id tag", tag_id, "done")
        await self._notebook.write(_KIND, self._find(tag_id), None, [event])
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _write(self, tag: str, body: IdTagFields, who: str, spelt: str) -> IdTagOut:
        note: Mapping[str, object] = {
            "tag": spelt,
            "label": body.label,
            "status": body.status,
            "until_us": None if body.until is None else parse_time(body.until),
            "parent": body.parent,
        }
        shown = IdTagOut.of(tag, note, self._hash)
        old = (self._notebook.note(_KIND, tag) or {}).get("status")
        event = self._auth.audit_event(who, f"id tag {body.status}", shown.id, "done", old=old, new=body.status)
        await self._notebook.write(_KIND, tag, note, [event])
        return shown

    def _find(self, tag_id: str) -> str:
        for tag in self._notebook.notes(_KIND):
            if self._hash(tag) == tag_id:
                return tag
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no id tag {tag_id}: /api/id-tags lists them")

    @property
    def _notebook(self) -> Notebook:
        return needed(self._ports.notebook, "id tags")

    @property
    def _hash(self) -> Callable[[str], str]:
        return needed(self._ports.tag_hash, "id tags")


def _cell(value: object) -> object:
    """A charger's text must not be taken for a formula by who opens the file in a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
