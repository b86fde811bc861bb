"""``/api/events``: timed events, by which stations are switched or limited once, from a time to another.

What can't be done is a problem: 404 there is no such event, 409 its state does not allow it any more, 422 it can't be
done so. Starting, finishing and cancelling may be repeated: the answer is the event as it is.
"""

from collections.abc import Awaitable, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import HTTPException, Path, Query

from agent.api.access import CallerOf, Routes
from agent.api.auth import Auth, Caller
from agent.api.event_bodies import EventChange, EventOut, EventPage, NewEvent, StateName
from agent.api.paging import Page, PageSize, Time, needed, page_of, time_us
from agent.api.users import Role
from agent.api.view import SitePorts
from agent.control.alarm_model import ALL, RuleAct
from agent.control.timed_event_model import TimedEvent, TimedEventBook
from agent.core.errors import CommandRejected, Refusal

_STATUS = {
    Refusal.NOT_CAPABLE: HTTPStatus.NOT_FOUND,
    Refusal.OUT_OF_RANGE: HTTPStatus.UNPROCESSABLE_ENTITY,
}
_THERE = "/api/events lists them"

EventId = Annotated[str, Path(min_length=1, max_length=100)]
StateFilter = Annotated[StateName | None, Query(description="only those in this state")]
StationFilter = Annotated[str | None, Query(min_length=1, max_length=100, description="only those about this station")]


def add_event_routes(routes: Routes, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _EventRoutes(ports, auth)
    tag: dict[str, Any] = {"tags": ["events"]}
    path = "/api/events/{event_id}"
    routes.add("GET", "/api/events", one.index, Role.VIEWER, summary="List timed events", **tag)
    routes.add("POST", "/api/events", one.create, Role.OPERATOR, summary="Program an event", status_code=201, **tag)
    routes.add("GET", path, one.get, Role.VIEWER, summary="One timed event", **tag)
    routes.add("PATCH", path, one.change, Role.OPERATOR, summary="Change a timed event", **tag)
    routes.add("DELETE", path, one.cancel, Role.OPERATOR, summary="Cancel a timed event", **tag)
    routes.add("POST", f"{path}/start", one.start, Role.OPERATOR, summary="Start a timed event now", **tag)
    routes.add("POST", f"{path}/finish", one.finish, Role.OPERATOR, summary="Finish a timed event now", **tag)


class _EventRoutes:
    def __init__(self, ports: SitePorts, auth: Auth) -> None:
        self._ports = ports
        self._auth = auth

    async def index(
        self,
        state: StateFilter = None,
        station: StationFilter = None,
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> EventPage:
        """List events that are, were or are to be in progress between ``from`` and ``to``, the latest start first."""
        from_us = None if from_ is None else time_us("query.from", from_)
        to_us = None if to is None else time_us("query.to", to)
        found = [
            event
            for event in self._book.events()
            if (state is None or event.state.value == state)
            and (station is None or _is_about(event, station))
            and _is_between(event, from_us, to_us)
        ]
        found.sort(key=_begin_us, reverse=True)
        items = [EventOut.of(event) for event in page_of(found, page, page_size)]
        return EventPage(total=len(found), page=page, page_size=page_size, items=items)

    async def get(self, event_id: EventId) -> EventOut:
        """Tell one event as it is now."""
        event = self._book.event(event_id)
        if event is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no event {event_id!r}: {_THERE}")
        return EventOut.of(event)

    async def create(self, body: NewEvent, caller: CallerOf) -> EventOut:
        """Program an event. It is in progress from its start to its end, with or without a network."""
        self._check_stations(body.plan.acts)
        return await self._do(self._book.create(body.plan, caller.issuer), caller, "create event", "")

    async def change(self, event_id: EventId, body: EventChange, caller: CallerOf) -> EventOut:
        """Change what was planned: name, times and what is done while it is programmed, then only its end."""
        self._check_stations([one.act for one in body.then or ()])
        work = self._book.change(event_id, body.edit, caller.issuer)
        return await self._do(work, caller, "change event", event_id)

    async def cancel(self, event_id: EventId, caller: CallerOf) -> EventOut:
        """Cancel it: it does not start, or what it does ends now. It stays in the list."""
        return await self._do(self._book.cancel(event_id, caller.issuer), caller, "cancel event", event_id)

    async def start(self, event_id: EventId, caller: CallerOf) -> EventOut:
        """Start it now, whatever was planned; its end stays as planned."""
        return await self._do(self._book.start(event_id, caller.issuer), caller, "start event", event_id)

    async def finish(self, event_id: EventId, caller: CallerOf) -> EventOut:
        """Finish it now, whatever was planned."""
        return await self._do(self._book.finish(event_id, caller.issuer), caller, "finish event", event_id)

    async def _do(self, work: Awaitable[TimedEvent], caller: Caller, what: str, event_id: str) -> EventOut:
        """Do it and tell the audit; a refusal is a problem."""
        try:
            event = await work
        except CommandRejected as error:
            self._auth.audit(caller.name, what, event_id, "refused")
            detail = error.reason + (f": {error.hint}" if error.hint else "")
            if error.refusal is Refusal.NOT_CAPABLE:
                detail = f"there is no event {event_id!r}: {_THERE}"
            raise HTTPException(_STATUS.get(error.refusal, HTTPStatus.CONFLICT), detail) from error
        self._auth.audit(caller.name, what, event.id, event.state.value)
        return EventOut.of(event)

    def _check_stations(self, acts: Sequence[RuleAct]) -> None:
        control = needed(self._ports.control, "control")
        for act in acts:
            if act.station != ALL and control.station(act.station) is None:
                detail = f"there is no station {act.station!r}: /api/stations lists them; `*` is all"
                raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail)

    @property
    def _book(self) -> TimedEventBook:
        return needed(self._ports.events, "timed events")


def _is_about(event: TimedEvent, station: str) -> bool:
    """Whether it does something with a station, its charger as a whole, or all."""
    return any(act.station in {station, station.partition(".")[0], ALL} for act in event.plan.acts)


def _begin_us(event: TimedEvent) -> int:
    """When it began, is to begin, or, where that is said by hand, could have."""
    return next(one for one in (event.started_us, event.plan.start_us, event.created_us) if one is not None)


def _is_between(event: TimedEvent, from_us: int | None, to_us: int | None) -> bool:
    end_us = event.plan.end_us if event.started_us is None else event.finished_us or event.plan.end_us
    return (to_us is None or _begin_us(event) < to_us) and (from_us is None or end_us is None or end_us > from_us)
