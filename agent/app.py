"""The composition root: configuration -> parts -> supervise -> ordered stop. The only module that sees everything.

Start-up never depends on a device, a broker or a network: the store is opened, the wires start, and then the API and
the uplink, whose libraries are loaded late so that the first sample does not wait for them. The stop takes the opposite
way: wires, uplink and API end first, each bounded; what was read is committed last.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from agent import __version__
from agent.alive import Vitals, Watchman
from agent.clock_trust import ClockTrust, Sources, machine_sources
from agent.config import Config, load_config
from agent.config_changes import changes_of
from agent.core.clock import Clock, HeldClock
from agent.core.ending import STOP_SIGNALS, on_signals
from agent.core.errors import ConfigError, StoreError
from agent.core.model import Event
from agent.log_ring import LogRing
from agent.notify_systemd import ServiceManager
from agent.overview import Overview
from agent.pipeline.hub import Hub
from agent.pipeline.supervisor import Supervisor
from agent.reckoning import keep_warm
from agent.running import MakeListeners, Running, prepare
from agent.store.db import Store
from agent.store.evidence import make_folder
from agent.store.settings import DATABASE, DAY_S, StoreSettings
from agent.vitals import vitals_of

logger = logging.getLogger(__name__)

#: What the disk has not taken by then is lost; with all that ends before it, a stop takes less than 10 s.
CLOSE_S = 5.0
#: All libraries are loaded so long after the start.
LOADED_S = 10.0
#: So often what is not used is given back afterwards; on a slow machine the loading takes longer than ``LOADED_S``.
TRIM_S = 60.0
_M_ARENA_MAX = -8
#: The share of the free disk that the database may take where no quota is configured.
DISK_SHARE = 0.8

#: How often the configuration file is looked at.
WATCH_S = 1.0


class Gateway:
    """One site's gateway. ``path`` is the configuration's file: relative paths count from its folder, and changes of
    it are applied while the gateway runs. ``make_listeners`` and ``every`` (keep every reading) are for replay;
    ``sources`` (what is known of the clock) is for those that have none of their own machine's.
    """  # noqa: D205 - one sentence

    def __init__(
        self,
        config: Config,
        clock: Clock,
        path: Path,
        make_listeners: MakeListeners | None = None,
        *,
        every: bool = False,
        sources: Sources | None = None,
    ) -> None:
        self._sources = sources or machine_sources()
        self._config = config
        # A log is replayed by its own times: nobody watches over its clock.
        self._held = HeldClock(clock) if make_listeners is None else None
        self._clock = self._held or clock
        self._path = path
        self._make_listeners = make_listeners
        self._every = every
        self._reread = False
        self._manager = ServiceManager(clock)
        self._vitals: Vitals | None = None
        # Taken now, right after the file was read: a change while the site starts is a change too.
        self._seen = _stamp(path)
        self.overview: Overview | None = None
        self._log_ring = LogRing()

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT. Raises ``ConfigError`` and ``StoreError`` before anything is started."""
        share_one_arena()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        on_signals(STOP_SIGNALS, stop.set)
        on_signals((signal.SIGHUP,), self._read_again)
        loop.set_exception_handler(_log_lost)
        watchman = Watchman(self._manager, self._clock)
        opening = asyncio.create_task(watchman.opening(), name="opening")
        try:
            async with self.running() as supervisor:
                opening.cancel()
                assert self._vitals is not None  # noqa: S101 - running has set it
                supervisor.add_part("service manager", partial(watchman.run, self._vitals))
                logger.info("site %s is up, version %s", self._config.site.id, __version__)
                loop.call_later(LOADED_S, settle)
                await stop.wait()
                logger.info("stopping")
                self._manager.stopping()
        finally:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Supervisor]:
        """Everything started; stopped in order at the end. Raises ``ConfigError`` and ``StoreError``."""
        logging.getLogger().addHandler(self._log_ring)
        try:
            async with self._running() as supervisor:
                yield supervisor
        finally:
            logging.getLogger().removeHandler(self._log_ring)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[Supervisor]:
        devices = await asyncio.to_thread(prepare, self._config, self._path.parent)
        trust = None if self._held is None else ClockTrust(self._held, self._sources)
        judge = _nobody if trust is None else trust.begin
        store = await asyncio.to_thread(open_store, self._config, self._clock, judge)
        hub = Hub(self._clock)
        running = Running(self._config, self._clock, store, hub, self._path, self._make_listeners, every=self._every)
        try:
            running.log_ring = self._log_ring
            await running.apply(self._config, devices)
            self.overview = running.overview
            running.overview.clock = trust
            if trust is not None:
                running.supervisor.add_part("clock", lambda: trust.run(store, running.record))
                running.supervisor.add_part("configuration", lambda: self._watch(running))
                running.supervisor.add_part("control", running.run_control)
                running.supervisor.add_part("timed events", running.control.events.run)
                running.supervisor.add_part("notifications", running.notifier.run)
                running.supervisor.add_part("insight", lambda: keep_warm(running.insight, self._clock))
                running.supervisor.add_part("maintenance", running.maintenance.run)
                running.supervisor.add_part("upgrades", running.upgrades.run)
            running.supervisor.start()
            self._vitals = vitals_of(running, store, self._clock)
            yield running.supervisor
        finally:
            # Nothing is switched any more before the wires end: chargers keep what they were told, or their fail-safe.
            await running.close()
            hub.close()
            await running.supervisor.stop()
            await asyncio.to_thread(store.close, CLOSE_S)

    def _read_again(self) -> None:
        self._reread = True

    async def _watch(self, running: "Running") -> None:
        """Apply each change of the file; a bad one is refused in words, and the old one stays."""
        while True:
            await self._clock.sleep_s(WATCH_S)
            now = _stamp(self._path)
            if now == self._seen and not self._reread:
                continue
            self._seen, self._reread = now, False
            self._manager.reloading()
            try:
                config = await asyncio.to_thread(load_config, self._path)
                devices = await asyncio.to_thread(prepare, config, self._path.parent)
                changes = changes_of(running.config, config)
                await running.apply(config, devices)
            except (ConfigError, StoreError) as error:
                logger.warning("the new configuration is refused, the old one stays: %s", error)
                running.record(Event("config.refused", self._clock.now_us(), "config", {"reason": str(error)}))
            else:
                logger.info("the new configuration is applied")
                running.record(Event("config.applied", self._clock.now_us(), "config", changes))
            finally:
                self._manager.reloaded()


