"""``/api/alarms``: alarms and rules as they stand, what happened to them, and what people do about them.

What can't be done is a problem: 404 there is no such alarm, 422 it can't be done so. To acknowledge, shelve or unshelve
again is no mistake: the answer is the alarm as it is. Who did it stands on the ledger, with the event.
"""

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import HTTPException, Path, Query

from agent.api.access import CallerOf, Routes
from agent.api.alarm_bodies import (
    Acknowledgement,
    AlarmEventOut,
    AlarmEventPage,
    AlarmOut,
    AlarmPage,
    AlarmsAcknowledged,
    KindName,
    SeverityName,
    Shelving,
    StateName,
    kind_of,
)
from agent.api.paging import DeviceFilter, Page, PageSize, Time, needed, page_of, time_us
from agent.api.users import Role
from agent.api.view import AuditBook, SitePorts
from agent.control.alarm_model import Alarms, AlarmStatus
from agent.core.errors import CommandRejected
from agent.store.audit_file import Wanted

READS_AT_ONCE = 2
_MAX_ID = 128

AlarmId = Annotated[str, Path(min_length=1, max_length=_MAX_ID)]
KindFilter = Annotated[KindName | None, Query(description="only alarms, or only rules")]
StateFilter = Annotated[StateName | None, Query(description="only those in this state")]
SeverityFilter = Annotated[SeverityName | None, Query(description="only those of this severity")]
ActiveFilter = Annotated[bool | None, Query(description="only those that are active, or that are not")]
AlarmFilter = Annotated[str | None, Query(min_length=1, max_length=_MAX_ID, description="only of this one")]
HistoryKind = Annotated[KindName, Query(description="of alarms, or of rules")]


def add_alarm_routes(routes: Routes, ports: SitePorts) -> None:
    """Add the routes."""
    one = _AlarmRoutes(ports)
    tag: dict[str, Any] = {"tags": ["alarms"]}
    every, path = "/api/alarms", "/api/alarms/{alarm_id}"
    operator = Role.OPERATOR
    routes.add("GET", every, one.index, Role.VIEWER, summary="List alarms and rules", **tag)
    routes.add("GET", f"{every}/history", one.history, Role.VIEWER, summary="What happened to alarms", **tag)
    routes.add("POST", f"{every}/acknowledge", one.acknowledge_all, operator, summary="Acknowledge all alarms", **tag)
    routes.add("GET", path, one.get, Role.VIEWER, summary="One alarm or rule", **tag)
    routes.add("POST", f"{path}/acknowledge", one.acknowledge, operator, summary="Acknowledge an alarm", **tag)
    routes.add("POST", f"{path}/shelve", one.shelve, operator, summary="Tell nobody of an alarm for a time", **tag)
    routes.add("POST", f"{path}/unshelve", one.unshelve, operator, summary="Tell people of it again", **tag)


class _AlarmRoutes:
    def __init__(self, ports: SitePorts) -> None:
        self._ports = ports
        self._turns = asyncio.Semaphore(READS_AT_ONCE)

    async def index(
        self,
        kind: KindFilter = None,
        state: StateFilter = None,
        severity: SeverityFilter = None,
        active: ActiveFilter = None,
        device: DeviceFilter = None,
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> AlarmPage:
        """List alarms and rules in the order of the configuration."""
        found = [
            status
            for status in self._alarms.alarms()
            if (kind is None or kind_of(status) == kind)
            and (state is None or status.state == state)
            and (severity is None or status.spec.severity == severity)
            and (active is None or status.active is active)
            and (device is None or status.spec.device == device)
        ]
        items = [AlarmOut.of(status) for status in page_of(found, page, page_size)]
        return AlarmPage(total=len(found), page=page, page_size=page_size, items=items)

    async def get(self, alarm_id: AlarmId) -> AlarmOut:
        """Tell how one stands, and why."""
        return AlarmOut.of(self._known(alarm_id))

    async def history(
        self,
        alarm: AlarmFilter = None,
        kind: HistoryKind = "alarm",
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> AlarmEventPage:
        """List what happened from ``from`` on and before ``to``, newest first; also to those that are gone by now."""
        from_us = None if from_ is None else time_us("query.from", from_)
        to_us = None if to is None else time_us("query.to", to)
        wanted = Wanted(from_us, to_us, f"{kind}.", alarm)
        async with self._turns:
            total, rows = await asyncio.to_thread(self._ledger.ledger, wanted, page_size, (page - 1) * page_size)
        items = [AlarmEventOut.of(row) for row in rows]
        return AlarmEventPage(total=total, page=page, page_size=page_size, items=items)

    async def acknowledge(self, alarm_id: AlarmId, caller: CallerOf, body: Acknowledgement | None = None) -> AlarmOut:
        """Say that one has seen it. A latched alarm that is over ends with that."""
        self._known(alarm_id)
        note = "" if body is None else body.note
        return await self._do(self._alarms.acknowledge(alarm_id, caller.issuer, note))

    async def acknowledge_all(self, caller: CallerOf) -> AlarmsAcknowledged:
        """Say that one has seen all that there are."""
        changed = await self._alarms.acknowledge_all(caller.issuer)
        return AlarmsAcknowledged(items=[AlarmOut.of(status) for status in changed])

    async def shelve(self, alarm_id: AlarmId, body: Shelving, caller: CallerOf) -> AlarmOut:
        """Have nobody told of it for so long. What it does with stations goes on."""
        self._known(alarm_id)
        return await self._do(self._alarms.shelve(alarm_id, body.for_s, caller.issuer, body.reason))

    async def unshelve(self, alarm_id: AlarmId, caller: CallerOf) -> AlarmOut:
        """Have people told of it again."""
        self._known(alarm_id)
        return await self._do(self._alarms.unshelve(alarm_id, caller.issuer))

    async def _do(self, act: Awaitable[AlarmStatus]) -> AlarmOut:
        try:
            return AlarmOut.of(await act)
        except CommandRejected as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, error.reason) from error

    @property
    def _alarms(self) -> Alarms:
        return needed(self._ports.alarms, "alarms")

    @property
    def _ledger(self) -> AuditBook:
        return needed(self._ports.ledger, "a ledger")

    def _known(self, alarm_id: str) -> AlarmStatus:
        status = self._alarms.alarm(alarm_id)
        if status is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no alarm {alarm_id!r}: /api/alarms lists them")
        return status
