"""The areas of the API in their order, and what each is made of: see ``areas.py``.

All imports are made when the area is: that is what areas are for.
"""

# ruff: noqa: PLC0415

from collections.abc import Sequence

from starlette.routing import BaseRoute

from agent.api.access import Routes
from agent.api.areas import Area, Means

_Ours = Sequence[BaseRoute]


def _users(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.auth_routes import add_auth_routes

    add_auth_routes(routes, means.auth, means.clock)


def _log(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.log_routes import add_log_routes

    add_log_routes(routes, means.auth, means.log_level)


def _set_up(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.setup_routes import add_setup_routes

    add_setup_routes(routes, means.view, means.ports, means.auth)


def _stations(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.energy_routes import add_station_stats_route
    from agent.api.site_routes import add_site_routes

    add_station_stats_route(routes, means.ports)  # before the routes of single stations
    add_site_routes(routes, means.view, means.ports, means.auth)


def _alarms(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.alarm_routes import add_alarm_routes

    add_alarm_routes(routes, means.ports)


def _schedule(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.schedule_routes import add_schedule_routes

    add_schedule_routes(routes, means.ports, means.auth)


def _events(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.event_routes import add_event_routes

    add_event_routes(routes, means.ports, means.auth)


def _load(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.load_routes import add_load_routes

    add_load_routes(routes, means.ports, means.auth)


def _sessions(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.session_routes import add_session_routes

    add_session_routes(routes, means.ports, means.auth)


def _audit(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.audit_routes import add_audit_routes

    add_audit_routes(routes, means.ports, means.auth)


def _store(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.store_routes import add_store_routes

    add_store_routes(routes, means.view, means.ports)


def _support(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.support_routes import add_support_routes

    add_support_routes(routes, means.view, means.ports, means.auth, means.clock, means.metrics)


def _telemetry(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.telemetry_routes import add_telemetry_routes

    add_telemetry_routes(routes, means.ports, means.clock)


def _vehicles(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.vehicle_routes import add_vehicle_routes

    add_vehicle_routes(routes, means.view, means.ports, means.clock)


def _energy(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.energy_routes import add_energy_routes

    add_energy_routes(routes, means.view, means.ports, means.clock)


def _machines(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.machine_routes import add_machine_routes

    add_machine_routes(routes, means.ports)


def _maintenance(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.maintenance_routes import add_maintenance_routes

    add_maintenance_routes(routes, means.view, means.ports, means.clock)


def _demo(routes: Routes, means: Means, _: _Ours) -> None:
    from agent.api.demo_routes import add_demo_routes

    add_demo_routes(routes, means.ports, means.auth)


def _former(routes: Routes, means: Means, ours: _Ours) -> None:
    from agent.api.compat import add_compat_routes

    add_compat_routes(routes, ours, means.view, means.ports, means.auth, means.clock)


#: Below ``/`` itself stand the page and the answer of a former system: both are there from the start.
_FORMER = (
    *("/auth", "/consumo", "/health", "/scheduler", "/stations"),
    *("/api/auth/register", "/api/auth/usuarios", "/api/health", "/api/mantenimientos", "/api/maquinas"),
    *("/api/recomendaciones", "/api/sistema"),
)

AREAS: Sequence[Area] = (
    Area(("/api/auth", "/api/users"), _users),
    Area(("/api/system/log-level",), _log),
    Area(("/api/check", "/api/config", "/api/devices", "/api/profiles", "/api/scan", "/api/site"), _set_up),
    Area(("/api/chargers", "/api/commands", "/api/devices", "/api/stations"), _stations),
    Area(("/api/alarms",), _alarms),
    Area(("/api/scheduler",), _schedule),
    Area(("/api/events",), _events),
    Area(("/api/load", "/api/notify"), _load),
    Area(("/api/id-tags", "/api/sessions", "/api/sessions.csv"), _sessions),
    Area(("/api/audit", "/api/audit.csv"), _audit),
    Area(("/api/system/dropped", "/api/system/wear"), _store),
    Area(("/api/system/backup", "/api/system/doctor", "/api/system/logs"), _support),
    Area(("/api/points", "/api/telemetry"), _telemetry),
    Area(("/api/vehicles",), _vehicles),
    Area(("/api/energy", "/api/energy.csv", "/api/recommendations"), _energy),
    Area(("/api/machines",), _machines),
    Area(("/api/maintenance",), _maintenance),
    Area(("/api/demo",), _demo),
    Area(_FORMER, _former, needs_all=True),
)
