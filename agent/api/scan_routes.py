"""``/api/scan``: the search for devices, in the background. One at a time; the last one stays to be read."""

import asyncio
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException

from agent.api.access import CallerOf, Routes
from agent.api.auth import Auth
from agent.api.paging import needed
from agent.api.setup_models import ScanBody, ScanOut
from agent.api.setup_view import Scans, ScanWanted
from agent.api.users import Role
from agent.api.view import SitePorts


def add_scan_routes(routes: Routes, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _ScanRoutes(ports, auth)
    tag: dict[str, Any] = {"tags": ["set-up"]}
    path = "/api/scan"
    routes.add("POST", path, one.start, Role.ADMIN, summary="Search for devices", status_code=202, **tag)
    routes.add("GET", path, one.show, Role.OPERATOR, summary="How far the search is, and what it found", **tag)
    routes.add("DELETE", path, one.cancel, Role.ADMIN, summary="End the search", **tag)


class _ScanRoutes:
    def __init__(self, ports: SitePorts, auth: Auth) -> None:
        self._ports = ports
        self._auth = auth

    async def start(self, body: ScanBody, caller: CallerOf) -> ScanOut:
        """Begin; 409 while another one goes on. What is configured is left alone, and nothing is written anywhere."""
        wanted = ScanWanted(tuple(body.kinds), tuple(body.hosts), tuple(body.networks), tuple(body.ports), body.units)
        scans = await self._scans()
        scans.start(wanted)
        self._auth.audit(caller.name, f"scan {' '.join(body.kinds)}", "devices", "begun")
        return ScanOut.of(scans.status())

    async def show(self) -> ScanOut:
        """Tell how far it is; found devices stand here as they are found."""
        return ScanOut.of((await self._scans()).status())

    async def cancel(self, caller: CallerOf) -> ScanOut:
        """End it; what it has found stays."""
        scans = await self._scans()
        if not await asyncio.to_thread(scans.cancel):
            raise HTTPException(HTTPStatus.CONFLICT, "no search goes on")
        self._auth.audit(caller.name, "cancel scan", "devices", "done")
        return ScanOut.of(scans.status())

    async def _scans(self) -> Scans:
        return needed((await asyncio.to_thread(self._ports.setup)).scans, "a search for devices")
