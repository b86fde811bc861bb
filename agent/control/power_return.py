"""After a power cut not all stations start at once: each waits for a random time (trials C6).

The Electric Vehicles (Smart Charge Points) Regulations 2021 (SI 2021/1467), regulation 11, want a random delay of up to
600 s of each charge point, which its owner may override. Rules of this file:

1. The power came back when the machine was booted anew since the gateway's last run: the kernel's boot id is another
   one than the one that was noted. The first start ever is none.
2. Each station gets its time at once, counted from the start of this run: one in each of as many equal parts of
   ``spread_s`` as there are stations, drawn at random, in random order. So each waits for an evenly distributed time,
   and the site as a whole comes up evenly too.
3. A station is held off (origin grid) from when it is first seen not to draw until its time. One that draws by then is
   left alone. Where outlets can be switched each waits for itself, not their charger as a whole.
4. A person's "on" that comes after the start ends it for that station; one from before the power cut does not. So it is
   no matter of origins: ``manual`` never beats ``grid``, the delay is withdrawn.
5. What is left of it is noted in monotonic time, which the kernel counts from its boot: a gateway that is started again
   meanwhile goes on with it, and begins nothing anew.
6. No contactor was closed without power: holding it off is no switch that counts (C5), nor does what was on before
   lengthen the delay.
"""

import logging
from collections.abc import Mapping, Sequence
from random import Random, SystemRandom

from agent.control.keeping import Keeping
from agent.control.memory import Memory
from agent.control.model import Origin, Wish
from agent.control.stations import Stations
from agent.core.clock import Clock

logger = logging.getLogger(__name__)

KEY = "power-return"
NOTE = "power_return"
DEFAULT_SPREAD_S = 600.0

_SITE = "site"


def draw(stations: Sequence[str], spread_s: float, random: Random) -> dict[str, float]:
    """A delay in s from 0 to ``spread_s`` for each station. Pure but for ``random``."""
    shuffled = list(stations)
    random.shuffle(shuffled)
    part_s = spread_s / len(shuffled) if shuffled else 0.0
    return {name: (place + random.random()) * part_s for place, name in enumerate(shuffled)}


class PowerReturn:
    """Holds the stations of a site off after a power cut.

    ``begin`` it when the stations are applied for the first time, before anything is written; ``tick`` it each second
    before the stations are; ``close`` it at the end. ``boot`` is the kernel's boot id; empty: not known, nothing is
    ever held. ``random`` is for tests.
    """

    def __init__(
        self, clock: Clock, memory: Memory, stations: Stations, boot: str, random: Random | None = None
    ) -> None:
        self._clock = clock
        self._memory = memory
        self._stations = stations
        self._boot = boot
        self._random = random or SystemRandom()
        self._keeping = Keeping("power return", memory)
        self._until_s: dict[str, float] = {}  # by station: when its time comes, monotonic
        self._held: dict[str, Wish] = {}

    @property
    def waiting(self) -> Mapping[str, float]:
        """The stations whose time has not come, and that nobody ended: when it does, monotonic."""
        return dict(self._until_s)

    def begin(self, spread_s: float) -> None:
        """Draw the delays after a power cut, or go on with those that an earlier run of this boot has drawn."""
        self._stations.watch_wishes(self._wished)
        if not self._boot:
            return
        now_s = self._clock.monotonic_s()
        noted = self._memory.notebook.note(NOTE, _SITE)
        if noted is not None and noted.get("boot") == self._boot:
            kept = noted.get("until_s")
            times = kept.items() if isinstance(kept, Mapping) else ()
            until_s = {str(name): float(one) for name, one in times if isinstance(one, int | float)}
            # None is longer than it can have been drawn, whatever the note says.
            self._until_s = {name: one for name, one in until_s.items() if now_s < one <= now_s + spread_s}
            return
        if noted is not None and spread_s > 0:
            delays = draw(self._stations.startable(), spread_s, self._random)
            self._until_s = {name: now_s + delay_s for name, delay_s in delays.items()}
            logger.info("power is back: %d stations start within %g s, each at random", len(delays), spread_s)
        self._keep()

    def tick(self) -> None:
        """Hold off who is seen now, and let go whose time has come."""
        if not self._until_s:
            return
        now_s = self._clock.monotonic_s()
        over = [name for name, until_s in self._until_s.items() if until_s <= now_s]
        drawing = self._stations.drawing([name for name in self._until_s if name not in self._held])
        for name, draws in drawing.items():
            if draws:
                over.append(name)
            elif draws is False and name not in over:
                self._hold(name, now_s)
        if over:
            self._end(over)
        elif any(draws is False for draws in drawing.values()):
            self._derive()

    async def close(self) -> None:
        """End its work."""
        await self._keeping.close()

    def _hold(self, name: str, now_s: float) -> None:
        now_us = self._clock.now_us()
        until_us = now_us + round((self._until_s[name] - now_s) * 1e6)
        reason = "waits after a power return, so that not all start at once"
        self._stations.rest(name)
        self._held[name] = Wish(name, KEY, Origin.GRID, on=False, reason=reason, since_us=now_us, until_us=until_us)

    def _wished(self, wish: Wish) -> None:
        """Somebody wishes something, just now."""
        if wish.origin is Origin.MANUAL and wish.on:
            self._end([one for one in self._until_s if one == wish.station or one.startswith(f"{wish.station}.")])

    def _end(self, names: Sequence[str]) -> None:
        gone = [name for name in names if self._until_s.pop(name, None) is not None]
        if not gone:
            return
        for name in gone:
            self._held.pop(name, None)
        self._derive()
        self._keep()

    def _derive(self) -> None:
        self._stations.derive(KEY, list(self._held.values()))

    def _keep(self) -> None:
        self._keeping.put(NOTE, _SITE, {"boot": self._boot, "until_s": self._until_s})
