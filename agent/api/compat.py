"""The five systems that Enlace replaces: one table of their routes, each an alias of one of our own.

Rules of this file:

1. Each row names the canonical route that does the work; its translator turns names and words, and nothing else. Where
   the former path is our own path, there is no translator.
2. A row's role is that of its canonical route (a test holds it): nothing can be done here that can't be done there.
3. Both forms of a path that has a translator are answered, with and without a slash at its end, without redirecting:
   a client that is redirected loses its body or its token.
"""

from collections.abc import Iterable
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute

from agent.api.access import Routes
from agent.api.answers import TokensOut
from agent.api.auth import Auth
from agent.api.compat_accounts import Accounts
from agent.api.compat_base import Alias, Canonical, System, Translator, add_alias
from agent.api.compat_energy import Consumo, ConsumoOut, EnergyBackend
from agent.api.compat_machine_bodies import Informe
from agent.api.compat_machines import MachineManager
from agent.api.compat_stations import StationBackend
from agent.api.compat_system import ROOT, BatteryHealth, SystemStates
from agent.api.models import HealthOut
from agent.api.users import Role
from agent.api.view import GatewayView, SitePorts
from agent.core.clock import Clock

_EVERYBODY = None
_V, _O, _A = Role.VIEWER, Role.OPERATOR, Role.ADMIN
_LOGIN, _HEALTH = "POST /api/auth/login", "GET /api/system/health"
_STATIONS, _BATTERY, _MACHINES, _EVENTS, _ENERGY = System

_TRANSLATORS: dict[str, type[Translator]] = {
    "accounts": Accounts,
    "stations": StationBackend,
    "system": SystemStates,
    "machines": MachineManager,
    "energy": EnergyBackend,
}


_FORM_LOGIN = ("POST /auth/login", _LOGIN, _EVERYBODY, "accounts.log_in", "Log in", 200, TokensOut)
_REGISTER = "Make a user: with an admin's token, or the first one with the one-time code"
_KNOWN_HEALTH: Any = BatteryHealth | HealthOut
_MAINTENANCE, _HISTORY = "GET /api/maintenance", "GET /api/maintenance/history/{code}"

