"""``/api/site``, ``/api/check``, ``/api/profiles``, ``/api/config/schema``: the site's settings, and what forms need.

What is written here goes into the site's file, as an edit by hand would: comments stay, and what ``enlace check`` would
refuse is refused in its words.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Query

from agent.api.access import CallerOf, Routes
from agent.api.auth import Auth, Caller
from agent.api.device_setup_routes import add_device_setup_routes
from agent.api.paging import NameFilter, Page, PageSize, needed, page_of, tells
from agent.api.scan_routes import add_scan_routes
from agent.api.setup_models import (
    CheckBody,
    CheckFindingOut,
    CheckOut,
    ProfileOut,
    ProfilePage,
    SchemaOut,
    SiteChange,
    SiteOut,
)
from agent.api.setup_view import CheckFinding, SetUp
from agent.api.users import Role
from agent.api.view import GatewayView, SitePorts
from agent.core.errors import ConfigError, Unavailable

DriverFilter = Annotated[Literal["can", "modbus"] | None, Query(description="only of this driver")]
_WITHOUT = "a configuration file that it may edit"


def add_setup_routes(routes: Routes, view: GatewayView, ports: SitePorts, auth: Auth) -> None:
    """Add the routes."""
    one = _SetUpRoutes(ports, auth)
    tag: dict[str, Any] = {"tags": ["set-up"]}
    routes.add("GET", "/api/site", one.site, Role.VIEWER, summary="The site's settings", **tag)
    routes.add("PATCH", "/api/site", one.change, Role.ADMIN, summary="Change the site's settings", **tag)
    routes.add("GET", "/api/check", one.check, Role.ADMIN, summary="What is wrong with the configuration", **tag)
    summary = "Check a text or a device without saving it"
    routes.add("POST", "/api/check", one.check_other, Role.ADMIN, summary=summary, **tag)
    routes.add("GET", "/api/profiles", one.profiles, Role.VIEWER, summary="List device models", **tag)
    routes.add("GET", "/api/config/schema", one.schema, Role.VIEWER, summary="The keys of the configuration", **tag)
    add_scan_routes(routes, ports, auth)
    add_device_setup_routes(routes, view, ports, auth)


class _SetUpRoutes:
    def __init__(self, ports: SitePorts, auth: Auth) -> None:
        self._ports = ports
        self._auth = auth

    async def _set_up(self) -> SetUp:
        return await asyncio.to_thread(self._ports.setup)

    async def site(self) -> SiteOut:
        """Tell them as they count now, and which of them can be changed here."""
        settings = needed((await self._set_up()).settings, _WITHOUT)
        return SiteOut.of(settings.now(), demo=self._ports.demo is not None)

    async def change(self, body: SiteChange, caller: CallerOf) -> SiteOut:
        """Write them into the site's file, with its comments kept; answered when they are what runs."""
        settings = needed((await self._set_up()).settings, _WITHOUT)
        now, values = settings.now(), body.values()
        if values.get("id", now.id) != now.id and not body.confirm_id:
            raise HTTPException(HTTPStatus.CONFLICT, f"{now.id_change}. Send confirm_id: true to change it")
        what = f"change site ({', '.join(values)})"
        written = await self._audited(caller, what, asyncio.to_thread(settings.change, values))
        if self._ports.applied is not None and not await self._ports.applied(written):
            raise Unavailable(what, "it is written down, but not what runs yet", "see the log for why")
        return SiteOut.of(settings.now(), demo=self._ports.demo is not None)

    async def _audited(self, caller: Caller, what: str, work: Awaitable[object]) -> object:
        try:
            written = await work
        except ConfigError:
            self._auth.audit(caller.name, what, "site", "refused")
            raise
        self._auth.audit(caller.name, what, "site", "done")
        return written

    async def check(self) -> CheckOut:
        """Tell what `enlace check` finds in the file that is there, in its words."""
        checks = needed((await self._set_up()).checks, _WITHOUT)
        return _told(await asyncio.to_thread(checks.file))

    async def check_other(self, body: CheckBody) -> CheckOut:
        """Tell what it would find in a whole text, or about a device that were added; nothing is saved."""
        checks = needed((await self._set_up()).checks, _WITHOUT)
        if body.text is not None:
            return _told(await asyncio.to_thread(checks.text, body.text))
        entry = {} if body.entry is None else body.entry.model_dump()
        return _told(await asyncio.to_thread(checks.entry, entry, body.replaces))

    async def profiles(
        self, driver: DriverFilter = None, name: NameFilter = None, page: Page = 1, page_size: PageSize = 100
    ) -> ProfilePage:
        """List the models that `profile:` may name, those beside the site's configuration first."""
        known = await asyncio.to_thread(needed((await self._set_up()).profiles, "device models"))
        found = [
            one
            for one in known
            if (driver is None or one.driver == driver) and tells(name, f"{one.name} {one.maker} {one.model}")
        ]
        items = [ProfileOut.of(one) for one in page_of(found, page, page_size)]
        return ProfilePage(total=len(found), page=page, page_size=page_size, items=items)

    async def schema(self) -> SchemaOut:
        """Tell the keys of the site's section and of the devices' entries, as JSON schemas."""
        return SchemaOut.model_validate(await asyncio.to_thread(needed((await self._set_up()).schema, "its models")))


def _told(found: Sequence[CheckFinding]) -> CheckOut:
    return CheckOut(
        ok=all(one.severity != "error" for one in found), findings=[CheckFindingOut.of(one) for one in found]
    )
