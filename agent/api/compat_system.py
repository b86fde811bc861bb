"""Health, and the answer at ``/``, as three of the former systems give them. Strangers learn nothing of the site."""

from http import HTTPStatus
from typing import Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from agent.api import pages, problems
from agent.api.access import Routes
from agent.api.auth import Auth, DeniedError
from agent.api.compat_base import Alias, Canonical, System, Translator, add_alias
from agent.api.models import Model
from agent.api.view import GatewayView, SitePorts
from agent.core.clock import Clock
from agent.core.errors import StoreError

SERVICE = "enlace"
#: Of the API: which version of Enlace this is, is told to who is logged in.
API_VERSION = "1"
#: How often timed events are looked at where no other server is asked for them.
OWN_INTERVAL_S = 1.0


class BatteryHealth(Model):
    """The service answers, and its database works."""

    status: Literal["OK"]
    db: Literal["OK"]


class EventHealth(Model):
    """The service answers."""

    status: Literal["ok"]


class ServiceOut(Model):
    """What answers here."""

    service: str
    version: str = Field(description="of Enlace, for who is logged in; of the API for others")
    status: Literal["ok"]
    scheduler_interval_seconds: float = Field(description="how often events are looked at")


#: The row that is there from the start: who opens the page gets nothing else made.
ROOT = Alias(
    System.EVENTS,
    "GET /",
    "GET /api/system/health",
    None,
    "system.root",
    "What answers here; browsers get the page",
    200,
    ServiceOut,
)


def add_root_route(routes: Routes, view: GatewayView, ports: SitePorts, auth: Auth, clock: Clock) -> None:
    """Add ``GET /``, which does without the canonical routes."""
    states = SystemStates(Canonical(()), view, ports, auth, clock)
    add_alias(routes, ROOT, states.root, [ROOT.system])


class SystemStates(Translator):
    """Their routes."""

    def __init__(self, canonical: Canonical, view: GatewayView, ports: SitePorts, auth: Auth, clock: Clock) -> None:
        super().__init__(canonical, view, ports, auth, clock)
        self._page = pages.front_page()

    async def battery(self, request: Request) -> Response:
        """Answer 200 while the database works, else 503; what is wrong with it is told to who is logged in."""
        bad = [part for part in self.view.health() if part.name == "db" and not part.ok]
        if not bad:
            return JSONResponse({"status": "OK", "db": "OK"})
        known = f"the database: {bad[0].detail}" + (f" ({bad[0].hint})" if bad[0].hint else "")
        detail = known if self._is_known(request) else "the database does not work: log in to be told more"
        return problems.problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, instance=request.url.path, db="error")

    async def health(self, request: Request) -> Response:
        """Tell as much as `/api/system/health` does, to who is logged in; else what `/api/health` does."""
        answer = await self.battery(request)
        if answer.status_code != HTTPStatus.OK or not self._is_known(request):
            return answer
        known: Model = await self.canonical("GET /api/system/health")(request)
        return JSONResponse(known.model_dump())

    async def metrics(self) -> Response:
        """Counters of the wires, the store, the uplink and this process, in the format of Prometheus."""
        answer: Response = await self.canonical("GET /metrics")()
        return answer

    async def event(self) -> EventHealth:
        """Answer while the service does."""
        return EventHealth(status="ok")

    async def root(self, request: Request) -> Response:
        """Tell programs what answers here; browsers, who ask for `text/html`, get the page."""
        if "text/html" in request.headers.get("accept", "").lower():
            answer = await self._page(request)
        else:
            interval = self.ports.event_interval_s
            found = ServiceOut(
                service=SERVICE,
                version=self.view.site().version if self._is_known(request) else API_VERSION,
                status="ok",
                scheduler_interval_seconds=OWN_INTERVAL_S if interval is None else interval(),
            )
            answer = JSONResponse(found.model_dump())
        answer.headers["vary"] = "accept, accept-encoding"
        return answer

    def _is_known(self, request: Request) -> bool:
        """Whether somebody asks who is logged in."""
        try:
            return self.auth.set_up and self.auth.caller(request) is not None
        except (DeniedError, StoreError):
            return False
