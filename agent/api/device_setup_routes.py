"""``/api/devices/test``, ``/api/devices/{id}/test`` and ``…/entry``: trying a device, and its entry for a form."""

import asyncio
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException

from agent.api.access import CallerOf, Routes
from agent.api.auth import Auth
from agent.api.bodies import DeviceEntry
from agent.api.paging import DeviceId, needed
from agent.api.setup_models import DeviceEntryOut, TestedOut
from agent.api.setup_view import SetUp
from agent.api.users import Role
from agent.api.view import GatewayView, SitePorts


def add_device_setup_routes(routes: Routes, view: GatewayView, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _DeviceSetUpRoutes(view, ports, auth)
    tag: dict[str, Any] = {"tags": ["devices"]}
    path = "/api/devices/{device_id}"
    summary = "Read a device once that is not saved"
    routes.add("POST", "/api/devices/test", one.try_entry, Role.ADMIN, summary=summary, **tag)
    routes.add("POST", f"{path}/test", one.try_device, Role.OPERATOR, summary="Read a configured device now", **tag)
    routes.add("GET", f"{path}/entry", one.entry, Role.ADMIN, summary="A device's entry in the configuration", **tag)


class _DeviceSetUpRoutes:
    def __init__(self, view: GatewayView, ports: SitePorts, auth: Auth) -> None:
        self._view = view
        self._ports = ports
        self._auth = auth

    async def _set_up(self) -> SetUp:
        return await asyncio.to_thread(self._ports.setup)

    async def try_entry(self, body: DeviceEntry, caller: CallerOf) -> TestedOut:
        """Build its driver as the configuration would, and read once; nothing is saved, and nothing written to it.

        422 with the words of `enlace check` when the entry is wrong; 409 when a device that runs has its wire.
        """
        tested = await needed((await self._set_up()).tests, "tests of devices").entry(body.model_dump())
        self._auth.audit(caller.name, "test entry", body.id, "ok" if tested.ok else "failed")
        return TestedOut.of(tested)

    async def try_device(self, device_id: DeviceId, caller: CallerOf) -> TestedOut:
        """Ask its running driver for a reading, and tell what comes within some seconds. Its port is not opened again.

        One that waits for its next try is tried at once.
        """
        tests = needed((await self._set_up()).tests, "tests of devices")
        if all(device.id != device_id for device in self._view.devices()):
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no device {device_id!r}: /api/devices lists them")
        tested = await tests.device(device_id)
        self._auth.audit(caller.name, "test device", device_id, "ok" if tested.ok else "failed")
        return TestedOut.of(tested)

    async def entry(self, device_id: DeviceId) -> DeviceEntryOut:
        """Tell its keys as the file has them, without secrets: PUT takes them back."""
        read = needed((await self._set_up()).entry, "a configuration file that it may edit")
        found = await asyncio.to_thread(read, device_id)
        if found is None:
            detail = f"no entry of the file is called {device_id!r}: /api/devices lists the devices"
            raise HTTPException(HTTPStatus.NOT_FOUND, detail)
        return DeviceEntryOut.of(device_id, found)
