"""The values of control: commands, wishes, decisions, stations. Immutable; pure code works on these.

A *station* is a charger's outlet, or the whole charger: its id is the device's (``cp1``), or ``cp1.2`` for the second
outlet of a charger that has several.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Protocol

from agent.core.errors import Refusal
from agent.core.model import Number
from agent.core.ports import Action, Setting

DEFAULT_TTL_S = 60.0
MAX_TTL_S = 900.0


class Origin(IntEnum):
    """Who wants something, the strongest first: the lower number wins (trials C1)."""

    INTERLOCK = 0
    SAFETY = 1
    GRID = 2
    MANUAL = 3
    REMOTE = 4
    RULE = 5
    SCHEDULE = 6


class Outcome(StrEnum):
    """How a command ended; exactly one for each."""

    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Command:
    """One order. ``target`` is a station or device, ``action`` ``on off toggle limit release`` or one of its actions.

    ``args`` of ``on``, ``off``, ``toggle``: ``for_s`` (for how long; absent: until it is released), ``reason``; of
    ``limit`` also ``limit_a``; of ``release``: ``all`` (also what others of the same origin wish).
    ``id`` is the issuer's: the same id is never executed twice. ``issuer`` names who, for the audit (``user:ana``,
    ``schedule:night_off``), and whose wish it is. The time to live counts from when we received it.
    """

    id: str
    target: str
    action: str
    args: Mapping[str, object] = field(default_factory=dict)
    origin: Origin = Origin.MANUAL
    issuer: str = ""
    issued_us: int | None = None
    ttl_s: float = DEFAULT_TTL_S


@dataclass(frozen=True, slots=True)
class Result:
    """The one outcome of a command.

    ``data`` is what the device answered; of a wish ``on`` and ``limit_a`` (what is decided now) and ``in_force``
    (whether that is what was wished, and the device has it).
    """

    id: str
    outcome: Outcome
    reason: str = ""
    refusal: Refusal | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    t_us: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a station, until it is withdrawn or expires. None: no opinion about that.

    ``key`` names who (``user:ana``, ``schedule:night_off``): a new wish of the same key replaces the old one about the
    same; her limit leaves her "off" alone.
    """

    station: str
    key: str
    origin: Origin
    on: bool | None = None
    limit_a: Number | None = None
    reason: str = ""
    since_us: int = 0
    until_us: int | None = None
    #: The values that it was made of, by signal, for the journal.
    inputs: Mapping[str, Number | None] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about a station, from what, and what came of it. Newest decides."""

    station: str
    t_us: int
    on: bool | None
    limit_a: Number | None
    winner: Wish | None  #: whose wish about on/off (or the limit, where nobody switches) is done
    reason: str  #: one sentence for people
    wishes: Sequence[Wish] = ()
    result: str = ""  #: what the device said: ``done``, or why not
    inputs: Mapping[str, Number | None] = field(default_factory=dict)  #: the values it was made of, by signal
    follows: bool | None = None  #: whether the power followed; None: it can't be told (yet)
    drawn: str = ""  #: what it drew when that was seen, in words

    @property
    def outcome(self) -> str:
        """What came of it, for people: what the device said, and whether the power followed."""
        if self.follows is None:
            return self.result
        return f"{self.result}; {'it follows' if self.follows else 'but it does not follow'}: it draws {self.drawn}"


@dataclass(frozen=True, slots=True)
class Station:
    """A station as it is now."""

    id: str
    device: str
    outlet: int  #: 0: the whole charger
    name: str
    settings: Mapping[str, Setting]  #: by point, without the outlet's ``.N``
    actions: Mapping[str, Action]
    on: bool | None = None  #: what was decided last; None: nobody ever decided
    limit_a: Number | None = None
    following: bool | None = None  #: the power follows the decision; None: can't be told


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A schedule as it is now."""

    id: str
    cron: str | None
    every_s: float | None
    last_us: int | None  #: when it was last due and done
    next_us: int | None  #: None: held because the clock was never set, or never due
    running: bool
    results: Sequence[Result] = ()  #: of its last run by the clock in this process
    toggles: bool = False  #: it toggles a station, or all


class Control(Protocol):
    """What others (API, MQTT, schedules) may do with stations and devices."""

    def stations(self) -> Sequence[Station]:
        """All stations, in the order of the configuration."""

    def station(self, station_id: str) -> Station | None:
        """One of them."""

    def why(self, station_id: str, limit: int = 20) -> Sequence[Decision]:
        """The decisions behind its present state, newest first."""

    async def execute(self, command: Command) -> Result:
        """Do it, within its time to live; never raises. A repeated id gives the result of the first time."""

    def jobs(self) -> Sequence[JobInfo]:
        """The schedules that are not switched off, when they were and are due."""

    async def run_now(self, schedule_id: str) -> Sequence[Result] | None:
        """Do a schedule now, out of turn; what came of its commands. None: there is no such schedule."""
