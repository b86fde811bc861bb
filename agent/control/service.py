"""Control as one part of the gateway: ``agent.control.model.Control``, and what the composition root runs."""

from collections.abc import Callable, Sequence
from typing import Self
from zoneinfo import ZoneInfo

from agent.control.alarms import AlarmBook
from agent.control.commands import Commands, Own
from agent.control.execution import Answer
from agent.control.load_model import LoadSettings
from agent.control.loads import LoadManager
from agent.control.memory import Memory
from agent.control.model import Command, Decision, JobInfo, Origin, Result, Station, Wish
from agent.control.power_return import PowerReturn
from agent.control.registered import REGISTRATION
from agent.control.schedule import Scheduler, ScheduleSpec, rights_of
from agent.control.stations import Stations, Surroundings, Target
from agent.control.timed_events import TimedEvents
from agent.core.clock import Clock
from agent.core.model import Event, Signal
from agent.core.ports import LatestView, Notebook

TICK_S = 1.0
#: Events that say that a device is there again.
_BACK = frozenset({"device.heard", "device.online"})


def _nobody(event: Event) -> None:
    """Told to nobody else."""


class ControlService:
    """Stations, commands, schedules, timed events, alarms, rules and load management of a site.

    ``record`` takes events, ``latest`` gives values as they are now, ``find(device, name)`` the signal of a device's
    point; ``tell`` is told of alarms at once; ``boot`` is the kernel's boot id. Tell it of the gateway's events by
    ``hear``, and of all samples through ``alarms.engine``; ``run`` it and ``events.run`` as parts; ``close`` it before
    the wires end.
    """

    def __init__(
        self,
        clock: Clock,
        notebook: Notebook,
        record: Callable[[Event], None],
        latest: LatestView,
        find: Callable[[str, str], Signal | None],
        tell: Callable[[Event], None] = _nobody,
        boot: str = "",
    ) -> None:
        self._clock = clock
        memory = Memory(notebook)
        self._stations = Stations(Surroundings(clock, memory, record, latest, find))
        self._commands = Commands(clock, memory, self._stations, record)
        self._scheduler = Scheduler(clock, memory, record, self._commands.execute, self._chargers)
        self.alarms = AlarmBook(clock, memory, record, self._stations, self._commands.execute, tell)
        self.events = TimedEvents(clock, memory, self._stations)
        self.loads = LoadManager(clock, latest, find, self._stations, record)
        self._power_return = PowerReturn(clock, memory, self._stations, boot)
        self._begun = False
        self.ticked_s: float | None = None  #: when ``run`` last went round, monotonic; None before it began

    async def apply(
        self,
        targets: Sequence[Target],
        schedules: Sequence[ScheduleSpec],
        timezone: str,
        load: LoadSettings | None = None,
        power_return_s: float = 0,
    ) -> None:
        """These are the stations and schedules now, and the load management (None: there is none).

        After a power cut each station waits for up to ``power_return_s``. Alarms and rules come after this, by
        ``alarms.apply``. Raises ``ConfigError`` for a bad crontab line, changing nothing.
        """
        zone = ZoneInfo(timezone)
        self._scheduler.apply(schedules, zone)
        await self._stations.apply(targets, zone)
        first = {(REGISTRATION, one.id, "on") for one in targets}
        await self._stations.retain(Origin.SCHEDULE, rights_of(schedules, self._chargers()) | first)
        self.loads.apply(load)
        if not self._begun:
            self._begun = True
            self._power_return.begin(power_return_s)

    async def run(self) -> None:
        """Watch expiries, holds, effects and schedules, until cancelled."""
        await self._commands.recover()
        while True:
            self.tick()
            self.ticked_s = self._clock.monotonic_s()
            await self._clock.sleep_s(TICK_S)

    def serve(self, name: str, own: Own) -> None:
        """Commands of the central server to that target are done by this from now on."""
        self._commands.serve(name, own)

    def tick(self) -> None:
        """What ``run`` does once a second."""
        self.alarms.tick()
        self._power_return.tick()
        self.loads.tick()
        self._stations.tick()
        self._scheduler.tick()

    async def close(self) -> None:
        """Take no more commands, write to no device any more."""
        await self._scheduler.close()
        await self.alarms.close()
        await self.events.close()
        await self._power_return.close()
        await self._commands.close()
        await self._stations.close()

    def hear(self, event: Event) -> None:
        """An event of the gateway: a device that is there again is told what is decided. Returns at once."""
        if event.kind in _BACK:
            self._stations.heard(event.subject)

    def derive(self, key: str, wishes: Sequence[Wish]) -> None:
        """Exactly these wishes stand from now on under this key; who derives them keeps what they come from."""
        self._stations.derive(key, wishes)

    def stations(self) -> Sequence[Station]:
        """All stations, in the order of the configuration."""
        return self._stations.snapshots()

    def station(self, station_id: str) -> Station | None:
        """One of them."""
        runner = self._stations.find(station_id)
        return None if runner is None else runner.snapshot()

    def why(self, station_id: str, limit: int = 20) -> Sequence[Decision]:
        """The decisions behind its present state, newest first."""
        return self._stations.why(station_id, limit)

    async def execute(self, command: Command, objection: Answer | None = None) -> Result:
        """Do it, within its time to live; never raises. A repeated id gives the result of the first time.

        With an ``objection`` it is not done but has that as its outcome, if it is new.
        """
        return await self._commands.execute(command, objection)

    def remembers(self, command_id: str) -> bool:
        """Whether the outcome of this id is certain: whenever it comes again, this is what is answered."""
        return self._commands.remembers(command_id)

    def jobs(self) -> Sequence[JobInfo]:
        """The schedules, when they were and are due."""
        return self._scheduler.jobs()

    async def run_now(self, schedule_id: str) -> Sequence[Result] | None:
        """Do a schedule now, out of turn; what came of its commands. None: there is no such schedule."""
        return await self._scheduler.run_now(schedule_id)

    def _chargers(self) -> list[str]:
        """Each charger as a whole."""
        return [one.id for one in self._stations.snapshots() if one.id == one.device]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
