"""``/api/stations``, ``/api/commands``, ``/api/devices`` and ``/api/chargers``: acting on the site.

Rules of this file:

1. Nothing is switched here: a command goes to control, which decides, and comes back with its one result. One that was
   refused is a problem with the refusal's word: 422 where asking again can't help (``out_of_range``, ``not_capable``),
   otherwise 409. One that failed, expired or was superseded is a result like one that was done.
2. Each write is told to the audit: who, what, of what, with what result.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Path, Query
from starlette.responses import Response

from agent.api.access import CallerOf, Routes
from agent.api.answers import (
    ActionOut,
    AdoptedOut,
    DecisionOut,
    DecisionsOut,
    DeviceWritten,
    PendingOut,
    PendingPage,
    ResultOut,
    StationChanged,
    StationOut,
    StationPage,
)
from agent.api.auth import Auth, Caller
from agent.api.bodies import CommandEnvelope, DeviceEntry, StationChange, StationCommand
from agent.api.paging import DeviceFilter, DeviceId, Page, PageSize, needed, page_of, tells
from agent.api.problems import RejectedError
from agent.api.setup_view import CheckFinding, DeviceThereError, FindingsError, NoDeviceError
from agent.api.station_registry_routes import StationId, add_station_registry_routes, change_details
from agent.api.times import parse_time
from agent.api.users import Role
from agent.api.view import GatewayView, SiteEditor, SitePorts
from agent.control.model import DEFAULT_TTL_S, Command, Control, Origin, Outcome, Station
from agent.control.registered import REGISTRATION, Registered
from agent.core.errors import ConfigError, Unavailable
from agent.core.model import Number
from agent.core.ports import Latest

WHY = 20
MAX_HISTORY = 1000
_ID_BYTES = 8
_THERE = "there is a device {!r} already: PUT replaces it (one that was just taken out is gone within some seconds)"

ChargePointId = Annotated[str, Path(pattern=r"^[^\s/?#%]{1,48}$")]
_Register = tuple[Mapping[str, Registered], Mapping[str, int]]
StatusFilter = Annotated[Literal["on", "off"] | None, Query(description="only those that were decided so")]
WordFilter = Annotated[
    str | None, Query(min_length=1, max_length=200, description="part of its id, its name or its location")
]
Limit = Annotated[int, Query(ge=1, le=MAX_HISTORY, description="at most so many")]


def add_site_routes(routes: Routes, view: GatewayView, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _StationRoutes(view, ports, auth)
    tag: dict[str, Any] = {"tags": ["stations"]}
    path = "/api/stations/{station_id}"
    routes.add("GET", "/api/stations", one.index, Role.VIEWER, summary="List stations", **tag)
    routes.add("GET", path, one.get, Role.VIEWER, summary="One station", **tag)
    routes.add("PATCH", path, one.change, Role.OPERATOR, summary="Switch or limit a station", **tag)
    routes.add("GET", f"{path}/why", one.why, Role.VIEWER, summary="Why a station is as it is", **tag)
    routes.add("GET", f"{path}/history", one.history, Role.VIEWER, summary="What was decided about a station", **tag)
    routes.add("POST", f"{path}/commands", one.command, Role.OPERATOR, summary="Command a station", **tag)
    add_station_registry_routes(routes, ports, auth, one.begin, one.show)
    routes.add("POST", "/api/commands", one.envelope, Role.OPERATOR, summary="Command a station or device", **tag)
    devices = _DeviceRoutes(view, ports, auth)
    tag = {"tags": ["devices"]}
    path = "/api/devices/{device_id}"
    routes.add("GET", f"{path}/actions", devices.actions, Role.VIEWER, summary="What a device can be told to do", **tag)
    routes.add("POST", "/api/devices", devices.add, Role.ADMIN, summary="Add or adopt a device", status_code=201, **tag)
    routes.add("PUT", path, devices.replace, Role.ADMIN, summary="Give a device other keys", **tag)
    routes.add("DELETE", path, devices.remove, Role.ADMIN, summary="Take a device out", status_code=204, **tag)
    summary = "Chargers that call and are not let in"
    routes.add("GET", "/api/chargers/pending", devices.pending, Role.VIEWER, summary=summary, **tag)
    path = "/api/chargers/{charge_point_id}/adopt"
    routes.add("POST", path, devices.adopt, Role.ADMIN, summary="Let a charger in that waits", **tag)


class _StationRoutes:
    def __init__(self, view: GatewayView, ports: SitePorts, auth: Auth) -> None:
        self._view = view
        self._ports = ports
        self._auth = auth

    async def index(
        self,
        device: DeviceFilter = None,
        status: StatusFilter = None,
        name: WordFilter = None,
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> StationPage:
        """List stations in the order of the configuration, with what they draw now."""
        stations, registered = self._control.stations(), self._registered()
        if (device, status, name) == (None, None, None):
            items = [self._station(station, registered) for station in page_of(stations, page, page_size)]
            return StationPage(total=len(stations), page=page, page_size=page_size, items=items)
        found = [
            one
            for one in (self._station(station, registered) for station in stations)
            if device in {None, one.device}
            and status in {None, one.status}
            and tells(name, one.id, one.name, one.location)
        ]
        return StationPage(total=len(found), page=page, page_size=page_size, items=page_of(found, page, page_size))

    async def get(self, station_id: StationId) -> StationOut:
        """Tell what a station is, does and can."""
        return self.show(station_id)

    def show(self, station_id: str) -> StationOut:
        """A station as it is shown. Raises 404 where there is none."""
        return self._station(self._known(station_id), self._registered())

    async def begin(self, station_id: str, action: str, caller: Caller) -> None:
        """Switch a station that was just registered, until anybody says otherwise. Raises ``RejectedError``."""
        command = Command(_new_id(), station_id, action, {}, Origin.SCHEDULE, REGISTRATION)
        await self._execute(command, caller)

    async def change(self, station_id: StationId, body: StationChange, caller: CallerOf) -> StationChanged:
        """Say by hand what is wanted of a station. It holds until ``for_s`` is over or somebody says otherwise."""
        await change_details(self._ports, self._auth, self.show(station_id), body, caller)
        lasting: dict[str, object] = {} if body.for_s is None else {"for_s": body.for_s}
        # The limit first: a station that is switched on must not draw more than is wanted in between.
        wanted: list[tuple[str, dict[str, object]]] = []
        if body.limit_a is not None:
            wanted.append(("limit", {"limit_a": body.limit_a, **lasting}))
        if body.switch is not None:
            wanted.append((body.switch, lasting))
        results = []
        for action, args in wanted:
            command = Command(_new_id(), station_id, action, args, issuer=caller.issuer)
            results.append(await self._execute(command, caller))
        return StationChanged(station=self.show(station_id), results=results)

    async def why(self, station_id: StationId) -> DecisionsOut:
        """Tell the decisions behind its present state, newest first, with everybody's wishes."""
        return self._decisions(station_id, WHY)

    async def history(self, station_id: StationId, limit: Limit = 100) -> DecisionsOut:
        """Tell the last decisions, newest first."""
        return self._decisions(station_id, limit)

    async def command(self, station_id: StationId, body: StationCommand, caller: CallerOf) -> ResultOut:
        """Tell a station to do something, and wait for what comes of it."""
        self._known(station_id)
        return await self._execute(_command(body, station_id, caller), caller)

    async def envelope(self, body: CommandEnvelope, caller: CallerOf) -> ResultOut:
        """Tell a station or device to do something: the same words as over MQTT."""
        if self._control.station(body.target) is None and not self._is_device(body.target):
            raise HTTPException(
                HTTPStatus.NOT_FOUND, f"there is no {body.target!r}: /api/stations and /api/devices list them"
            )
        issued_us = None if body.issued_at is None else parse_time(body.issued_at)
        return await self._execute(_command(body, body.target, caller, issued_us), caller)

    async def _execute(self, command: Command, caller: Caller) -> ResultOut:
        result = await self._control.execute(command)
        word = result.outcome.value + (f": {result.refusal.value}" if result.refusal else "")
        self._auth.audit(caller.name, f"command {command.action} ({command.id})", command.target, word)
        if result.outcome is Outcome.REJECTED:
            raise RejectedError(result)
        return ResultOut.of(result)

    @property
    def _control(self) -> Control:
        return needed(self._ports.control, "control")

    def _is_device(self, name: str) -> bool:
        return any(device.id == name for device in self._view.devices())

    def _known(self, station_id: str) -> Station:
        station = self._control.station(station_id)
        if station is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no station {station_id!r}: /api/stations lists them")
        return station

    def _decisions(self, station_id: str, limit: int) -> DecisionsOut:
        self._known(station_id)
        items = [DecisionOut.of(decision) for decision in self._control.why(station_id, limit)]
        return DecisionsOut(station=station_id, items=items)

    def _registered(self) -> _Register:
        """The registered stations by id, and everybody's numbers."""
        stations = self._ports.registered
        return ({}, {}) if stations is None else ({one.id: one for one in stations.all()}, stations.numbers())

    def _station(self, station: Station, register: _Register) -> StationOut:
        registered, numbers = register
        if station.id in registered:  # it has no wire to be asked
            return StationOut.of(station, None, None, numbers.get(station.id), registered[station.id])
        power, status = self._latest(station, "power_w"), self._latest(station, "charger_status")
        label = None
        if status is not None and isinstance(status.value, int):
            label = status.signal.labels.get(status.value)
        power_w = self._sum_of_outlets(station) if power is None else power.value
        return StationOut.of(station, power_w, label, numbers.get(station.id))

    def _sum_of_outlets(self, station: Station) -> Number | None:
        """What a charger draws that only tells it of each outlet."""
        outlets = [one for one in self._control.stations() if one.device == station.id != one.id]
        found = [self._latest(one, "power_w") for one in outlets]
        values = [one.value for one in found if one is not None and one.value is not None]
        return sum(values) if values and len(values) == len(outlets) else None

    def _latest(self, station: Station, point: str) -> Latest | None:
        """The newest value of the outlet's own signal, or of the charger's where it has one outlet."""
        whole = [f"{station.device}.{point}"] if station.id == station.device else []
        for name in (f"{station.device}.{point}.{station.outlet}", *whole):
            if (signal := self._view.signal(name)) is not None:
                return self._view.latest([signal])[0]
        return None