def _nobody(_: int) -> None:
    """The clock is taken as it is."""


def open_store(config: Config, clock: Clock, judge: Callable[[int], None] = _nobody) -> Store:
    """The database of a site, as its configuration wants it kept. ``judge``: see ``Store``. Raises ``StoreError``."""
    folder, section = config.data_dir, config.store
    try:
        make_folder(folder)
    except OSError as error:
        hint = "create it for the user that runs enlace, or name another one with data_dir:"
        raise StoreError(f"open {folder}", error.strerror or str(error), hint) from error
    room_bytes = shutil.disk_usage(folder).free + _size(folder / DATABASE)
    settings = StoreSettings(
        commit_s=section.commit_s,
        raw_age_s=section.keep_raw_days * DAY_S,
        minute_age_s=section.keep_minutes_days * DAY_S,
        hour_age_s=section.keep_hours_days * DAY_S,
        max_bytes=section.max_bytes or round(DISK_SHARE * room_bytes),
    )
    store = Store.open(folder / DATABASE, clock, settings, judge)
    if store.opened.moved_to is not None:
        moved_to, reason = store.opened.moved_to, store.opened.reason
        logger.warning("the database could not be used (%s): it stands aside at %s, a new one begins", reason, moved_to)
    return store


def settle() -> None:
    """All is loaded, and stays: the collector's looks through it held up everything for 65 ms each.

    What loading took for a while goes back to the system: 10 MB that the C library would keep (glibc has this call).
    """
    gc.freeze()
    _trim()


def _trim() -> None:
    """Give back now and from time to time: reports and long histories leave some too."""
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, give_back)
    loop.call_later(TRIM_S, _trim)


def give_back() -> None:
    """Give what is not used back to the system, where the C library has a call for that (glibc: malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def share_one_arena() -> None:
    """Have all threads take their memory from one place (glibc: mallopt(3), M_ARENA_MAX): 5 to 14 MB less.

    By default each has its own, of which what it took to load something stays half empty; they rarely run side by side.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def _log_lost(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception that nobody waited for: a bug, told with its traceback, never the end of the process."""
    logger.error("%s", context.get("message", "lost exception"), exc_info=context.get("exception"))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None while it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
