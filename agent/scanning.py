"""The search for devices that the API starts: the work of ``enlace scan``, in a thread beside the site. One at a time.

Rules of this file:

1. The search has a thread and an event loop of its own: what it waits for or reckons delays no sample.
2. What the configuration has is left alone, also when it comes to have it during the search: a device that is saved
   while others are still looked for gets its wire within a second.
3. It ends after ``MAX_S`` by itself, and keeps so many findings and messages. The last search stays to be shown.
4. Chargers on OCPP call us. Where the gateway's own port is open, those who wait there count as found; where there is
   none yet, the search opens the port for a while, as ``enlace scan ocpp`` does.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import scan_targets as targets
from agent.api.setup_view import (
    KindStatus,
    OccupiedError,
    ScanKind,
    ScanState,
    ScanStatus,
    ScanWanted,
)
from agent.api.view import PendingCharger
from agent.config import Config
from agent.core.clock import Clock
from agent.core.errors import AgentError
from agent.scan_found import FoundSoFar
from agent.scan_job import Job, Wanted, load_models
from agent.yamlfile import Json
from drivers.modbus.scan_match import Model

logger = logging.getLogger(__name__)

MAX_S = 1800.0
MAX_MESSAGES = 200
END_S = 2.0
_TOO_LONG = f"ended after {MAX_S / 60:.0f} min: name hosts, networks or ports to look at less"
_OWN_PORT = "chargers call by themselves, and are shown as soon as they do"


@dataclass(frozen=True, slots=True)
class SearchedSite:
    """What the search looks at of the gateway that runs."""

    config: Callable[[], Config]
    pending: Callable[[], Sequence[PendingCharger]]
    has_central: Callable[[], bool]  #: the chargers' port is the gateway's own
    testing: Callable[[], bool]  #: a device is being tested


@dataclass
class _Kind:
    """How far the search of a kind is. A ``Watcher``; written in the search's thread, read in others."""

    kind: ScanKind
    messages: deque[str]
    state: ScanState = "waiting"
    stage: str = ""
    detail: str = ""
    left_s: float = 0.0
    job: object = None  #: tells ``done`` and ``total``

    def step(self, stage: str, detail: str, left_s: float) -> None:
        """See ``Watcher``."""
        self.stage, self.detail, self.left_s = stage, detail, left_s

    def say(self, text: str) -> None:
        """See ``Watcher``."""
        self.messages.append(text)

    def end(self, state: ScanState, why: str = "") -> None:
        """It is over."""
        self.state, self.stage, self.detail, self.left_s = state, why, "", 0.0

    def snapshot(self) -> KindStatus:
        """As it is now."""
        detail = ", ".join(part for part in (self.stage, self.detail) if part)
        done, total = getattr(self.job, "done", 0), getattr(self.job, "total", 0)
        return KindStatus(self.kind, self.state, detail, done, total, round(self.left_s) or None)


