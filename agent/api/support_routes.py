"""``/api/system/logs``, ``doctor`` and ``backup``: what an admin needs who asks for help, or leaves the site.

Rules of this file:

1. Nothing of it leaves without an audit event, and all of it is for admins: a backup holds keys.
2. One bundle and one backup is made at a time: they read the whole store. Who asks meanwhile gets 409.
3. A backup runs in a thread of its own, which the end of the process does not wait for; nobody who waits for it any
   more ends it at its next step.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, BinaryIO, TypeVar

from fastapi import HTTPException, Query, Request
from pydantic import Field
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agent.api.access import CallerOf, Routes
from agent.api.alarm_bodies import AlarmOut
from agent.api.auth import Auth
from agent.api.log_level import Level, level_word
from agent.api.models import DeviceOut, Model
from agent.api.paging import needed
from agent.api.times import iso
from agent.api.users import Role
from agent.api.view import GatewayView, MadeBackup, SitePorts, SupportDesk
from agent.core.clock import Clock
from agent.log_ring import LogLine
from agent.pipeline.health import Health

T = TypeVar("T")

CHUNK_BYTES = 1 << 18
MAX_LINES = 1000
_MAX_TEXT = 200

_LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: How bad an alarm is in the words of ``check``.
_OF_SEVERITY = {"critical": "error", "warning": "warning", "info": "info"}

Least = Annotated[Level, Query(description="least severity")]
Limit = Annotated[int, Query(ge=1, le=MAX_LINES, description="at most so many lines")]
Text = Annotated[str, Query(max_length=_MAX_TEXT, description="only lines in which this stands; case does not count")]


class LogLineOut(Model):
    """A line of the gateway's own log, without secrets and names of people."""

    time: str
    level: Level
    logger: str = Field(description="the part of the program that says it")
    text: str = Field(description="with the traceback, where there is one")

    @classmethod
    def of(cls, line: LogLine) -> "LogLineOut":
        """A line as JSON."""
        return cls(time=iso(line.t_us), level=level_word(line.level), logger=line.logger, text=line.text)


class LogLinesOut(Model):
    """The newest lines of the log, newest first."""

    total: int = Field(description="lines that are kept and fit, also those above the limit")
    dropped: int = Field(description="older lines that had to make room since the start")
    items: list[LogLineOut]


class ZipResponse(Response):
    """A zip file."""

    media_type = "application/zip"


class TarResponse(StreamingResponse):
    """A tar file that is sent piece by piece."""

    media_type = "application/x-tar"


def add_support_routes(
    routes: Routes,
    view: GatewayView,
    ports: SitePorts,
    auth: Auth,
    clock: Clock,
    metrics: Callable[[], Awaitable[Response]],
) -> None:
    """Add the routes. ``metrics`` answers as ``/metrics`` does."""
    one = _SupportRoutes(view, ports, auth, clock, metrics)
    more: dict[str, Any] = {"role": Role.ADMIN, "tags": ["system"]}
    routes.add("GET", "/api/system/logs", one.logs, summary="The newest lines of the log", **more)
    summary = "One redacted file for support"
    routes.add("POST", "/api/system/doctor", one.doctor, summary=summary, response_class=ZipResponse, **more)
    summary = "All of the site in one file"
    routes.add("POST", "/api/system/backup", one.backup, summary=summary, response_class=TarResponse, **more)