ALIASES: tuple[Alias, ...] = (
    Alias(_STATIONS, *_FORM_LOGIN),
    Alias(_STATIONS, "POST /stations/", "POST /api/stations", _O, "stations.create", "Register a station", 201),
    Alias(_STATIONS, "GET /stations/", "GET /api/stations", _V, "stations.index", "List stations"),
    Alias(
        _STATIONS,
        "PATCH /stations/{station_id}",
        "PATCH /api/stations/{station_id}",
        _O,
        "stations.change",
        "Activate or deactivate a station",
    ),
    Alias(_STATIONS, "GET /stations/stats", "GET /api/stations/stats", _V, "stations.stats", "Count stations"),
    Alias(_STATIONS, "POST /scheduler/run", "POST /api/scheduler/run", _O, "stations.run", "Toggle stations now"),
    Alias(
        _BATTERY,
        "GET /api/health",
        _HEALTH,
        _EVERYBODY,
        "system.battery",
        "Health with the database",
        200,
        BatteryHealth,
    ),
    Alias(_BATTERY, "POST /api/telemetry", "POST /api/telemetry", _O),
    Alias(_BATTERY, "GET /api/vehicles/{vin}/latest", "GET /api/vehicles/{vin}/latest", _V),
    Alias(_BATTERY, "GET /api/vehicles/{vin}/summary", "GET /api/vehicles/{vin}/summary", _V),
    Alias(_MACHINES, "POST /api/auth/login", _LOGIN, _EVERYBODY),
    Alias(_MACHINES, "POST /api/auth/register", "POST /api/users", _EVERYBODY, "accounts.register", _REGISTER, 201),
    Alias(
        _MACHINES, "GET /api/auth/usuarios/activos", "GET /api/users/active", _A, "accounts.active", "Who is logged in"
    ),
    Alias(_MACHINES, "GET /api/maquinas/listar", "GET /api/machines", _V, "machines.listar", "List machines"),
    Alias(_MACHINES, "POST /api/maquinas/agregar", "POST /api/machines", _O, "machines.agregar", "Add a machine"),
    Alias(_MACHINES, "GET /api/maquinas/buscar", "GET /api/machines", _V, "machines.buscar", "Find machines"),
    Alias(
        _MACHINES,
        "PUT /api/maquinas/actualizar",
        "PATCH /api/machines/{code}",
        _O,
        "machines.actualizar",
        "Change a machine",
    ),
    Alias(
        _MACHINES,
        "DELETE /api/maquinas/eliminar",
        "DELETE /api/machines/{code}",
        _O,
        "machines.eliminar",
        "Take out a machine",
    ),
    Alias(
        _MACHINES,
        "DELETE /api/maquinas/eliminar/{codigo}",
        "DELETE /api/machines/{code}",
        _O,
        "machines.eliminar_codigo",
        "Take out a machine",
    ),
    Alias(
        _MACHINES,
        "GET /api/maquinas/dashboard",
        "GET /api/machines/summary",
        _V,
        "machines.dashboard",
        "Machines for a dashboard",
    ),
    Alias(
        _MACHINES,
        "GET /api/mantenimientos/historial/{codigo}",
        _HISTORY,
        _V,
        "machines.historial",
        "What was done to a machine",
    ),
    Alias(
        _MACHINES,
        "POST /api/mantenimientos/agregar",
        "POST /api/maintenance",
        _O,
        "machines.mantener",
        "Write down maintenance",
    ),
    Alias(
        _MACHINES,
        "GET /api/mantenimientos/informe",
        "GET /api/maintenance/report",
        _V,
        "machines.informe",
        "Report of machines and maintenance",
        200,
        list[Informe],
    ),
    Alias(_MACHINES, "GET /api/mantenimientos/todos", _MAINTENANCE, _V, "machines.todos", "The maintenance log"),
    Alias(_MACHINES, "GET /api/sistema/health", _HEALTH, _EVERYBODY, "system.health", "Health", 200, _KNOWN_HEALTH),
    Alias(
        _MACHINES, "GET /api/sistema/metrics", "GET /metrics", _V, "system.metrics", "Metrics", 200, PlainTextResponse
    ),
    Alias(_EVENTS, "GET /health", _HEALTH, _EVERYBODY, "system.event", "Whether the service answers"),
    ROOT,
    Alias(_ENERGY, *_FORM_LOGIN),
    Alias(_ENERGY, "POST /consumo", "POST /api/energy", _O, "energy.consume", "Count consumption", 201, ConsumoOut),
    Alias(
        _ENERGY, "GET /api/recomendaciones", "GET /api/recommendations", _V, "energy.recommend", "What is worth doing"
    ),
)

#: The bodies that translators read by themselves; None: as the canonical route describes it.
_BODIES: dict[str, dict[str, Any] | None] = {
    "POST /auth/login": None,
    "POST /consumo": {
        "requestBody": {"required": True, "content": {"application/json": {"schema": Consumo.model_json_schema()}}}
    },
}


def add_compat_routes(
    routes: Routes, ours: Iterable[BaseRoute], view: GatewayView, ports: SitePorts, auth: Auth, clock: Clock
) -> None:
    """Add the routes of all rows whose path is not one of ours already. ``ours``: all of the canonical ones."""
    canonical = Canonical(ours)
    translators = {name: kind(canonical, view, ports, auth, clock) for name, kind in _TRANSLATORS.items()}
    added = {ROOT.route}
    for alias in ALIASES:
        canonical(alias.canonical)
        if not alias.by or alias.route in added:
            continue
        added.add(alias.route)
        translator, _, name = alias.by.partition(".")
        more: dict[str, Any] = {}
        if alias.route in _BODIES:
            more["openapi_extra"] = _BODIES[alias.route] or canonical.body_of(alias.canonical)
        systems = [one.system for one in ALIASES if one.route == alias.route]
        add_alias(routes, alias, getattr(translators[translator], name), systems, **more)
