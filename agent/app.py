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
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from agent import __version__
from agent.acting import BackendEvents, bad_lines, load_settings, schedule_specs, targets
from agent.alarm_sets import FOLDER
from agent.api.view import SitePorts
from agent.central import Central
from agent.config import OWN_DEVICE, Config, OcppDevice, Report, load_config
from agent.config_api import split_address
from agent.config_changes import changes_of
from agent.consumption import Consumption
from agent.control.registered import RegisteredStations
from agent.control.service import TICK_S, ControlService
from agent.core.clock import Clock
from agent.core.errors import ConfigError, StoreError
from agent.core.model import Event, Signal, SignalSpec
from agent.core.ports import Listener
from agent.devices import Plans, Prepared, Preparer, central_of, plan_all
from agent.insight.counters import Counters
from agent.insight.machines import MachineBook
from agent.insight.maintenance import Maintenance
from agent.insight.service import Insight
from agent.overview import Overview
from agent.pipeline import gate as pipeline_gate
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub
from agent.pipeline.supervisor import Supervisor
from agent.posted import PostedDevices
from agent.reckoning import insight_settings, keep_warm
from agent.remote import RemoteOrders
from agent.site_editor import SiteEditor
from agent.store.db import Store
from agent.store.settings import DAY_S, StoreSettings
from agent.watching import ToldChannels, Watched, alarm_sets, certificates, channels, self_watch
from cloud_sync.notify import Notifier
from drivers.can.bus import CanListener

if TYPE_CHECKING:
    from agent.api.server import ApiServer
    from cloud_sync.uplink import Uplink
    from drivers.can.plan import CanPlan

logger = logging.getLogger(__name__)

DATABASE = "enlace.db"
CLOSE_S = 20.0
#: All libraries are loaded so long after the start.
LOADED_S = 10.0
#: The share of the free disk that the database may take where no quota is configured.
DISK_SHARE = 0.8

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: How often the configuration file is looked at.
WATCH_S = 1.0

#: Makes the wires of a site: from what is planned and the signals' numbers. Replay puts a log in their place.
MakeListeners = Callable[["CanPlan", Mapping[tuple[str, str], int], Store], Sequence[Listener]]


class Gateway:
    """One site's gateway. ``path`` is the configuration's file: relative paths count from its folder, and changes of
    it are applied while the gateway runs. ``make_listeners`` and ``every`` (keep every reading) are for replay.
    """  # noqa: D205 - one sentence

    def __init__(
        self,
        config: Config,
        clock: Clock,
        path: Path,
        make_listeners: MakeListeners | None = None,
        *,
        every: bool = False,
    ) -> None:
        self._config = config
        self._clock = clock
        self._path = path
        self._make_listeners = make_listeners
        self._every = every
        self._reread = False
        # Taken now, right after the file was read: a change while the site starts is a change too.
        self._seen = _stamp(path)
        self.overview: Overview | None = None

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT. Raises ``ConfigError`` and ``StoreError`` before anything is started."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._read_again)
        loop.set_exception_handler(_log_lost)
        async with self.running():
            logger.info("site %s is up, version %s", self._config.site.id, __version__)
            loop.call_later(LOADED_S, _settle)
            await stop.wait()
            logger.info("stopping")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Supervisor]:
        """Everything started; stopped in order at the end. Raises ``ConfigError`` and ``StoreError``."""
        devices = await asyncio.to_thread(_prepare, self._config, self._path.parent)
        store = await asyncio.to_thread(open_store, self._config, self._clock)
        hub = Hub(self._clock)
        running = _Running(self._config, self._clock, store, hub, self._path, self._make_listeners, every=self._every)
        try:
            await running.apply(self._config, devices)
            self.overview = running.overview
            if self._make_listeners is None:
                running.supervisor.add_part("configuration", lambda: self._watch(running))
                running.supervisor.add_part("control", running.run_control)
                running.supervisor.add_part("timed events", running.control.events.run)
                running.supervisor.add_part("notifications", running.notifier.run)
                running.supervisor.add_part("insight", lambda: keep_warm(running.insight, self._clock))
                running.supervisor.add_part("maintenance", running.maintenance.run)
            running.supervisor.start()
            yield running.supervisor
        finally:
            # Nothing is switched any more before the wires end: chargers keep what they were told, or their fail-safe.
            await running.close()
            hub.close()
            await running.supervisor.stop()
            await asyncio.to_thread(store.close, CLOSE_S)

    def _read_again(self) -> None:
        self._reread = True

    async def _watch(self, running: "_Running") -> None:
        """Apply each change of the file; a bad one is refused in words, and the old one stays."""
        while True:
            await self._clock.sleep_s(WATCH_S)
            now = _stamp(self._path)
            if now == self._seen and not self._reread:
                continue
            self._seen, self._reread = now, False
            try:
                config = await asyncio.to_thread(load_config, self._path)
                devices = await asyncio.to_thread(_prepare, config, self._path.parent)
                changes = changes_of(running.config, config)
                await running.apply(config, devices)
            except (ConfigError, StoreError) as error:
                logger.warning("the new configuration is refused, the old one stays: %s", error)
                running.record(Event("config.refused", self._clock.now_us(), "config", {"reason": str(error)}))
            else:
                logger.info("the new configuration is applied")
                running.record(Event("config.applied", self._clock.now_us(), "config", changes))


