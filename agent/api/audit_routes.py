"""``/api/audit``: the ledger, in which all that was done and happened stands once, chained (``agent/store/chain.py``).

``enlace audit verify`` checks the chain; here the events are shown, and exported with their hashes.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from itertools import chain, islice
from typing import Annotated, Any

from fastapi import HTTPException, Query
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agent.api.access import CallerOf, Routes
from agent.api.auth import Auth
from agent.api.csv_answer import CsvResponse
from agent.api.paging import Page, PageSize, Time, needed, time_us
from agent.api.times import iso
from agent.api.users import Role
from agent.api.view import AuditBook, SitePorts
from agent.store.audit import Row
from agent.store.audit_file import Wanted

READS_AT_ONCE = 2
EXPORTS_AT_ONCE = 2
_MAX_NAME = 200
#: Lines that leave together: each piece is a turn of a thread.
_PIECE_LINES = 500

Kind = Annotated[str, Query(max_length=_MAX_NAME, description="kinds that begin so: `command`, `audit`, `alarm.`")]
Subject = Annotated[str | None, Query(max_length=_MAX_NAME, description="the device, station or part it is about")]


class AuditOut(BaseModel):
    """One event of the ledger."""

    seq: int = Field(description="its number; none is given twice")
    time: str
    kind: str
    subject: str = Field(description="the device, station or part that it is about")
    data: dict[str, Any] | None = Field(description="null: it is damaged")
    hash: str | None = Field(description="its link in the chain; null: from before the chain")

    @classmethod
    def of(cls, row: Row) -> "AuditOut":
        """What is shown of a row, also of a damaged one."""
        try:
            data = json.loads(row.data)
        except (ValueError, TypeError):
            data = None
        return cls(
            seq=row.seq,
            time=iso(row.t_us) if row.sound else "",
            kind=_shown(row.kind),
            subject=_shown(row.subject),
            data=data if isinstance(data, dict) else None,
            hash=None if row.hash is None else row.hash.hex(),
        )


class AuditPage(BaseModel):
    """A page of the ledger, newest first."""

    total: int
    page: int
    page_size: int
    items: list[AuditOut]


def add_audit_routes(routes: Routes, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _AuditRoutes(ports, auth)
    tag: dict[str, Any] = {"tags": ["audit"]}
    routes.add("GET", "/api/audit", one.index, Role.OPERATOR, summary="Who did what, and what happened", **tag)
    summary = "The same as CSV, with the hashes"
    routes.add("GET", "/api/audit.csv", one.export, Role.ADMIN, summary=summary, response_class=CsvResponse, **tag)


class _AuditRoutes:
    def __init__(self, ports: SitePorts, auth: Auth) -> None:
        self._ports = ports
        self._auth = auth
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._exports = 0

    async def index(
        self,
        kind: Kind = "",
        subject: Subject = None,
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> AuditPage:
        """List events from ``from`` on and before ``to``, newest first."""
        wanted = _wanted(kind, subject, from_, to)
        async with self._turns:
            total, rows = await asyncio.to_thread(self._book.ledger, wanted, page_size, (page - 1) * page_size)
        items = [AuditOut.of(row) for row in rows]
        return AuditPage(total=total, page=page, page_size=page_size, items=items)

    async def export(
        self,
        caller: CallerOf,
        kind: Kind = "",
        subject: Subject = None,
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
    ) -> Response:
        """Columns seq, time, t_us, boot, kind, subject, data, prev and hash; oldest first, streamed."""
        wanted = _wanted(kind, subject, from_, to)
        if self._exports >= EXPORTS_AT_ONCE:
            detail = "too many exports of the ledger run"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "10"})
        self._exports += 1
        with ExitStack() as unless_begun:
            unless_begun.callback(self._ended)
            pieces = _pieces(self._book.ledger_csv(wanted, iso))
            first = await asyncio.to_thread(next, pieces)  # a ledger that can't be read is a problem, not a cut file
            self._auth.audit(caller.name, "export ledger", "ledger", "done")
            unless_begun.pop_all()
        return _Export(chain([first], pieces), self._ended)

    def _ended(self) -> None:
        self._exports -= 1

    @property
    def _book(self) -> AuditBook:
        return needed(self._ports.ledger, "a ledger")


class _Export(StreamingResponse):
    media_type = "text/csv"

    def __init__(self, pieces: Iterator[str], ended: Callable[[], None]) -> None:
        super().__init__(pieces, headers={"content-disposition": 'attachment; filename="audit.csv"'})
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    while piece := "".join(islice(lines, _PIECE_LINES)):
        yield piece


def _wanted(kind: str, subject: str | None, from_: str | None, to: str | None) -> Wanted:
    from_us = None if from_ is None else time_us("query.from", from_)
    to_us = None if to is None else time_us("query.to", to)
    return Wanted(from_us, to_us, kind, subject)


def _shown(text: object) -> str:
    """A text of the file as JSON can say it: damaged letters as escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode()
