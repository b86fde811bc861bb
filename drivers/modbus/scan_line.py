"""Finding the units on a serial line in Modbus RTU, and the line's speed. Only reads.

Rules of this file:

1. The first speed at which anybody answers is the line's: no other one is tried.
2. A unit that answers while the next one is asked was too slow: it is there, and is asked again with more patience.
   For the last one, which none follows, the line is heard once more.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from agent.core.errors import Unsupported
from drivers.line import Line
from drivers.modbus.scan import ALL_UNITS, Search, describe, probe
from drivers.modbus.scan_ask import Asker, Patience

BAUDS = (9600, 19200, 38400, 115_200, 2400)
PARITIES = ("N", "E", "O")
RTU_UNITS = (*range(1, 17), 247)
#: How much longer a unit is waited for that was too slow for the first question.
_SLOWER = 4


def speeds(bauds: Sequence[int] = BAUDS, parities: Sequence[str] = PARITIES) -> list[tuple[int, str]]:
    """(baud, parity) in the order in which they are tried: odd parity is rare, so it comes last."""
    return sorted(((baud, parity) for baud in bauds for parity in parities), key=lambda one: one[1] == "O")


@dataclass(frozen=True, slots=True)
class RtuPlan:
    """What is tried on a serial line. ``widen``: where a unit was found, all addresses are asked at its speed."""

    speeds: Sequence[tuple[int, str]]
    units: Sequence[int]
    widen: bool

    def left_s(self, patience: Patience, tried: int, units_tried: int = 0) -> float:
        """About how long the rest takes when nobody answers."""
        one_s = patience.timeout_s + patience.pause_s
        return ((len(self.speeds) - tried) * len(self.units) - units_tried) * one_s


async def scan_line(search: Search, line: Line, plan: RtuPlan) -> bool:
    """Look for units on an open serial line, or behind a serial server. Whether any was found.

    Raises what the line raises.
    """
    heard: list[str] = []
    for tried, (baud, parity) in enumerate(plan.speeds[:1] if line.fixed else plan.speeds):
        framing = f"8{parity}1"
        try:
            await line.set_line(baud, framing)
        except Unsupported:
            continue  # a speed that this adapter does not have
        line.drain()
        asker = Asker(line, search.patience, search.clock, baud)
        told = line.name if line.fixed else f"{line.name} {baud} {framing}"
        units = [unit async for unit in _answering(search, asker, told, plan, tried)]
        if units or asker.late:
            await _describe_all(search, asker, line, (baud, parity), plan, units)
            return True
        if asker.heard:
            heard.append(f"{baud} {framing}")
    if heard:
        search.watch.say(f"{line.name}: something came at {', '.join(heard)}, but no answer in Modbus RTU")
    return False


async def _answering(search: Search, asker: Asker, told: str, plan: RtuPlan, tried: int) -> AsyncIterator[int]:
    for index, unit in enumerate(plan.units):
        search.watch.step(
            f"{told}: asking for Modbus units", f"unit {unit}", plan.left_s(search.patience, tried, index)
        )
        if await probe(asker, unit, search.models) is not None:
            yield unit
    await asker.linger()


async def _describe_all(
    search: Search, asker: Asker, line: Line, speed: tuple[int, str], plan: RtuPlan, units: list[int]
) -> None:
    """Tell what the units are that answered at this speed, and who else is there."""
    baud, parity = speed
    url = (
        f"rtu+tcp://{line.name.partition('://')[2]}" if line.fixed else f"rtu://{line.name}?baud={baud}&parity={parity}"
    )
    slower = replace(search.patience, timeout_s=_SLOWER * search.patience.timeout_s)
    if asker.late:
        late, asker = asker.late, Asker(line, slower, search.clock, baud)
        units = sorted({*units, *(late & set(plan.units))})
    for unit in units:
        search.found(await describe(search, asker, unit, url))
    rest = [unit for unit in ALL_UNITS if unit not in plan.units] if plan.widen else []
    others = RtuPlan([speed], rest, widen=False)
    answered: set[int] = set()
    async for unit in _answering(search, asker, url, others, 0):
        answered.add(unit)
        search.found(await describe(search, asker, unit, url))
    if late := asker.late & set(rest) - answered:
        asker = Asker(line, slower, search.clock, baud)
        for unit in sorted(late):
            search.found(await describe(search, asker, unit, url))
