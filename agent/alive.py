"""Whether the gateway is really alive, and telling the service manager so.

Rules of this file:

1. The watchdog is fed only while everything that must live has shown so itself lately: control by its tick, the
   store's writer thread by going round when it is woken, each wire by its own loop, and the event loop because the
   feeding runs on it. Nothing is fed on the strength of a thread or a task that merely exists.
2. A device that does not answer, a wire that waits for its next try, a broker that is away and a full disk are no
   reason: whoever looks after them is at work.
3. What is stuck is named in the log and in the status first; ``GRACE_S`` later, if it has not come round, the service
   manager is asked to act. Both edges are logged.
4. After a pause of the whole process (a stopped machine, a debugger) everybody gets a turn before anybody is judged.
5. It is ready when the store is open, control acts and the API listens. Until then the start is extended: a site whose
   API finds its port taken is looked after all the same.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.core.clock import Clock
from agent.notify_systemd import ServiceManager

logger = logging.getLogger(__name__)

#: Who has shown nothing for so long is stuck. A restart follows within 45 s of the fault: 30 + 2 + 5, and the kill.
STUCK_S = 30.0
#: So long what is stuck stands in the log and the status before the service manager acts.
GRACE_S = 5.0
LOOK_S = 2.0
#: How often it is looked while it starts.
SOON_S = 0.1
#: The start: each word extends it by so much, at most so often, and in all for no longer than that.
EXTEND_S, EXTEND_EVERY_S, OPENING_S = 60.0, 10.0, 1800.0

#: A name, and how many seconds ago it showed that it lives; None: nothing is expected of it now.
Sign = tuple[str, float | None]


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is asked of the running gateway. All are cheap and called on the event loop."""

    signs: Callable[[], Sequence[Sign]]  #: of all that must live
    missing: Callable[[], str]  #: what it is not ready for yet, in words; empty when it is ready
    status: Callable[[], str]  #: how the site is, in one line


class Watchman:
    """Tells the service manager, until cancelled: ``opening`` while the store is opened, ``run`` from then on."""

    def __init__(self, manager: ServiceManager, clock: Clock) -> None:
        self._manager = manager
        self._clock = clock
        self._stuck: dict[str, float] = {}  #: since when
        self._fed_s = self._extended_s = -math.inf
        self._asked = False
        self._pause_s = LOOK_S if manager.watchdog_s is None else min(LOOK_S, manager.watchdog_s / 3)

    async def opening(self) -> None:
        """Extend the start: a migration or a recovery may take minutes."""
        until_s = self._clock.monotonic_s() + OPENING_S
        self._manager.status("opening the store")
        while self._clock.monotonic_s() < until_s:
            self._manager.extend(EXTEND_S)
            await self._clock.sleep_s(EXTEND_EVERY_S)

    async def run(self, vitals: Vitals) -> None:
        """Watch over the running gateway."""
        looked_s = self._clock.monotonic_s()
        while True:
            now_s = self._clock.monotonic_s()
            if now_s - looked_s <= 3 * self._pause_s:
                self._judge(vitals.signs(), now_s)
            looked_s = now_s
            self._tell(vitals, now_s)
            await self._clock.sleep_s(self._pause_s if self._manager.is_ready else SOON_S)

    def _judge(self, signs: Sequence[Sign], now_s: float) -> None:
        found = {name: age_s for name, age_s in signs if age_s is not None and age_s > STUCK_S}
        for name, age_s in found.items():
            if name not in self._stuck:
                self._stuck[name] = now_s
                logger.error("%s is stuck: it has shown nothing for %.0f s", name, age_s)
        for name in [name for name in self._stuck if name not in found]:
            del self._stuck[name]
            logger.info("%s is at work again", name)
        self._asked = self._asked and bool(self._stuck)

    def _tell(self, vitals: Vitals, now_s: float) -> None:
        if self._stuck:
            self._manager.status(f"stuck: {', '.join(self._stuck)}; about to be restarted")
            if not self._asked and now_s - min(self._stuck.values()) >= GRACE_S:
                self._asked = True
                self._manager.trigger()
            return
        watchdog_s = self._manager.watchdog_s
        if watchdog_s is not None and now_s - self._fed_s >= watchdog_s / 3:
            self._fed_s = now_s
            self._manager.feed()
        if not self._manager.is_ready:
            self._start(vitals.missing(), now_s)
        if self._manager.is_ready:
            self._manager.status(vitals.status())

    def _start(self, missing: str, now_s: float) -> None:
        if not missing:
            self._manager.ready()
            return
        self._manager.status(f"starting: {missing}")
        if now_s - self._extended_s >= EXTEND_EVERY_S:
            self._extended_s = now_s
            self._manager.extend(EXTEND_S)
