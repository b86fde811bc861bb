"""What ``compat.py`` and its translators share: a row, our own handlers by name, bodies as former clients send them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute

from agent.api.access import Routes
from agent.api.auth import Auth
from agent.api.users import Role
from agent.api.view import GatewayView, SitePorts
from agent.core.clock import Clock

if TYPE_CHECKING:
    from agent.api.bodies import Body

X_TOTAL = "x-total-count"


class System(StrEnum):
    """The five systems; their tags in OpenAPI."""

    STATIONS = "compat: charging stations"
    BATTERY = "compat: battery and vehicle monitor"
    MACHINES = "compat: machines and maintenance"
    EVENTS = "compat: event states"
    ENERGY = "compat: energy consumption"


@dataclass(frozen=True, slots=True)
class Alias:
    """One route of a former system. ``role`` None: everybody. ``by`` empty: the path is the canonical one."""

    system: System
    route: str  #: method and path, as that system writes it
    canonical: str  #: method and path of ours
    role: Role | None
    by: str = ""  #: translator and its method
    summary: str = ""
    status_code: int = 200
    model: Any = None  #: of the answer, where the translator gives a response

    @property
    def method(self) -> str:
        """``POST``."""
        return self.route.partition(" ")[0]

    @property
    def path(self) -> str:
        """``/stations/``."""
        return self.route.partition(" ")[2]


class FormerBody(BaseModel):
    """Base of what former clients send: keys that Enlace has no place for are ignored, as those systems did."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Canonical:
    """The handlers of our own routes, by method and path: ``canonical("POST /api/stations")``."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = {
            f"{method} {route.path}": route
            for route in routes
            if isinstance(route, APIRoute)
            for method in route.methods or set()
        }

    def __call__(self, name: str) -> Callable[..., Any]:
        """The handler; a name that there is not is a bug, found when the application is made."""
        return self._routes[name].endpoint

    def body_of(self, name: str) -> dict[str, Any]:
        """The description of the body, where the handler reads it by itself."""
        return {"requestBody": (self._routes[name].openapi_extra or {})["requestBody"]}


class Translator:
    """Base of those who answer for one system."""

    def __init__(self, canonical: Canonical, view: GatewayView, ports: SitePorts, auth: Auth, clock: Clock) -> None:
        self.canonical = canonical
        self.view = view
        self.ports = ports
        self.auth = auth
        self.clock = clock


def our_body(model: "type[Body]", data: Mapping[str, object], names: Mapping[str, str]) -> Any:  # noqa: ANN401 - of the model
    """A body of ours. What is wrong with it is told by the names that the client knows (ours -> its)."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = [
            {**one, "loc": ("body", *(names.get(str(part), part) for part in one["loc"]))} for one in error.errors()
        ]
        raise RequestValidationError(found) from error


def add_alias(
    routes: Routes,
    alias: Alias,
    handler: Callable[..., Any],
    systems: Sequence[System],
    **more: Any,  # noqa: ANN401 - FastAPI's own
) -> None:
    """Add the routes of a row, which ``systems`` had."""
    if alias.model is PlainTextResponse:
        more["response_class"] = PlainTextResponse
    elif alias.model is not None:
        more["response_model"] = alias.model
    for path in both(alias.path):
        routes.add(
            alias.method,
            path,
            handler,
            alias.role,
            summary=alias.summary,
            status_code=alias.status_code,
            tags=list(systems),
            include_in_schema=path == alias.path,
            **more,
        )


def both(path: str) -> tuple[str, ...]:
    """As the system writes it, and the other way."""
    if path == "/":
        return (path,)
    return path, path.removesuffix("/") if path.endswith("/") else f"{path}/"
