"""The local central system as a wire: one port, all chargers behind it, each on its own.

A change of the configuration touches only the chargers that it is about (``apply``): the others' connections and
transactions go on; another time zone ends none of them (``in_zone``). Another port, security profile or certificate is
another wire.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.core.clock import Clock
from agent.core.model import Event
from agent.core.ports import Commandable, Notebook, Operable, Sessions, Sink
from drivers.codec.ocpp_model import Version
from drivers.ocpp.charger import Charger
from drivers.ocpp.gatekeeper import Gate
from drivers.ocpp.id_tags import IdTags
from drivers.ocpp.plan import OcppPlan
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import ChargerSettings

#: The port of another program may become free at any time, and chargers try again every minute or so.
MAX_RETRY_S = 10.0
#: The rest of the gateway starts first.
PREPARE_AFTER_S = 3.0


class OcppListener:
    """``Listener`` over all chargers of a plan. ``apply`` comes before ``run``, and again with each change."""

    #: That the port is open says nothing of a charger: each tells when it calls, and when it does no more.
    calls_in = True

    def __init__(self, plan: OcppPlan, clock: Clock, sessions: Sessions, notebook: Notebook, id_tags: IdTags) -> None:
        self._central = plan.central
        self._quirks = plan.quirks
        self._clock = clock
        self._sessions = sessions
        self._notebook = notebook
        self._id_tags = id_tags
        self._chargers: dict[str, Charger] = {}
        self._settings: dict[str, tuple[ChargerSettings, Mapping[str, int]]] = {}
        self._sink: Sink | None = None
        self._changed = asyncio.Event()
        self._server: OcppServer | None = None
        self.gate = Gate(plan.central, {}, notebook, clock, self._record)

    @property
    def name(self) -> str:
        """The wire, as people know it: the URL under which chargers call, without their ids."""
        return self._central.endpoint.name

    @property
    def devices(self) -> Sequence[str]:
        """The ids of the chargers."""
        return tuple(self._chargers)

    @property
    def max_retry_s(self) -> float:
        """The longest pause before the port is opened again."""
        return MAX_RETRY_S

    @property
    def shown_s(self) -> float:
        """When its loop last went round."""
        return 0.0 if self._server is None else self._server.shown_s

    @property
    def commandables(self) -> Mapping[str, Commandable]:
        """What of each charger can be set."""
        return {device: charger.limits for device, charger in self._chargers.items()}

    @property
    def operables(self) -> Mapping[str, Operable]:
        """What each charger can be told to do."""
        return self._chargers

    def device_of(self, identity: str) -> str:
        """The device that calls under this identity; empty for none."""
        found = (device for device, one in self._chargers.items() if one.settings.identity == identity)
        return next(found, "")

    def identity_of(self, device: str) -> str:
        """Under which identity a device calls; empty for none."""
        charger = self._chargers.get(device)
        return "" if charger is None else charger.settings.identity

    async def apply(self, chargers: Sequence[ChargerSettings], ids: Mapping[tuple[str, str], int]) -> None:
        """These are the chargers from now on; ``ids`` numbers the planned signals by device and name."""
        wanted = {
            one.device: (one, {name: number for (device, name), number in ids.items() if device == one.device})
            for one in chargers
        }
        gone = [device for device, known in self._settings.items() if wanted.get(device) != known]
        leaving = {device: self._chargers.pop(device) for device in gone}
        for device in gone:
            del self._settings[device]
        for device, (settings, numbers) in wanted.items():
            if device not in self._chargers:
                self._chargers[device] = self._make(settings, numbers)
                self._settings[device] = settings, numbers
        # The gate first: a charger that is closed comes back at once, and then finds its new self.
        self.gate.update({one.settings.identity: (one.settings, one) for one in self._chargers.values()})
        self._changed.set()
        ends = (one.close() if device in wanted else one.retire() for device, one in leaving.items())
        await asyncio.gather(*ends)

    def in_zone(self, timezone: str) -> None:
        """The site is in this time zone from now on."""
        self._central = replace(self._central, timezone=timezone)
        for charger in self._chargers.values():
            charger.in_zone(timezone)

    async def run(self, sink: Sink) -> None:
        """Serve until cancelled. Raises ``Unavailable`` when the port can't be opened."""
        self._sink = sink
        self._server = server = OcppServer(self._central, self.gate, self._clock, sink.count)
        for charger in self._chargers.values():
            charger.open(sink)
        preparing, serving = asyncio.create_task(self._prepare(server)), asyncio.create_task(server.run())
        try:
            await asyncio.wait({serving})
            serving.result()
        finally:
            self._sink = None
            # First what is not on disk yet: a charger that does not say goodbye may take all the time that we have.
            await asyncio.gather(*(charger.save() for charger in self._chargers.values()))
            for task in (preparing, serving):
                task.cancel()
            await asyncio.gather(preparing, serving, return_exceptions=True)
            await asyncio.gather(*(charger.close() for charger in self._chargers.values()))

    async def _prepare(self, server: OcppServer) -> None:
        """Of the versions that the configured chargers may speak: none where there are no chargers."""
        await server.opened()
        await self._clock.sleep_s(PREPARE_AFTER_S)
        while True:
            self._changed.clear()
            spoken = {one.settings.version for one in self._chargers.values()}
            for version in Version:
                if version in spoken or (None in spoken and version is not Version.V21):
                    await server.prepare(version)
            await self._changed.wait()

    def _make(self, settings: ChargerSettings, ids: Mapping[str, int]) -> Charger:
        charger = Charger(
            settings,
            self._central,
            self._quirks,
            ids,
            self._clock,
            self._sessions,
            self._notebook,
            self._id_tags,
        )
        if self._sink is not None:
            charger.open(self._sink)
        return charger

    def _record(self, event: Event) -> None:
        if self._sink is not None:
            self._sink.event(event)
