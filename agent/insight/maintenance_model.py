"""Maintenance as values: kinds of work, plans and when they are due, and the plans that come ready-made.

Rules of this file:

1. A plan is of one machine, or of all of a type. It is due by the first of its intervals: by date, or by what a counter
   of the machine has counted since the work was done last. Intervals are in the unit that the counter's name says.
2. An entry that names a plan counts for that plan alone; one that names none counts for all plans of its kind.
3. A ready-made plan can be changed or switched off, not deleted: to delete it takes back what was changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.core.model import Number
from agent.insight.machines import Machine

Kind = Literal["preventive", "corrective", "inspection", "calibration", "other"]
KINDS: tuple[Kind, ...] = ("preventive", "corrective", "inspection", "calibration", "other")
#: What is counted: days, or a counter of the machine. ``contactor``: sessions and switches together, for each of them
#: closes a charger's contactor.
Measure = Literal["days", "running_s", "energy_wh", "cycles", "switches", "sessions", "contactor"]
COUNTERS: tuple[Measure, ...] = ("running_s", "energy_wh", "cycles", "switches", "sessions", "contactor")
State = Literal["unknown", "ok", "due", "overdue"]
STATES: tuple[State, ...] = ("unknown", "ok", "due", "overdue")

NOTE = "maintenance_plan"
MAX_PLANS = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """Due when ``every`` is counted; ``warn`` before that it is told."""

    by: Measure
    every: Number
    warn: Number = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done again and again, with the machine of that code or (where it is empty) all of that type."""

    id: str
    name: str
    kind: Kind
    intervals: tuple[Interval, ...]
    machine: str = ""
    type: str = ""
    description: str = ""
    enabled: bool = True
    ready_made: bool = False
    changed_us: int = 0

    def concerns(self, machine: Machine) -> bool:
        """Whether it is about that machine now."""
        if not self.enabled or machine.status == "retired":
            return False
        return machine.code == self.machine if self.machine else machine.type == self.type


def _yearly(warn_days: int = 30, years: float = 1) -> Interval:
    return Interval("days", round(365 * years), warn_days)


#: IEC 60364-6 6.5 leaves most intervals to who answers for the site; these are usual where nothing else was agreed.
READY_MADE: Mapping[str, Plan] = {
    one.id: one
    for one in (
        Plan(
            "charger-visual",
            "Visual inspection",
            "inspection",
            (_yearly(),),
            type="charger",
            description="Housing, cable, plug and labels. IEC 60364-6 6.5 (periodic verification); most makers of "
            "charging stations ask for it once a year.",
            ready_made=True,
        ),
        Plan(
            "charger-rcd",
            "RCD test",
            "inspection",
            (_yearly(),),
            type="charger",
            description="Trip the residual current device by its button and with a tester. IEC 60364-6 6.5 and "
            "IEC 60364-7-722 (722.531); DGUV V3 table 1A asks for the button every six months.",
            ready_made=True,
        ),
        Plan(
            "charger-contactor",
            "Contactor",
            "preventive",
            (Interval("contactor", 100_000, 5000),),
            type="charger",
            description="Check or replace the contactor. IEC 60947-4-1 has the maker state its electrical durability; "
            "100,000 operations is usual for those of chargers. Counted: sessions, and times that we switched it on.",
            ready_made=True,
        ),
        Plan(
            "charger-insulation",
            "Electrical test",
            "inspection",
            (_yearly(60, 4),),
            type="charger",
            description="Insulation resistance, earth continuity, loop impedance. IEC 60364-6 6.5; DGUV V3 table 1A: "
            "four years for fixed installations.",
            ready_made=True,
        ),
        Plan(
            "battery-inspection",
            "Battery inspection",
            "inspection",
            (_yearly(),),
            type="battery",
            description="Connections, ventilation, insulation, capacity. IEC 62485-5 (safe operation of stationary "
            "lithium-ion batteries): as the maker says, usually once a year.",
            ready_made=True,
        ),
        Plan(
            "battery-cycles",
            "Battery capacity test",
            "inspection",
            (Interval("cycles", 1000, 100),),
            type="battery",
            description="Compare the capacity with what the warranty promises. IEC 62620 tests endurance by 500 "
            "cycles; makers of storage batteries commonly promise a capacity for thousands.",
            ready_made=True,
        ),
        Plan(
            "inverter-inspection",
            "Inverter and DC side",
            "inspection",
            (_yearly(),),
            type="inverter",
            description="Air filters, fans, connectors, isolators. IEC 62446-2 (maintenance of photovoltaic systems), "
            "usually once a year.",
            ready_made=True,
        ),
        Plan(
            "meter-seal",
            "Meter check",
            "calibration",
            (_yearly(180, 8),),
            type="meter",
            description="End of the verification period: 8 years for electronic electricity meters in Germany "
            "(MessEV annex 7); other countries differ, change it to what holds where the site is.",
            ready_made=True,
        ),
        Plan(
            "extinguisher",
            "Fire extinguisher",
            "inspection",
            (_yearly(30, 2),),
            type="fire extinguisher",
            description="ISO 11602-2 asks for a service once a year, DIN 14406-4 every two years.",
            ready_made=True,
        ),
        Plan(
            "transformer",
            "Transformer inspection",
            "inspection",
            (_yearly(30, 1),),
            type="transformer",
            description="Connections, temperature, oil or windings. IEC 60076 leaves the interval to the maker; a "
            "year is usual for visual inspections.",
            ready_made=True,
        ),
    )
}


def plan_data(plan: Plan) -> dict[str, object]:
    """A plan as a note."""
    return {
        "name": plan.name,
        "kind": plan.kind,
        "machine": plan.machine,
        "type": plan.type,
        "description": plan.description,
        "enabled": plan.enabled,
        "changed_us": plan.changed_us,
        "intervals": [{"by": one.by, "every": one.every, "warn": one.warn} for one in plan.intervals],
    }


def read_plan(key: str, data: Mapping[str, object]) -> Plan | None:
    """The plan of a note; None where it can't be read."""
    kind = next((one for one in KINDS if one == data.get("kind")), None)
    changed_us, listed = data.get("changed_us"), data.get("intervals")
    intervals = tuple(one for each in listed if (one := _interval(each))) if isinstance(listed, list) else ()
    if kind is None or not intervals:
        return None
    return Plan(
        key,
        str(data.get("name") or key),
        kind,
        intervals,
        str(data.get("machine") or ""),
        str(data.get("type") or ""),
        str(data.get("description") or ""),
        data.get("enabled") is not False,
        key in READY_MADE,
        changed_us if isinstance(changed_us, int) else 0,
    )


def _interval(data: object) -> Interval | None:
    if not isinstance(data, Mapping):
        return None
    by = next((one for one in ("days", *COUNTERS) if one == data.get("by")), None)
    every, warn = data.get("every"), data.get("warn", 0)
    if by is None or not isinstance(every, int | float) or not isinstance(warn, int | float) or every <= 0:
        return None
    return Interval(by, every, warn)