def open_store(config: Config, clock: Clock) -> Store:
    """The database of a site, as its configuration wants it kept. Raises ``StoreError``."""
    folder, section = config.data_dir, config.store
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
    store = Store.open(folder / DATABASE, clock, settings)
    if store.opened.moved_to is not None:
        moved_to, reason = store.opened.moved_to, store.opened.reason
        logger.warning("the database could not be used (%s): it stands aside at %s, a new one begins", reason, moved_to)
    return store


@dataclass(frozen=True, slots=True)
class _Devices:
    """What the devices of a configuration come to."""

    prepared: Sequence[Prepared]
    plans: Plans
    watched: Watched | None  #: None: with the ready-made alarms as they are, which are read when the wires run


def _prepare(config: Config, base: Path) -> _Devices:
    """Load profiles and DBC files, resolve all names. Takes some 100 ms. Raises ``ConfigError``."""
    for _, error in bad_lines(config):  # before anything is changed: control would refuse it when the wires are new
        raise error
    preparer = Preparer(base)
    prepared = preparer.all(config.devices)
    central = central_of(config)
    plans = plan_all(prepared, central, preparer.quirks() if central else ())
    watched = None
    if config.alarm_sets is not None or (base / FOLDER).is_dir():
        watched = Watched(alarm_sets(base))
        watched.specs(config, plans.specs)  # what can't be used is refused before anything is changed
    return _Devices(prepared, plans, watched)