class _DeviceRoutes:
    def __init__(self, view: GatewayView, ports: SitePorts, auth: Auth) -> None:
        self._view = view
        self._ports = ports
        self._auth = auth

    async def actions(self, device_id: DeviceId) -> dict[str, ActionOut]:
        """Tell by name what it can be told to do, with the JSON schema of the arguments.

        Empty for what takes no actions: a meter, a battery, a charger on Modbus. What can be set of it, if anything, is
        said by its station.
        """
        self._known(device_id)
        stations = needed(self._ports.control, "control").stations()
        found = {name: one for each in stations if each.device == device_id for name, one in each.actions.items()}
        return {
            name: ActionOut.model_validate({"doc": action.doc, "args": dict(action.args)})
            for name, action in sorted(found.items())
        }

    async def add(self, body: DeviceEntry, caller: CallerOf) -> DeviceWritten:
        """Write a device into the site's configuration: a pending charger, with its ``charge_point_id``, is adopted."""
        if self._is_there(body.id):
            raise HTTPException(HTTPStatus.CONFLICT, _THERE.format(body.id))
        await self._edit(caller, "add device", body.id, lambda editor: editor.add(_entry(body)), _entry(body))
        identity, adoption = (body.model_extra or {}).get("charge_point_id"), None
        if body.driver == "ocpp" and isinstance(identity, str) and self._ports.adopt is not None:
            adoption = await self._adopt(caller, identity)
        return DeviceWritten(id=body.id, driver=body.driver, adoption=adoption)

    async def adopt(self, charge_point_id: ChargePointId, caller: CallerOf) -> AdoptedOut:
        """Let a charger in that is configured and waits: what it presented is its proof from now on, or it gets one."""
        pending = self._ports.pending() if self._ports.pending is not None else ()
        if charge_point_id not in {self._identity(device.id) for device in self._view.devices()}:
            if charge_point_id in {one.identity for one in pending}:
                detail = (
                    f"no device has the charge_point_id {charge_point_id}: POST /api/devices with it adds and adopts"
                )
                raise HTTPException(HTTPStatus.CONFLICT, detail)
            detail = f"no charger calls as {charge_point_id!r}, and none is configured: POST /api/devices adds one"
            raise HTTPException(HTTPStatus.NOT_FOUND, detail)
        return await self._adopt(caller, charge_point_id)

    async def _adopt(self, caller: Caller, identity: str) -> AdoptedOut:
        adopted = await needed(self._ports.adopt, "chargers on OCPP")(identity)
        self._auth.audit(caller.name, "adopt charger", identity, adopted.outcome)
        return AdoptedOut.of(adopted)

    async def replace(self, device_id: DeviceId, body: DeviceEntry, caller: CallerOf) -> DeviceWritten:
        """Give a device other keys in the site's configuration; keys that are not sent are gone."""
        self._known(device_id)
        before = self._identity(device_id)
        entry = _entry(body)
        await self._edit(caller, "replace device", device_id, lambda editor: editor.replace(device_id, entry), entry)
        if body.driver != "ocpp" or (body.model_extra or {}).get("charge_point_id") != before:
            await self._forget(caller, before)
        return DeviceWritten(id=body.id, driver=body.driver)

    async def remove(self, device_id: DeviceId, caller: CallerOf) -> Response:
        """Take a device out of the site's configuration; what it told stays in the store.

        A charger's password is forgotten: if it is added again, it has to be adopted again. A device that clients post
        comes back with the next that is posted of it.
        """
        posted = None if self._is_there(device_id) else self._ports.posted
        if posted is not None and await posted.forget(device_id):
            self._auth.audit(caller.name, "forget posted device", device_id, "done")
            return Response(status_code=HTTPStatus.NO_CONTENT)
        self._known(device_id)
        identity = self._identity(device_id)
        await self._edit(caller, "remove device", device_id, lambda editor: editor.remove(device_id))
        await self._forget(caller, identity)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def pending(self, page: Page = 1, page_size: PageSize = 100) -> PendingPage:
        """List who knocks at the OCPP port and is not let in: unknown chargers, and refused ones with the reason."""
        chargers = self._ports.pending() if self._ports.pending is not None else ()
        items = [PendingOut.of(charger) for charger in page_of(chargers, page, page_size)]
        return PendingPage(total=len(chargers), page=page, page_size=page_size, items=items)

    async def _edit(
        self,
        caller: Caller,
        what: str,
        device: str,
        edit: Callable[[SiteEditor], object],
        entry: Mapping[str, object] | None = None,
    ) -> None:
        """Write it, and wait until it runs: who asks next finds it. Raises ``ConfigError`` and ``Unavailable``."""
        editor = needed(self._ports.editor, "a configuration file that it may edit")
        try:
            written = await asyncio.to_thread(edit, editor)
        except (DeviceThereError, NoDeviceError):  # another request was faster: its change does not run yet
            self._auth.audit(caller.name, what, device, "refused")
            raise
        except ConfigError as error:
            self._auth.audit(caller.name, what, device, "refused")
            errors = [] if entry is None else await self._errors(entry, device if self._is_there(device) else "")
            if not errors:
                raise
            raise FindingsError(error.op, error.reason, errors, error.hint) from error
        self._auth.audit(caller.name, what, device, "done")
        if self._ports.applied is not None and not await self._ports.applied(written):
            raise Unavailable(f"{what} {device}", "it is written down, but not what runs yet", "see the log for why")

    async def _errors(self, entry: Mapping[str, object], replaces: str) -> list[CheckFinding]:
        """What is wrong with a device, each with the key that it is about; nothing where nobody can tell."""
        checks = (await asyncio.to_thread(self._ports.setup)).checks
        try:
            found = () if checks is None else await asyncio.to_thread(checks.entry, entry, replaces)
        except ConfigError:  # the file itself is bad
            return []
        return [one for one in found if one.severity == "error"]

    def _identity(self, device_id: str) -> str:
        return "" if self._ports.identity_of is None else self._ports.identity_of(device_id)

    async def _forget(self, caller: Caller, identity: str) -> None:
        if identity and self._ports.forget is not None:
            await self._ports.forget(identity)
            self._auth.audit(caller.name, "forget charger's password", identity, "done")

    def _is_there(self, device_id: str) -> bool:
        return any(device.id == device_id for device in self._view.devices())

    def _known(self, device_id: str) -> None:
        if not self._is_there(device_id):
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no device {device_id!r}: /api/devices lists them")


def _command(body: StationCommand, target: str, caller: Caller, issued_us: int | None = None) -> Command:
    return Command(
        body.id or _new_id(),
        target,
        body.action,
        body.args,
        issuer=caller.issuer,
        issued_us=issued_us,
        ttl_s=body.ttl_s or DEFAULT_TTL_S,
    )


def _new_id() -> str:
    return f"api-{secrets.token_hex(_ID_BYTES)}"


def _entry(body: DeviceEntry) -> Mapping[str, object]:
    return body.model_dump()
