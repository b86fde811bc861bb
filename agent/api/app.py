"""The application, and the routes that only read: through ``GatewayView``, without any logic of their own.

Handlers are coroutines: what they read is in memory and costs microseconds. Only history waits for the store, in a
thread, two at a time, so that a dashboard with many charts can't starve the writer.
"""

import asyncio
import contextlib
import csv
import io
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agent.api import head, metrics, pages, problems
from agent.api.access import CallerOf, Routes
from agent.api.area_table import AREAS
from agent.api.areas import Areas, Means
from agent.api.auth import Auth, DeniedError
from agent.api.compat_system import add_root_route
from agent.api.csv_answer import CsvResponse
from agent.api.guard import Guard
from agent.api.live import LiveStreams
from agent.api.log_level import LogLevel
from agent.api.models import (
    DeviceKind,
    DeviceLatestOut,
    DeviceOut,
    DevicePage,
    DevicesOut,
    DeviceState,
    HealthOut,
    HistoryOut,
    PartOut,
    SignalOut,
    SignalPage,
    StatusOut,
    WiresOut,
)
from agent.api.paging import (
    DeviceFilter,
    DeviceId,
    IdFilter,
    Name,
    NameFilter,
    Page,
    PageSize,
    Time,
    page_of,
    tells,
    time_us,
)
from agent.api.posted_devices import posted_ids, posted_info, posted_latest, posted_out
from agent.api.public_routes import Published, add_public_routes
from agent.api.request_figures import RequestFigures
from agent.api.store_routes import store_out
from agent.api.tally import Tally
from agent.api.times import iso
from agent.api.users import Role
from agent.api.view import DeviceInfo, GatewayView, History, SitePorts
from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Signal
from agent.pipeline.supervisor import Health

MAX_POINTS = 5000
DEFAULT_SPAN_US = 3_600_000_000
HISTORY_AT_ONCE = 2

DriverFilter = Annotated[str | None, Query(max_length=40, description="only of this driver")]
StateFilter = Annotated[DeviceState | None, Query(description="only those in this state")]
Points = Annotated[int, Query(ge=1, le=MAX_POINTS, description="at most so many points")]


def create_app(
    view: GatewayView,
    clock: Clock,
    auth: Auth,
    ports: SitePorts | None = None,
    *,
    hosts: Collection[str] = (),
    any_address: bool = False,
    live: LiveStreams | None = None,
    published: Published | None = None,
) -> FastAPI:
    """The ASGI application. ``hosts`` and ``any_address``: under what it may be called, see ``Guard``."""
    ports, published = ports or SitePorts(), published or Published()
    app = FastAPI(
        title="Enlace",
        version="1",  # of the API: which version of Enlace this is, is told to who is logged in
        description="Local API of the gateway. Errors are RFC 9457 problem details.",
        docs_url=None,  # FastAPI's page loads its scripts from outside; ours stands in pages.py
        redoc_url=None,
    )
    requests = RequestFigures(clock)
    routes = Routes(auth)
    readings = _Readings(view, clock, auth, live or LiveStreams(view, clock), ports, requests)
    readings.add(routes)
    add_public_routes(routes, clock, published)
    app.state.log_level = LogLevel(clock)
    add_root_route(routes, view, ports, auth, clock)
    # Not by include_router: it makes each of them once more, at the first request.
    app.router.routes += routes.router.routes
    means = Means(view, clock, auth, ports, app.state.log_level, readings.metrics)
    app.state.areas = Areas(app, AREAS, means, pages.router().routes)
    problems.install(app, app.state.areas.make_all)
    app.add_middleware(head.answering)
    app.add_middleware(app.state.areas.serving)
    app.add_middleware(Guard, hosts=hosts, any_address=any_address, admit=auth.admit, hsts=published.always_tls)
    app.add_middleware(requests.measured)
    return app


