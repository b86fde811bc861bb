"""``/api/system/log-level``: log more for a while, or less, without a restart.

Rules of this file:

1. It goes back to the configured level by itself: a gateway that was left at ``debug`` would wear out its disk.
2. Only our own loggers are changed. Libraries log at ``debug`` what passes through them, passwords among it.
"""

from typing import Any

from pydantic import Field

from agent.api.access import CallerOf, Routes
from agent.api.auth import Auth
from agent.api.bodies import Body
from agent.api.log_level import Level, LogLevel, LogLevelOut
from agent.api.users import Role

MAX_FOR_S = 86_400


class LogLevelChange(Body):
    """Another level for a while."""

    level: Level = Field(description="least severity that is logged", examples=["debug"])
    for_s: int = Field(600, ge=1, le=MAX_FOR_S, description="then the configured level counts again", examples=[600])


def add_log_routes(routes: Routes, auth: Auth, level: LogLevel) -> None:
    """Add the routes."""
    one = _LogRoutes(auth, level)
    path, tag = "/api/system/log-level", {"tags": ["system"]}
    more: dict[str, Any] = {"response_model": LogLevelOut, **tag}
    routes.add("GET", path, one.show, Role.ADMIN, summary="What is logged now", **more)
    routes.add("PUT", path, one.change, Role.ADMIN, summary="Log more or less for a while", **more)


class _LogRoutes:
    def __init__(self, auth: Auth, level: LogLevel) -> None:
        self._auth = auth
        self._level = level

    async def show(self) -> LogLevelOut:
        """Tell the level that counts now and the configured one."""
        return self._level.now()

    async def change(self, body: LogLevelChange, caller: CallerOf) -> LogLevelOut:
        """Change it for ``for_s`` seconds; the audit is told who did."""
        old = self._level.now()
        self._level.set(body.level, body.for_s)
        self._auth.audit(
            caller.name, f"log {body.level} for {body.for_s} s", "log", "done", old=old.level, new=body.level
        )
        return self._level.now()