@dataclass
class _Run:
    """One search."""

    kinds: list[_Kind]
    messages: deque[str]
    found: FoundSoFar
    started_us: int
    models: list[Model] | None = None
    state: ScanState = "running"
    ended_us: int | None = None
    thread: threading.Thread | None = None
    loop: asyncio.AbstractEventLoop | None = None
    task: "asyncio.Task[None] | None" = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class Scans:
    """``Scans`` of ``agent/api/setup_view.py``. ``path`` is the configuration's file."""

    def __init__(self, path: Path, clock: Clock, site: SearchedSite) -> None:
        self._path = path
        self._clock = clock
        self._site = site
        self._run: _Run | None = None
        self._lock = threading.Lock()
        self._configured: tuple[Config, targets.Configured] | None = None

    @property
    def running(self) -> bool:
        """Whether one goes on."""
        return self._run is not None and self._run.state == "running"

    def status(self) -> ScanStatus:
        """How far it is, or was."""
        run = self._run
        if run is None:
            return ScanStatus()
        if any(one.kind == "ocpp" for one in run.kinds):
            for charger in self._site.pending():
                run.found.charger_waits(charger)
        found = run.found.all(self._site.config())
        kinds = [one.snapshot() for one in run.kinds]
        return ScanStatus(run.state, run.started_us, run.ended_us, kinds, tuple(run.messages), found)

    def start(self, wanted: ScanWanted) -> None:
        """Begin. Raises ``OccupiedError`` and ``ConfigError``."""
        work = _wanted(wanted)
        with self._lock:
            if self.running:
                raise OccupiedError("scan", "a search goes on already", "wait for its end, or cancel it")
            if self._site.testing():
                raise OccupiedError("scan", "a device is being tested", "try again in some seconds")
            messages: deque[str] = deque(maxlen=MAX_MESSAGES)
            kinds = [_Kind(kind, messages) for kind in dict.fromkeys(wanted.kinds)]
            ids = {device.id for device in self._site.config().devices}
            run = _Run(kinds, messages, FoundSoFar(ids), self._clock.now_us())
            run.thread = threading.Thread(target=self._search, args=(run, work), name="scan", daemon=True)
            run.thread.start()
            self._run = run  # only now: one that could not begin must not stand in the way of the next

    def cancel(self) -> bool:
        """End it; whether there was one. Blocks until it has ended, for ``END_S`` at most."""
        run = self._run
        if run is None or run.state != "running":
            return False
        run.cancelled.set()
        loop, task = run.loop, run.task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just ended by itself
                loop.call_soon_threadsafe(task.cancel)
        if run.thread is not None:
            run.thread.join(END_S)
        return True

    def _search(self, run: _Run, wanted: Wanted) -> None:
        """The thread."""
        try:
            asyncio.run(self._all(run, wanted))
        except asyncio.CancelledError:
            run.cancelled.set()
        finally:
            state: ScanState = "cancelled" if run.cancelled.is_set() else "done"
            for one in run.kinds:
                if one.state in {"waiting", "running"}:
                    one.end(state)
            failed = bool(run.kinds) and all(one.state == "failed" for one in run.kinds)
            run.models = None  # some MB
            run.ended_us = self._clock.now_us()
            run.state = "failed" if failed else state

    async def _all(self, run: _Run, wanted: Wanted) -> None:
        run.loop, run.task = asyncio.get_running_loop(), asyncio.current_task()
        if run.cancelled.is_set():
            return
        kinds = {one.kind: one for one in run.kinds}
        work: dict[ScanKind, Callable[[_Kind], Awaitable[None]]] = {
            "modbus": lambda one: self._wires(run, one, replace(wanted, serial=False)),
            "serial": lambda one: self._wires(run, one, replace(wanted, tcp=False)),
            "can": lambda one: self._can(run, one),
            "ocpp": lambda one: self._ocpp(run, one),
        }
        searches = [asyncio.ensure_future(self._one(kinds[kind], work[kind])) for kind in kinds]
        try:
            _, late = await asyncio.wait(searches, timeout=MAX_S)
            for one in run.kinds:
                if late and one.state == "running":
                    one.end("done", _TOO_LONG)
        finally:
            for search in searches:
                search.cancel()
            results = await asyncio.gather(*searches, return_exceptions=True)
            for one, result in zip(run.kinds, results, strict=True):
                if isinstance(result, Exception):
                    logger.error("scan: %s crashed", one.kind, exc_info=result)
                    one.end("failed", "this is a bug of Enlace: the log holds its traceback")

    async def _one(self, kind: _Kind, work: Callable[[_Kind], Awaitable[None]]) -> None:
        kind.state = "running"
        try:
            await work(kind)
        except AgentError as error:
            kind.say(str(error))
            kind.end("failed", str(error))
        else:
            kind.end("done", kind.stage if kind.kind == "ocpp" else "")

    async def _wires(self, run: _Run, kind: _Kind, wanted: Wanted) -> None:
        if run.models is None:
            run.models, products = load_models(self._path.resolve().parent, kind)
            run.found.products.update(products)
        job = Job(wanted, self._now_configured, run.models, run.found.products, kind, self._clock)
        job.tell = lambda found: run.found.wire(kind.kind, found)
        kind.job = job
        await job.run()

    async def _can(self, run: _Run, kind: _Kind) -> None:
        from agent.scan_can import CanJob, load_can_models  # noqa: PLC0415 - few sites look for batteries

        models = load_can_models(self._path.resolve().parent, kind)
        job = CanJob(models, lambda: self._now_configured().channels, kind, self._clock, run.found.bus)
        kind.job = job
        await job.run()

    async def _ocpp(self, run: _Run, kind: _Kind) -> None:
        if self._site.has_central():
            kind.step(_OWN_PORT, "", 0)
            return
        from agent.scan_ocpp import Job as OcppJob  # noqa: PLC0415 - its libraries take 8 MB
        from agent.scan_ocpp import read_known  # noqa: PLC0415

        job = OcppJob(read_known(self._path), kind, self._clock)
        knocking = asyncio.ensure_future(job.run())
        try:
            while not knocking.done():
                await asyncio.wait({knocking}, timeout=1.0)
                for info in list(job.found.values()):
                    run.found.knock(info)
                if self._site.has_central():
                    kind.step(_OWN_PORT, "", 0)
                    return
            knocking.result()
            kind.step("", "", 0)
        finally:
            knocking.cancel()
            await asyncio.gather(knocking, return_exceptions=True)

    def _now_configured(self) -> targets.Configured:
        """What the configuration that runs uses. Names of hosts are looked up once for each configuration."""
        config = self._site.config()
        known = self._configured
        if known is None or known[0] is not config:
            rows: Json = [device.model_dump(mode="json") for device in config.devices]
            known = config, targets.configured_in({"devices": rows}, targets.addresses_of)
            self._configured = known
        return known[1]


def _wanted(wanted: ScanWanted) -> Wanted:
    """Where to look. Raises ``ConfigError``."""
    return Wanted(
        hosts=[targets.named_host(text) for text in wanted.hosts],
        networks=[targets.named_network(text) for text in wanted.networks],
        ports=[targets.checked_port(text) for text in wanted.ports] or None,
        units=tuple(wanted.units) or None,
    )