class _Readings:
    """The handlers that only read: health, signals, devices, history, the live stream, metrics."""

    def __init__(
        self,
        view: GatewayView,
        clock: Clock,
        auth: Auth,
        live: LiveStreams,
        ports: SitePorts,
        requests: RequestFigures,
    ) -> None:
        self._view = view
        self._clock = clock
        self._auth = auth
        self._live = live
        self._ports = ports
        self._requests = requests
        self._tally = None if ports.feed is None else Tally(ports.feed)
        self._started_s = clock.monotonic_s()
        self._counting = asyncio.Lock()
        self._history_turns = asyncio.Semaphore(HISTORY_AT_ONCE)

    def add(self, routes: Routes) -> None:
        """Add the routes."""
        add = partial(routes.add, "GET")
        signals: dict[str, Any] = {"role": Role.VIEWER, "tags": ["signals"]}
        devices: dict[str, Any] = {"role": Role.VIEWER, "tags": ["devices"]}
        add(
            "/api/devices/{device_id}/latest",
            self.latest,
            response_model=DeviceLatestOut,
            summary="All values of a device",
            **devices,
        )
        add("/api/system/health", self.health, None, tags=["system"], summary="Health of the gateway")
        add("/api/signals", self.signals, summary="List signals", **signals)
        add("/api/devices", self.devices, summary="List devices with health and age", **devices)
        add("/api/history", self.history, summary="History of a signal, minima and maxima kept", **signals)
        add("/api/history.csv", self.history_csv, summary="The same as CSV", response_class=CsvResponse, **signals)
        add(
            "/api/live",
            self.live,
            summary="Server-sent events: a snapshot, then changes",
            response_class=_EventStream,
            **signals,
        )
        add(
            "/metrics",
            self.metrics,
            Role.VIEWER,
            local=True,
            tags=["system"],
            summary="Prometheus metrics",
            response_class=PlainTextResponse,
        )

    async def health(self, request: Request) -> HealthOut | StatusOut:
        """Answer 200 whenever the gateway answers; ``status`` says whether all its parts and devices are well.

        Without a token there is nothing but ``status``.
        """
        health = self._health()
        try:
            known = self._auth.set_up and self._auth.caller(request) is not None
        except (DeniedError, StoreError):
            known = False
        return health if known else StatusOut(status=health.status)

    def _health(self) -> HealthOut:
        site = self._view.site()
        parts = [
            PartOut(name=part.name, ok=part.ok, detail=part.detail, hint=part.hint) for part in self._view.health()
        ]
        devices = self._view.devices()
        wires = list({device.wire.name: device.wire.state for device in devices if device.wire}.values())
        states = [device.state for device in devices]
        db_ok = all(part.ok for part in parts if part.name == "db")
        lame = Health.OFFLINE in states or Health.UNSUPPORTED in states or not all(part.ok for part in parts)
        return HealthOut(
            status="degraded" if lame else "OK",
            db="OK" if db_ok else "error",
            parts=parts,
            wires=WiresOut(total=len(wires), **{state.value: wires.count(state) for state in Health}),
            devices=DevicesOut(total=len(states), **{state.value: states.count(state) for state in Health}),
            store=None if self._ports.store is None else store_out(self._ports.store.stats()),
            broker=site.broker,
            site=site.id,
            version=site.version,
            boot=site.boot,
            time=iso(self._clock.now_us()),
            uptime_s=round(self._clock.monotonic_s() - self._started_s, 3),
        )

    async def signals(
        self, device: DeviceFilter = None, name: NameFilter = None, page: Page = 1, page_size: PageSize = 100
    ) -> SignalPage:
        """List the configured signals in the order of their numbers."""
        found = [
            signal
            for signal in self._view.signals()
            if (device is None or signal.device == device) and (name is None or name in signal.full_name)
        ]
        items = [SignalOut.of(signal) for signal in page_of(found, page, page_size)]
        return SignalPage(total=len(found), page=page, page_size=page_size, items=items)

    async def devices(
        self,
        driver: DriverFilter = None,
        state: StateFilter = None,
        name: IdFilter = None,
        page: Page = 1,
        page_size: PageSize = 100,
    ) -> DevicePage:
        """List the configured devices, then those that clients post.

        A dead one stands here with its last error and its next try.
        """
        devices = self._view.devices()
        known = {device.id: device for device in devices}
        ids = [one for one in (*known, *posted_ids(self._view, known.keys())) if tells(name, one)]
        if driver is None and state is None:
            return DevicePage(
                total=len(ids), page=page, page_size=page_size, items=await self._out(ids, known, page, page_size)
            )
        all_items = await self._out(ids, known, 1, len(ids))
        items = [one for one in all_items if driver in {None, one.driver} and state in {None, one.state}]
        return DevicePage(total=len(items), page=page, page_size=page_size, items=page_of(items, page, page_size))

    async def _out(self, ids: Sequence[str], known: Mapping[str, DeviceInfo], page: int, size: int) -> list[DeviceOut]:
        wanted = page_of(ids, page, size)
        read_only = self._ports.read_only
        editable = read_only is not None and not read_only()
        told = await posted_latest(self._ports, [one for one in wanted if one not in known])
        return [
            DeviceOut.of(known[one], self._view.latest(self._signals_of(one)), editable=editable)
            if one in known
            else posted_out(one, told.get(one, ()))
            for one in wanted
        ]

    async def latest(self, device_id: DeviceId) -> Response:
        """All signals of a device with their newest values; also of one that is posted, and of the `gateway` itself."""
        own = self._view.own()
        for device in (*self._view.devices(), own):
            if device.id == device_id:
                kind: DeviceKind = "gateway" if device is own else "configured"
                answer = DeviceLatestOut.json_of(device, self._view.latest(self._signals_of(device_id)), kind)
                return Response(answer, media_type="application/json")
        self._known_device(device_id)
        latest = (await posted_latest(self._ports, [device_id])).get(device_id, ())
        answer = DeviceLatestOut.json_of(posted_info(device_id, latest), latest, "posted")
        return Response(answer, media_type="application/json")

    async def history(
        self,
        signal: Name,
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
        points: Points = 500,
    ) -> HistoryOut:
        """Thin out to at most ``points`` points, from ``from`` (default: an hour before ``to``) up to ``to`` (now)."""
        found, from_us, to_us, history = await self._history(signal, from_, to, points)
        return HistoryOut.of(found, from_us, to_us, history)

    async def history_csv(
        self,
        signal: Name,
        from_: Annotated[Time, Query(alias="from")] = None,
        to: Time = None,
        points: Points = 500,
    ) -> Response:
        """Columns time, signal, unit, min, max, mean, last, count, gap; what is not known is empty."""
        found, _, _, history = await self._history(signal, from_, to, points)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")  # RFC 4180
        writer.writerow(["time", "signal", "unit", "min", "max", "mean", "last", "count", "gap"])
        # The csv module writes None as an empty field.
        writer.writerows(
            (
                iso(point.t_us),
                found.full_name,
                found.unit,
                point.min,
                point.max,
                point.mean,
                point.last,
                point.count,
                int(point.gap),
            )
            for point in history.points
        )
        return CsvResponse(text.getvalue(), headers={"content-disposition": 'attachment; filename="history.csv"'})

    async def live(self, caller: CallerOf, device: DeviceFilter = None) -> Response:
        """Stream ``snapshot`` and ``change`` events, each ``{"time", "values"}``.

        ``news`` with ``{"newest"}``, the number of the newest event, where there are more; ``beat`` after 15 s without.
        """
        if device is not None:
            self._known_device(device)
        if self._live.full:
            raise HTTPException(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many live streams are open", headers={"retry-after": "10"}
            )
        return _EventStream(self._live.stream(device, partial(self._auth.still, caller)))

    async def metrics(self) -> Response:
        """Figures of all parts: docs/metrics.md lists them."""
        running = None
        # Without its store the gateway tells all other figures.
        async with self._counting:
            with contextlib.suppress(StoreError):
                running = await asyncio.to_thread(self._look)
        sources = metrics.Sources(self._view, self._ports, self._requests, self._tally, running)
        return Response(metrics.render(sources, self._clock, self._started_s), media_type=metrics.MEDIA_TYPE)

    def _look(self) -> int | None:
        """Count what happened since the last look; how many sessions run. Raises ``StoreError``."""
        if self._tally is not None:
            self._tally.look()
        sessions = self._ports.sessions
        return None if sessions is None else sessions.list_sessions(running=True, limit=1)[0]

    async def _history(
        self, name: str, from_text: str | None, to_text: str | None, points: int
    ) -> tuple[Signal, int, int, History]:
        signal = self._view.signal(name)
        if signal is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no signal {name!r}: /api/signals lists them")
        to_us = self._clock.now_us() if to_text is None else time_us("query.to", to_text)
        from_us = to_us - DEFAULT_SPAN_US if from_text is None else time_us("query.from", from_text)
        if from_us >= to_us:
            detail = f"from ({iso(from_us)}) must be before to ({iso(to_us)})"
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        async with self._history_turns:
            history = await asyncio.to_thread(self._view.history, signal, from_us, to_us, points)
        return signal, from_us, to_us, history

    def _known_device(self, device_id: str) -> DeviceInfo:
        for device in (*self._view.devices(), self._view.own()):
            if device.id == device_id:
                return device
        if device_id in posted_ids(self._view, ()):
            return posted_info(device_id, ())
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no device {device_id!r}: /api/devices lists them")

    def _signals_of(self, device_id: str) -> list[Signal]:
        return [signal for signal in self._view.signals() if signal.device == device_id]


class _EventStream(StreamingResponse):
    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None], status_code: int = HTTPStatus.OK) -> None:
        super().__init__(events, status_code)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A client may leave between two events: its place is free when the answer ends, not when garbage is collected.
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)
