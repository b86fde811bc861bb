"""The uplink of a site as a part that runs.

Its libraries take half a second: they are loaded in a thread, when it runs.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__
from agent.config import OWN_DEVICE, Config
from agent.control.service import ControlService
from agent.core.clock import Clock
from agent.core.model import Event
from agent.overview import Overview
from agent.pipeline.hub import Hub
from agent.store.db import Store
from agent.store.outbox import TELEMETRY

if TYPE_CHECKING:
    from agent.command_gate import CommandGate
    from agent.remote import RemoteOrders
    from cloud_sync.settings import UplinkSettings
    from cloud_sync.sparkplug.node import SparkplugNode
    from cloud_sync.uplink import Parts, Uplink


@dataclass(frozen=True, slots=True)
class Uplinking:
    """What an uplink is made of. ``control``: who carries orders out once ``judging`` is set; None: nobody does."""

    clock: Clock
    store: Store
    hub: Hub
    overview: Overview
    record: Callable[[Event], None]
    judging: asyncio.Event
    control: ControlService | None

    def part(self, config: Config, base: Path) -> Callable[[], Awaitable[None]]:
        """What runs the uplink of this configuration, whose paths are relative to ``base``; it may run again."""
        section = config.uplink
        made: list[tuple[Uplink, CommandGate | None]] = []

        async def run() -> None:
            if not made and section is not None:
                # From here on readings wait to be sent, also those of a site that has never reached a broker: without
                # a cursor the quota and retention take all of them for not needed.
                self.store.ack(TELEMETRY, self.store.acked(TELEMETRY))
                made.append(await self._make(section.settings(config.site.id, base)))
            self.overview.uplink, self.overview.gate = one, gate = made[0]
            try:
                await one.run()
            finally:
                if gate is not None:
                    await gate.close()

        return run

    async def _make(self, settings: "UplinkSettings") -> "tuple[Uplink, CommandGate | None]":
        uplink, beside, remote = await asyncio.to_thread(_import_uplink)
        gate = await asyncio.to_thread(self._gate_of, settings) if settings.commanders else None
        execute = None if self.control is None else remote(self.control, self.clock, self.judging, gate).execute
        node = await asyncio.to_thread(self._node, settings) if settings.payload == "sparkplug" else None
        more = beside(latest=lambda: self.overview.latest(self.overview.signals()), notes=self.store, node=node)
        ports = settings, self.store, self.clock, self.record
        return uplink(*ports, boot=self.store.boot, version=__version__, execute=execute, parts=more), gate

    def _gate_of(self, settings: "UplinkSettings") -> "CommandGate":
        from agent.command_gate import CommandGate  # noqa: PLC0415 - its library is loaded by who needs it only

        return CommandGate(settings.site, settings.commanders, self.clock, self.record)

    def _node(self, settings: "UplinkSettings") -> "SparkplugNode":
        from cloud_sync.sparkplug.node import SparkplugNode  # noqa: PLC0415 - the same

        return SparkplugNode(settings, self.store, self.hub, self.clock, self.store, OWN_DEVICE)


def _import_uplink() -> "tuple[type[Uplink], type[Parts], type[RemoteOrders]]":
    from agent.remote import RemoteOrders  # noqa: PLC0415 - see the head of this file
    from cloud_sync.uplink import Parts, Uplink  # noqa: PLC0415 - the same

    return Uplink, Parts, RemoteOrders