class _Running:
    """The parts that run, and how they follow the configuration: ``apply`` touches only what a change is about."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        store: Store,
        hub: Hub,
        path: Path,
        make_listeners: MakeListeners | None,
        *,
        every: bool,
    ) -> None:
        self._config = config
        self._clock = clock
        self._store = store
        self._path = path
        self._make_listeners = make_listeners
        self._every = every
        self._gate = Gate()
        self._rules: dict[str, pipeline_gate.Report] = {}
        self._declared: dict[int, Signal] = {}  #: what wires found out about while they ran
        self._wires: dict[str, object] = {}
        self._listeners: dict[str, Listener] = {}
        self._parts: dict[str, object] = {}
        self._watched: Watched | None = None  #: None: its ready-made alarms are being read
        self._judging = asyncio.Event()  #: alarms and rules are judged, and what they want is known
        self._backend: BackendEvents | None = None
        self._ready_made: asyncio.Task[None] | None = None
        self._nobody: list[str] = []  #: what conditions name and nobody has
        self._central = Central(clock, store)
        flow = Flow(clock, self._gate, hub, store.append)
        self.supervisor = Supervisor(clock, flow, self.record, declare=self._declare)
        self.overview = Overview(store, hub, self.supervisor)
        self.posted = PostedDevices(clock, store, flow, hub, self._rules_of, self._learn_posted)
        self.insight = Insight(store, clock)
        self.notifier = Notifier((), clock, self.record, config.site.name)
        self._changing = asyncio.Lock()  #: what the stations are made of is changed
        self.registered = RegisteredStations(clock, store, self._stations_changed)
        self.control = ControlService(clock, store, self.record, hub, self.overview.find, self.notifier.hear, boot_id())
        counters = Counters(store, store.maintenance)
        machines = MachineBook(clock, store, self.overview.machines)
        self.maintenance = Maintenance(clock, store, machines, store.maintenance, counters)
        if make_listeners is None:
            flow.watcher = self.control.alarms.engine

    @property
    def config(self) -> Config:
        """The configuration that was applied last."""
        return self._config

    def record(self, event: Event) -> None:
        """Put an event on the ledger. What the ledger can't take is the store's trouble, which its health tells."""
        self._store.record(event).add_done_callback(lambda future: future.exception())
        self.control.hear(event)
        self.maintenance.machines.hear(event)

    async def _declare(self, specs: Sequence[SignalSpec]) -> Sequence[Signal]:
        """Numbers for what a wire turned out to bring. Raises ``StoreError``."""
        signals = await asyncio.to_thread(self._store.assign, specs)
        for item in signals:
            if item.device in self._rules:  # else its device was taken out of the configuration meanwhile
                self._gate.configure(item, self._rules[item.device])
                self._declared[item.id] = item
        self.overview.learn(self._found_out())
        if self._make_listeners is None:
            self._watch()
        return signals

    def _learn_posted(self, signals: Sequence[Signal]) -> None:
        """Clients post what was not known before."""
        self.overview.learn(self._found_out())
        names = {name for item in signals for name in (item.full_name, item.device)}
        if self._make_listeners is None and names.intersection(self._nobody):
            self._watch()

    def _found_out(self) -> list[Signal]:
        """The signals that the configuration does not name."""
        return [*self._declared.values(), *self.posted.signals()]

    def _rules_of(self) -> Collection[str]:
        """The devices that are read."""
        return self._rules.keys()

    async def _read_ready_made(self) -> None:
        """Those that travel with the program: half a second's work, for which no sample waits."""
        try:
            watched = Watched(await asyncio.to_thread(alarm_sets, self._path.parent))
        except ConfigError as error:
            logger.error("there are no ready-made alarms: %s", error)  # noqa: TRY400 - the text says it all
            watched = Watched()
        self._ready_made = None
        self._watched = self._watched or watched
        self._watch()

    async def run_control(self) -> None:
        """Act, as soon as it is known what alarms want: nothing may be switched on before that is forbidden."""
        await self._judging.wait()
        await self.control.run()

    async def close(self) -> None:
        """Write to no device any more, and end what is not supervised."""
        if self._ready_made is not None:
            self._ready_made.cancel()
            await asyncio.gather(self._ready_made, return_exceptions=True)
        await self.control.close()

    def _watch(self) -> None:
        """Judge the alarms and rules of the configuration over the signals that there are now."""
        if self._watched is None:
            return
        self._judging.set()
        signals = self.overview.signals()
        specs = self._watched.specs(self._config, signals)
        nobody = self.control.alarms.apply(specs, signals, ZoneInfo(self._config.site.timezone))
        if nobody != self._nobody:
            self._nobody = nobody
            if nobody:
                logger.info("alarms and rules name what nobody has until now: %s", ", ".join(nobody))

    async def _apply_control(self) -> None:
        """Act on the stations that there are now: chargers of the configuration, and those that people registered."""
        config, site = self._config, self._config.site
        stations = targets(config, self._listeners.values())
        chargers = [one.id for one in stations]
        stations += [one for one in self.registered.targets() if one.id not in chargers]
        schedules, load = schedule_specs(config.schedules), load_settings(config)
        await self.control.apply(stations, schedules, site.timezone, load, site.power_return_s)
        with contextlib.suppress(StoreError):  # its health tells; they get their numbers another time
            await self.registered.number(chargers)

    async def _stations_changed(self) -> None:
        async with self._changing:
            await self._apply_control()

    async def apply(self, config: Config, devices: _Devices) -> None:
        """Make the running parts those of this configuration. Raises ``StoreError`` before anything is changed."""
        async with self._changing:
            await self._apply(config, devices)

    async def _apply(self, config: Config, devices: _Devices) -> None:
        signals = await asyncio.to_thread(self._store.assign, devices.plans.specs)
        learnt = _learnt(self._store, devices.prepared, signals)
        if (config.data_dir, config.store) != (self._config.data_dir, self._config.store):
            logger.warning("changes of data_dir and store: take effect at the next start")
        if config.log != self._config.log:
            logging.getLogger().setLevel(config.log.level.upper())
        self._config = config
        for one in devices.prepared:
            if one.findings:
                logger.warning(
                    "%s: %d findings in its DBC files, see enlace check", one.configured.id, len(one.findings)
                )
        await self._apply_wires(devices, signals, learnt)
        self.overview.show(config, devices.prepared, signals, self._found_out())
        self.insight.configure(insight_settings(config))
        if self._make_listeners is None:
            self.notifier.apply(
                channels(config, self._path.parent), config.site.name or config.site.id, config.site.timezone
            )
            await self._apply_control()
            self._apply_backend(config)
            self._watched = devices.watched or self._watched
            self._watch()
            if self._watched is None and self._ready_made is None:
                self._ready_made = asyncio.create_task(self._read_ready_made(), name="ready-made alarms")
            await self._apply_part("api", config.api, self._api(config))
            await self._apply_part("event backend", config.event_backend, self._run_backend)
        site = config.site.id
        await self._apply_part("uplink", config.uplink and (config.uplink, site), self._uplink(config))

    async def _apply_wires(self, devices: _Devices, signals: Sequence[Signal], learnt: Sequence[Signal]) -> None:
        ids = {(item.device, item.name): item.id for item in signals}
        if self._make_listeners is not None:
            listeners = self._make_listeners(devices.plans.can, ids, self._store)
            wanted: dict[str, tuple[Listener, object]] = {one.name: (one, object()) for one in listeners}
        else:
            wanted = {one.name: (one, wire) for one, wire in devices.plans.wires(ids, self._clock)}
            for one, _ in wanted.values():
                if isinstance(one, CanListener) and one.name not in self._wires:
                    for text in one.left_out:
                        logger.warning("%s: not read: %s", one.name, text)
            wanted.update(await self._central.wires(devices.plans.ocpp))
            base = self._path.parent
            ports = self._clock, self._store, self.overview, self.supervisor, self.notifier
            watch = self_watch(self._config, base, *ports)
            watched = self._config.uplink is None, not self._config.notify, certificates(self._config, base)
            wanted[watch.name] = watch, watched
        await self._drop_wires(wanted)
        self._rules = {one.configured.id: self._rule(one.configured.report) for one in devices.prepared}
        self._rules[OWN_DEVICE] = self._rule(Report())
        declared = [*self._declared.values(), *learnt]
        self._declared = {item.id: item for item in declared if item.device in self._rules}
        for item in (*signals, *self._declared.values()):
            self._gate.configure(item, self._rules[item.device])
        await self._central.apply(devices.plans.ocpp, ids)
        self._add_wires(wanted, [*signals, *learnt])

    async def _drop_wires(self, wanted: Mapping[str, tuple[Listener, object]]) -> None:
        """End those that nobody wants any more, or wants otherwise."""
        for name, wire in list(self._wires.items()):
            if name not in wanted or wanted[name][1] != wire:
                await self.supervisor.remove(name)
                del self._wires[name], self._listeners[name]

    def _add_wires(self, wanted: Mapping[str, tuple[Listener, object]], signals: Sequence[Signal]) -> None:
        """Run the new ones. One that runs may have more devices than before."""
        for name, (listener, wire) in wanted.items():
            owned = set(listener.devices)
            mine = [item for item in signals if item.device in owned]
            if name in self._wires:
                self.supervisor.extend(name, mine)
            else:
                self.supervisor.add(listener, mine)
                self._wires[name], self._listeners[name] = wire, listener

    async def _apply_part(self, name: str, settings: object, run: Callable[[], Awaitable[None]]) -> None:
        """Run a part while it has settings, anew when they have changed."""
        if self._parts.get(name) == settings:
            return
        if self._parts.pop(name, None) is not None:
            await self.supervisor.remove(name)
        if settings is not None:
            self._parts[name] = settings
            self.supervisor.add_part(name, run)

    def _rule(self, report: Report) -> pipeline_gate.Report:
        if self._every or report.every:
            return pipeline_gate.Report(every=True)
        return pipeline_gate.Report(
            deadband=report.deadband, min_interval_s=report.min_interval_s, max_interval_s=report.max_interval_s
        )

    def _apply_backend(self, config: Config) -> None:
        """Another event backend, or none: what went on there is taken back, what goes on here is wished at once."""
        if self._parts.get("event backend") == config.event_backend:
            return
        if self._backend is not None:
            self._backend.end()
        section, ports = config.event_backend, (self._clock, self._store, self.record, self.control)
        self._backend = None if section is None else BackendEvents(section, self._path.parent, *ports)

    async def _run_backend(self) -> None:
        if self._backend is not None:
            await self._backend.client.run()

    def _event_interval_s(self) -> float:
        backend = self._config.event_backend
        return TICK_S if backend is None else backend.every_s

    def _api(self, config: Config) -> Callable[[], Awaitable[None]]:
        made: list[ApiServer] = []

        async def run() -> None:
            if not made:
                arguments = self.overview, self._clock, config, self._path.parent, self._ports()
                made.append(await asyncio.to_thread(_make_api, *arguments))
            await made[0].run()

        return run

    def _ports(self) -> SitePorts:
        """Through what the API acts."""
        return SitePorts(
            control=self.control,
            alarms=self.control.alarms,
            events=self.control.events,
            event_interval_s=self._event_interval_s,
            load=self.control.loads.status,
            notify=ToldChannels(self.notifier),
            ledger=self._store,
            feed=self._store,
            editor=SiteEditor(self._path),
            registered=self.registered,
            sessions=self._store,
            notebook=self._store,
            tag_hash=self._central.tag_hash,
            pending=self._central.pending,
            adopt=self._central.adopt,
            identity_of=self._central.identity_of,
            forget=self._central.forget,
            record=self.record,
            maintenance=self.maintenance,
            posted=self.posted,
            insight=self.insight,
            energy=Consumption(self._clock, self._store, self.posted, self.insight.changed),
        )

    def _uplink(self, config: Config) -> Callable[[], Awaitable[None]]:
        section = config.uplink
        made: list[Uplink] = []

        async def run() -> None:
            if not made and section is not None:
                uplink = await asyncio.to_thread(_import_uplink)
                settings = section.settings(config.site.id)
                # A replay acts on nothing: it takes no commands.
                orders = RemoteOrders(self.control, self._clock, self._judging)
                execute = orders.execute if self._make_listeners is None else None
                parts = settings, self._store, self._clock, self.record
                made.append(uplink(*parts, boot=self._store.boot, version=__version__, execute=execute))
            self.overview.uplink = made[0]
            await made[0].run()

        return run


