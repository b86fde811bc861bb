"""Routes that are made when somebody first asks for one of them.

To make 170 routes and to load what they answer with took a fifth of the start and 8 MB, and each site uses a part of
them. Health, readings and the page are there from the start (``app.py``); all others stand in ``area_table.py``.

Rules of this file:

1. An area names the paths that its routes stand under, in whole steps: a path that nobody has makes nothing. Where two
   areas name the same, both are made.
2. They are made in a thread: nothing that runs waits for it but the request that asked. The threads are few and all of
   the gateway's, so those who ask meanwhile wait without one.
3. Routes are tried in the order of the table, whichever were made first.
4. The description of the API needs all of them, and so do the routes of former systems, which hand on to ours.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from agent.api.access import Routes
from agent.api.auth import Auth
from agent.api.log_level import LogLevel
from agent.api.view import GatewayView, SitePorts
from agent.core.clock import Clock

DESCRIPTION = "/openapi.json"
#: No area names a path of more.
MOST_STEPS = 3


@dataclass(frozen=True, slots=True)
class Means:
    """What the routes of an area are made from."""

    view: GatewayView
    clock: Clock
    auth: Auth
    ports: SitePorts
    log_level: LogLevel
    metrics: Callable[[], Awaitable[Response]]  #: the handler of ``/metrics``


@dataclass(frozen=True, slots=True)
class Area:
    """Some routes. ``add`` imports what they take and adds them; it is given all routes that are made by then.

    ``needs_all``: those of the areas before it are made first.
    """

    under: Sequence[str]
    add: Callable[[Routes, Means, Sequence[BaseRoute]], None]
    needs_all: bool = False


class Areas:
    """Makes the routes of ``app``. What it has by then is tried first; what is behind ``last``, after all of them."""

    def __init__(self, app: FastAPI, areas: Sequence[Area], means: Means, last: Sequence[BaseRoute]) -> None:
        self._app = app
        self._areas = areas
        self._means = means
        self._first = list(app.router.routes)
        self._last = last
        self._made: dict[int, Sequence[BaseRoute]] = {}  #: by the place in the table
        self._under: dict[str, list[int]] = {}
        for number, area in enumerate(areas):
            for path in area.under:
                self._under.setdefault(path, []).append(number)
        self._making = threading.Lock()
        self._turn, self._describing = asyncio.Lock(), asyncio.Lock()
        self._show()

    def serving(self, app: ASGIApp) -> ASGIApp:
        """ASGI middleware: what a request is for is made before a route is looked for."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                path = scope["path"]
                if path == DESCRIPTION:
                    async with self._describing:
                        await asyncio.to_thread(self._app.openapi)  # takes a second: nothing else waits for it
                elif not self._made.keys() >= self._wanted(path):
                    async with self._turn:
                        await asyncio.to_thread(self.make, path)
            await app(scope, receive, send)

        return call

    def make(self, path: str) -> None:
        """Make the routes under a path, where that was not done yet. Takes some 10 ms for each area."""
        wanted = self._wanted(path)
        self._make(range(len(self._areas)) if any(self._areas[number].needs_all for number in wanted) else wanted)

    def make_all(self) -> None:
        """Make all routes."""
        self._make(range(len(self._areas)))

    def _make(self, wanted: Iterable[int]) -> None:
        with self._making:
            for number in sorted({*wanted} - self._made.keys()):
                routes = Routes(self._means.auth)
                self._areas[number].add(routes, self._means, self._app.router.routes)
                self._made[number] = routes.router.routes
                self._show()

    def _show(self) -> None:
        made = [route for _, routes in sorted(self._made.items()) for route in routes]
        # Another list: a request may be looking through the present one.
        self._app.router.routes = [*self._first, *made, *self._last]

    def _wanted(self, path: str) -> set[int]:
        steps = path.split("/", MOST_STEPS + 1)[: MOST_STEPS + 1]
        return {number for end in range(2, len(steps) + 1) for number in self._under.get("/".join(steps[:end]), ())}