class _SupportRoutes:
    def __init__(
        self,
        view: GatewayView,
        ports: SitePorts,
        auth: Auth,
        clock: Clock,
        metrics: Callable[[], Awaitable[Response]],
    ) -> None:
        self._view = view
        self._ports = ports
        self._auth = auth
        self._clock = clock
        self._metrics = metrics
        self._made: set[str] = set()  #: what is being made now

    async def logs(self, level: Least = "info", limit: Limit = 200, text: Text = "") -> LogLinesOut:
        """Show lines that the gateway has logged since its start, newest first, as they may be shown to others."""
        page = await asyncio.to_thread((await self._desk()).logs, _LEVELS[level], text, limit)
        return LogLinesOut(total=page.total, dropped=page.dropped, items=[LogLineOut.of(one) for one in page.lines])

    async def doctor(self, caller: CallerOf) -> Response:
        """Make what `enlace doctor` makes, with what the running gateway knows: a zip file without secrets."""
        desk = await self._desk()
        with self._alone("doctor", "a bundle"):
            live, findings = await self._live(), self._findings()
            bundle = await asyncio.to_thread(desk.doctor, live, findings)
        self._auth.audit(caller.name, "make support bundle", "gateway", "done")
        return ZipResponse(bundle.content, headers={"content-disposition": f'attachment; filename="{bundle.name}"'})

    async def backup(
        self,
        request: Request,
        caller: CallerOf,
        secrets: Annotated[bool, Query(description="false: for support, without users, keys and id tags")] = True,  # noqa: FBT002 - a query's
    ) -> Response:
        """Make what `enlace backup` makes, and send it. It holds keys and passwords unless `secrets` is false."""
        desk, stop = await self._desk(), threading.Event()
        with contextlib.ExitStack() as unless_sent:
            unless_sent.enter_context(self._alone("backup", "a backup"))
            unless_sent.callback(stop.set)
            made = await _while_waited_for(request, _in_thread(partial(desk.backup, stop, with_secrets=secrets)))
            unless_sent.callback(made.file.close)
            what = "make backup" if secrets else "make backup without secrets"
            self._auth.audit(caller.name, what, "gateway", "done", backup=made.id, not_in_it=list(made.missing))
            after = unless_sent.pop_all()
        return _Sent(made, f"enlace-{self._view.site().id}-{self._stamp()}.tar", after)

    async def _live(self) -> dict[str, object]:
        """What the gateway knows better than its files, by section. It is read here: in the event loop."""
        parts: dict[str, Callable[[], object]] = {
            "gateway/health.json": lambda: [asdict(part) for part in self._view.health()],
            "gateway/devices.json": lambda: [
                DeviceOut.of(device, self._view.latest(self._signals_of(device.id))).model_dump()
                for device in self._view.devices()
            ],
            "gateway/signals.json": lambda: [
                {"signal": one.signal.full_name, "value": one.value, "unit": one.signal.unit, "age_s": one.age_s}
                for one in self._view.latest(self._view.signals())
            ],
        }
        if self._ports.alarms is not None:
            alarms = self._ports.alarms
            parts["gateway/alarms.json"] = lambda: [AlarmOut.of(one).model_dump() for one in alarms.alarms()]
        if self._ports.load is not None:
            load = self._ports.load
            parts["gateway/load.json"] = lambda: (status := load()) and asdict(status)
        told = {name: part() for name, part in parts.items()}
        return {**told, "gateway/metrics.txt": bytes((await self._metrics()).body).decode()}

    def _findings(self) -> list[tuple[str, str, str]]:
        """What is wrong now: (severity, what, what to do), in the words of health and alarms."""
        found = [("error", f"{one.name}: {one.detail}", one.hint) for one in self._view.health() if not one.ok]
        for device in self._view.devices():
            if device.state in {Health.OFFLINE, Health.UNSUPPORTED}:
                health = device.unit or device.wire
                severity = "error" if device.state is Health.UNSUPPORTED else "warning"
                why = f": {health.last_error}" if health else ""
                found.append((severity, f"{device.id}: {device.state}{why}", health.hint if health else ""))
        for alarm in self._ports.alarms.alarms() if self._ports.alarms is not None else ():
            if alarm.active and alarm.spec.severity is not None:
                severity = _OF_SEVERITY[alarm.spec.severity.value]
                found.append((severity, f"alarm {alarm.spec.id}: {alarm.why}", alarm.spec.text))
        return found

    def _signals_of(self, device: str) -> list[Any]:
        return [signal for signal in self._view.signals() if signal.device == device]

    def _stamp(self) -> str:
        return f"{datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC):%Y%m%dT%H%M%SZ}"

    @contextlib.contextmanager
    def _alone(self, name: str, what: str) -> Iterator[None]:
        if name in self._made:
            raise HTTPException(HTTPStatus.CONFLICT, f"{what} is being made already: wait for it")
        self._made.add(name)
        try:
            yield
        finally:
            self._made.discard(name)

    async def _desk(self) -> SupportDesk:
        return await asyncio.to_thread(needed(self._ports.support, "a support desk"))


class _Sent(TarResponse):
    """A file that is read in pieces as they are taken; ``after`` is closed when all is sent, or nobody takes it."""

    def __init__(self, made: MadeBackup, name: str, after: contextlib.ExitStack) -> None:
        headers = {"content-disposition": f'attachment; filename="{name}"', "content-length": str(made.size)}
        super().__init__(_pieces(made.file), headers=headers)
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._after:
            await super().__call__(scope, receive, send)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield piece


async def _while_waited_for(request: Request, work: "asyncio.Future[T]") -> T:
    """The result of that work. Raises ``ClientDisconnect`` when the client leaves before, or the gateway stops."""
    gone = asyncio.ensure_future(_gone(request))
    either: set[asyncio.Future[Any]] = {gone, work}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        gone.cancel()
        work.cancel()  # nobody asks what becomes of it


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _in_thread(work: Callable[[], T]) -> "asyncio.Future[T]":
    """What ``asyncio.to_thread`` does, in a thread that nobody waits for at the end of the process (rule 3)."""
    done: Future[T] = Future()

    def run() -> None:
        done.set_running_or_notify_cancel()
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="backup", daemon=True).start()
    return asyncio.wrap_future(done)
