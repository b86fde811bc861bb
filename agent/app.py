"""The composition root: configuration -> parts -> supervise -> ordered stop. The only module that sees everything.

Start-up never depends on a device, a broker or a network: the store is opened, the wires start, and then the API and
the uplink, whose libraries are loaded late so that the first sample does not wait for them. The stop takes the opposite
way: wires, uplink and API end first, each bounded; what was read is committed last.
"""

import asyncio
import contextlib
import logging
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__
from agent.config import Config, Report, split_address
from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Event, Signal
from agent.core.ports import Listener
from agent.devices import Prepared, Preparer
from agent.overview import Overview
from agent.pipeline import gate as pipeline_gate
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub
from agent.pipeline.supervisor import Supervisor
from agent.store.db import Store
from agent.store.settings import DAY_S, StoreSettings
from drivers.can.plan import CanPlan, plan

if TYPE_CHECKING:
    from agent.api.server import ApiServer
    from cloud_sync.uplink import Uplink

logger = logging.getLogger(__name__)

DATABASE = "enlace.db"
CLOSE_S = 20.0
#: The share of the free disk that the database may take where no quota is configured.
DISK_SHARE = 0.8

#: Makes the wires of a site: from what is planned and the signals' numbers. Replay puts a log in their place.
MakeListeners = Callable[[CanPlan, Mapping[tuple[str, str], int], Store], Sequence[Listener]]


class Gateway:
    """One site's gateway. ``base`` is the folder from which relative paths of the configuration count."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        base: Path,
        make_listeners: MakeListeners | None = None,
        *,
        every: bool = False,
    ) -> None:
        self._config = config
        self._clock = clock
        self._base = base
        self._make_listeners = make_listeners
        self._every = every
        self.api: ApiServer | None = None
        self.overview: Overview | None = None

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT. Raises ``ConfigError`` and ``StoreError`` before anything is started."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with self.running():
            logger.info("site %s is up, version %s", self._config.site.id, __version__)
            await stop.wait()
            logger.info("stopping")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Supervisor]:
        """Everything started; stopped in order at the end."""
        prepared = Preparer(self._base).all(self._config.devices)
        can = plan(one.device for one in prepared)
        store = await asyncio.to_thread(self._open_store)
        try:
            signals = await asyncio.to_thread(store.assign, can.specs)
            async with self._supervised(prepared, can, store, signals) as supervisor:
                yield supervisor
        finally:
            await asyncio.to_thread(store.close, CLOSE_S)

    @contextlib.asynccontextmanager
    async def _supervised(
        self, prepared: Sequence[Prepared], can: CanPlan, store: Store, signals: Sequence[Signal]
    ) -> AsyncIterator[Supervisor]:
        hub, gate = Hub(self._clock), Gate()
        record = _recorder(store)
        supervisor = Supervisor(self._clock, Flow(self._clock, gate, hub, store.append), record)
        overview = self.overview = Overview(self._config, prepared, signals, store, hub, supervisor)
        for one in prepared:
            rule = self._rule(one.configured.report)
            for item in signals:
                if item.device == one.device.id:
                    gate.configure(item, rule)
        ids = {(item.device, item.name): item.id for item in signals}
        for listener in self._listeners(can, ids, store):
            supervisor.add(listener, [item for item in signals if item.device in set(listener.devices)])
        if self._make_listeners is None:
            supervisor.add_part("api", lambda: self._serve_api(overview))
        if self._config.uplink is not None:
            supervisor.add_part("uplink", lambda: self._serve_uplink(overview, store, record))
        supervisor.start()
        try:
            yield supervisor
        finally:
            hub.close()
            await supervisor.stop()

    def _open_store(self) -> Store:
        folder, section = self._config.data_dir, self._config.store
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
        store = Store.open(folder / DATABASE, self._clock, settings)
        if store.opened.moved_to is not None:
            moved_to, reason = store.opened.moved_to, store.opened.reason
            logger.warning(
                "the database could not be used (%s): it stands aside at %s, a new one begins", reason, moved_to
            )
        return store

    def _listeners(self, can: CanPlan, ids: Mapping[tuple[str, str], int], store: Store) -> Sequence[Listener]:
        if self._make_listeners is not None:
            return self._make_listeners(can, ids, store)
        return can.listeners(ids, self._clock)

    def _rule(self, report: Report) -> pipeline_gate.Report:
        if self._every or report.every:
            return pipeline_gate.Report(every=True)
        return pipeline_gate.Report(
            deadband=report.deadband, min_interval_s=report.min_interval_s, max_interval_s=report.max_interval_s
        )

    async def _serve_api(self, overview: Overview) -> None:
        if self.api is None:
            server = await asyncio.to_thread(_import_api)
            self.api = server(overview, self._clock, *split_address(self._config.api.listen))
        await self.api.run()

    async def _serve_uplink(self, overview: Overview, store: Store, record: Callable[[Event], None]) -> None:
        section = self._config.uplink
        assert section is not None  # noqa: S101 - the part is added only where there is one
        if overview.uplink is None:
            uplink = await asyncio.to_thread(_import_uplink)
            settings = section.settings(self._config.site.id)
            overview.uplink = uplink(settings, store, self._clock, record, boot=store.boot, version=__version__)
        await overview.uplink.run()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _recorder(store: Store) -> Callable[[Event], None]:
    """Puts events on the ledger. What the ledger can't take is the store's trouble, which its health tells."""
    return lambda event: store.record(event).add_done_callback(lambda future: future.exception())


def _import_api() -> "type[ApiServer]":
    from agent.api.server import ApiServer  # noqa: PLC0415 - see the head of this file

    return ApiServer


def _import_uplink() -> "type[Uplink]":
    from cloud_sync.uplink import Uplink  # noqa: PLC0415 - the same

    return Uplink
