"""``/api/stations``: registering stations that have no wire to this gateway, and taking them out again.

What is said of a registered station is kept here; that it is switched goes through control, as for all stations.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import HTTPException, Path
from starlette.responses import Response

from agent.api.access import CallerOf, Routes
from agent.api.answers import StationOut
from agent.api.auth import Auth, Caller
from agent.api.bodies import NewStation, StationChange
from agent.api.paging import needed
from agent.api.users import Role
from agent.api.view import SitePorts
from agent.control.registered import Registered, RegisteredStations
from agent.core.errors import CommandRejected
from agent.core.model import Number

StationId = Annotated[str, Path(min_length=1, max_length=100)]

_W_PER_KW = 1000

#: Switches a new station: its id, ``on`` or ``off``, who registers it. Raises ``RejectedError``.
Switch = Callable[[str, str, Caller], Awaitable[None]]
#: The station as the API shows it; raises 404 where there is none.
Show = Callable[[str], StationOut]


def add_station_registry_routes(routes: Routes, ports: SitePorts, auth: Auth, switch: Switch, show: Show) -> None:
    """Add the routes."""
    one = _RegistryRoutes(ports, auth, switch, show)
    tag: dict[str, Any] = {"tags": ["stations"]}
    summary = "Register a station without a wire"
    routes.add("POST", "/api/stations", one.create, Role.OPERATOR, summary=summary, status_code=201, **tag)
    path, summary = "/api/stations/{station_id}", "Take a registered station out"
    routes.add("DELETE", path, one.remove, Role.OPERATOR, summary=summary, status_code=204, **tag)


class _RegistryRoutes:
    def __init__(self, ports: SitePorts, auth: Auth, switch: Switch, show: Show) -> None:
        self._ports = ports
        self._auth = auth
        self._switch = switch
        self._show = show

    async def create(self, body: NewStation, caller: CallerOf) -> StationOut:
        """Register a station that is no charger of this gateway. It is switched, scheduled and counted as others are.

        It gets a number that no other station ever has; its id is made of it. ``status`` is what it is until a schedule
        or anybody else switches it.
        """
        wanted = Registered(0, body.name, body.location, _watts(body.max_kw))
        try:
            (made,) = await registry(self._ports).add([wanted], caller.issuer)
        except CommandRejected as error:
            raise HTTPException(HTTPStatus.CONFLICT, error.hint) from error
        self._auth.audit(caller.name, "register station", made.id, "done", new=made.name)
        await self._switch(made.id, body.switch, caller)
        return self._show(made.id)

    async def remove(self, station_id: StationId, caller: CallerOf) -> Response:
        """Take a registered station out. What was decided about it stays in the ledger; its number is not given again.

        A charger is taken out with its device: `DELETE /api/devices/{device_id}`.
        """
        station = _registered(registry(self._ports), self._show(station_id), "is taken out by DELETE /api/devices/{}")
        await registry(self._ports).remove(station, caller.issuer)
        self._auth.audit(caller.name, "take station out", station.id, "done", old=station.name)
        return Response(status_code=HTTPStatus.NO_CONTENT)


async def change_details(ports: SitePorts, auth: Auth, shown: StationOut, body: StationChange, caller: Caller) -> None:
    """Give a registered station another name, place or power, where the body says so."""
    if not body.describes:
        return
    station = _registered(registry(ports), shown, "has its name in the configuration: PUT /api/devices/{} changes it")
    changed = replace(
        station,
        name=station.name if body.name is None else body.name,
        location=station.location if body.location is None else body.location,
        max_w=station.max_w if body.max_kw is None else _watts(body.max_kw),
    )
    await registry(ports).change(changed, caller.issuer)
    auth.audit(caller.name, "change station", station.id, "done", old=station.name, new=changed.name)


def registry(ports: SitePorts) -> RegisteredStations:
    """The registered stations."""
    return needed(ports.registered, "registered stations")


def _registered(stations: RegisteredStations, shown: StationOut, instead: str) -> Registered:
    """The registered station; 409 for a charger, with what to do instead."""
    found = stations.find(shown.id)
    if found is None:
        detail = f"{shown.id} is no registered station but a charger of this gateway: it {instead.format(shown.device)}"
        raise HTTPException(HTTPStatus.CONFLICT, detail)
    return found


def _watts(kw: float | None) -> Number | None:
    return None if kw is None else round(kw * _W_PER_KW, 3)