def _learnt(store: Store, prepared: Sequence[Prepared], planned: Sequence[Signal]) -> list[Signal]:
    """What devices that are known only by what they say have said in former times: unknown until they say it again."""
    names = {(signal.device, signal.name) for signal in planned}
    told = {one.configured.id for one in prepared if isinstance(one.configured, OcppDevice)}
    said_by = {one.configured.id for one in prepared} - {signal.device for signal in planned} | told
    _, catalogue = store.catalog()
    found = [one for one in catalogue if one.device in said_by and (one.device, one.name) not in names]
    newest = {store.ids_of(*name)[-1] for name in {(signal.device, signal.name) for signal in found}}
    return [signal for signal in found if signal.id in newest]


def _settle() -> None:
    """All is loaded, and stays: the collector's looks through it held up everything for 65 ms each.

    What loading took for a while goes back to the system: 10 MB that the C library would keep (glibc has this call).
    """
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        asyncio.get_running_loop().run_in_executor(None, trim, 0)


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


def boot_id() -> str:
    """What the kernel calls this boot of the machine; empty where it does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _make_api(view: Overview, clock: Clock, config: Config, base: Path, ports: SitePorts) -> "ApiServer":
    from agent.api.server import ApiServer, Face  # noqa: PLC0415 - see the head of this file

    section, certificates = config.api, None
    if section.encrypted:
        from agent.api.tls import Certificates  # noqa: PLC0415 - the same

        files = section.cert_file, section.key_file
        own = (base / files[0], base / files[1]) if files[0] and files[1] else None
        certificates = Certificates(config.data_dir, clock, own)
    face = Face(certificates, section.security_contact or "")
    return ApiServer(view, clock, *split_address(section.listen), config.data_dir, ports, face=face)


def _import_uplink() -> "type[Uplink]":
    from cloud_sync.uplink import Uplink  # noqa: PLC0415 - the same

    return Uplink
