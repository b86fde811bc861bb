"""The values of alarms and rules: what is watched, and how an alarm stands. Immutable; pure code works on these.

An *alarm* tells people that something is wrong and may switch or limit stations while it is; its states are those of
ISA-18.2 (ANSI/ISA-18.2-2016, 5.2). A *rule* only acts: nobody is told and nobody acknowledges. Both are one kind of
value here, ``RuleSpec``; a rule is one without a severity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from agent.control.model import Origin
from agent.control.when import Condition
from agent.core.model import Number

#: Shelving longer than this is switching off by forgetting (trials C9).
MAX_SHELVE_S = 86_400.0
#: In place of a station: all of them.
ALL = "*"


class Severity(StrEnum):
    """How bad it is, the mildest first."""

    INFO = "info"  #: worth a line; nobody needs to acknowledge it
    WARNING = "warning"  #: somebody should look at it
    CRITICAL = "critical"  #: somebody must act now


class AlarmState(StrEnum):
    """Where an alarm is in its life (ISA-18.2, figure 3, letters in brackets)."""

    NORMAL = "normal"  #: (A)
    UNACKNOWLEDGED = "unacknowledged"  #: active, nobody has acknowledged it (B)
    ACKNOWLEDGED = "acknowledged"  #: active, somebody has (C)
    RETURNED = "returned"  #: over, nobody has acknowledged it (D)
    LATCHED = "latched"  #: over, and it goes on acting until somebody acknowledges it (E)
    SHELVED = "shelved"  #: silenced by a person for a limited time (G)
    SUPPRESSED = "suppressed"  #: silenced while another alarm that explains it is active (H)


@dataclass(frozen=True, slots=True)
class RuleAct:
    """What is done with a station (or with all, ``*``) while a rule is active; ``do`` once, when it becomes so."""

    station: str
    on: bool | None = None
    limit_a: Number | None = None
    do: str = ""
    args: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One alarm or rule as configured. Times in s.

    It becomes active when ``when`` was true for ``for_s`` without a break, and is over when ``clear`` (None: the
    contrary of ``when``) was true for ``clear_for_s``. With ``latch`` it also waits for an acknowledgement. Its acts go
    on for ``hold_s`` more. ``unknown`` says what a condition counts as whose signals are not known: as it was
    (``hold``), as true (``raise``) or as over (``clear``); and what is not known is a break of both delays.

    ``hold_s`` counts from when its condition was over, also where a latched one is acknowledged later. A latched one
    needs an acknowledgement whatever its severity, else it would act for ever.
    """

    id: str
    when: Condition
    clear: Condition | None = None
    for_s: float = 0
    clear_for_s: float = 10
    severity: Severity | None = Severity.WARNING  #: None: a rule
    latch: bool = False
    text: str = ""  #: what is wrong and what to do, for people
    acts: Sequence[RuleAct] = ()
    hold_s: float = 0
    origin: Origin = Origin.SAFETY  #: of its wishes
    unknown: Literal["hold", "raise", "clear"] = "hold"
    suppressed_by: Sequence[str] = ()  #: alarms that explain this one
    notify: Sequence[str] | None = None  #: channels that are told; None: each whose severity fits
    shadow: bool = False  #: it is judged and told, and does nothing
    device: str = ""  #: whom it is about

    @property
    def is_alarm(self) -> bool:
        """Whether people are told of it."""
        return self.severity is not None


@dataclass(frozen=True, slots=True)
class AlarmStatus:
    """An alarm or rule as it is now. Times are µs UTC; None: not, or not yet."""

    spec: RuleSpec
    state: AlarmState = AlarmState.NORMAL
    active: bool = False  #: its condition holds, delays considered
    acting: bool = False  #: its wishes stand: active, latched or within its hold time
    known: bool = True  #: its condition can be told now
    since_us: int | None = None  #: of this state
    raised_us: int | None = None
    cleared_us: int | None = None
    acknowledged_us: int | None = None
    acknowledged_by: str = ""
    shelved_until_us: int | None = None
    shelved_by: str = ""
    suppressed_by: str = ""  #: the active alarm that explains it
    hold_until_us: int | None = None  #: over, and acting until then
    why: str = ""  #: the condition with the values that made it true, in words
    inputs: Mapping[str, Number | None] = field(default_factory=dict)  #: those values, by signal
    raised_count: int = 0


class Alarms(Protocol):
    """What others (API, MQTT, console) may do with alarms. ``who`` is for the audit: ``user:ana``.

    The coroutines raise ``CommandRejected`` (``not_capable``: there is none of that name; ``out_of_range``) and
    ``StoreError``: nothing is changed then.
    """

    def alarms(self) -> Sequence[AlarmStatus]:
        """All alarms and rules, in the order of the configuration."""

    def alarm(self, alarm_id: str) -> AlarmStatus | None:
        """One of them."""

    async def acknowledge(self, alarm_id: str, who: str, note: str = "") -> AlarmStatus:
        """Somebody has seen it. Safe to call again."""

    async def acknowledge_all(self, who: str) -> Sequence[AlarmStatus]:
        """Somebody has seen all that there are; those that were not acknowledged before."""

    async def shelve(self, alarm_id: str, for_s: float, who: str, reason: str = "") -> AlarmStatus:
        """Tell nobody about it for so long (at most ``MAX_SHELVE_S``). What it does with stations goes on."""

    async def unshelve(self, alarm_id: str, who: str) -> AlarmStatus:
        """Tell people about it again."""
