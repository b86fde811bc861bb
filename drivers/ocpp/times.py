"""What a charger's timestamps are worth: when something happened, and whether it is news.

Rules of this file:

1. In 1.6 nobody says whether a message waited in the charger's queue; in 2.x what is ``offline`` has. A timestamp up to
   a minute from its arrival is right, and then this charger's clock is: what is older has waited, and is taken by its
   own time (OCPP 1.6 edition 2, 3.7.1; 2.0.1 part 2, E04).
2. A charger that was never right on this connection either empties its queue, which it does at one stretch after it
   has connected, or has a clock that is wrong. From the first pause on it is the latter: its messages are news, and
   times that are far off are replaced by those of arrival.
3. Times from the future are never believed, but for some minutes. Ages are the only thing that wall time is used for
   here; pauses are monotonic.
"""

from dataclasses import dataclass

from agent.core.clock import Clock
from drivers.codec.ocpp_model import Stamp, TimeQuality

#: A timestamp that differs from its arrival by no more is right.
RIGHT_US = 60_000_000
#: Further off than this, and nothing was queued: the time of arrival is nearer to the truth.
SKEWED_US = 300_000_000
#: A charger that empties its queue sends the next message as soon as the one before was answered.
PAUSE_S = 3.0
#: And no queue takes longer than this: such a charger sends so often that there are no pauses.
EMPTYING_S = 900.0
_USABLE = frozenset({TimeQuality.GOOD, TimeQuality.NO_ZONE, TimeQuality.SKEWED})


@dataclass(frozen=True, slots=True)
class When:
    """A time that was judged: what to go by, how good the charger's own was, and whether it is news."""

    t_us: int
    quality: TimeQuality
    live: bool
    arrived_us: int
    text: str = ""  #: as the charger wrote it

    @property
    def told(self) -> bool:
        """Whether it is the charger's own time."""
        return self.quality in {TimeQuality.GOOD, TimeQuality.NO_ZONE}


class Times:
    """The timekeeping of one charger."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._right = False
        self._emptying = True
        self._answered_s: float | None = None
        self._since_s = clock.monotonic_s()

    def connected(self) -> None:
        """A connection begins: its queue comes first."""
        self._right, self._emptying, self._answered_s = False, True, None
        self._since_s = self._clock.monotonic_s()

    def arrived(self) -> None:
        """A message came."""
        now_s = self._clock.monotonic_s()
        if now_s - self._since_s > EMPTYING_S or (self._answered_s is not None and now_s - self._answered_s > PAUSE_S):
            self._emptying = False

    def answered(self) -> None:
        """It was answered."""
        self._answered_s = self._clock.monotonic_s()

    def judge(self, stamp: Stamp, *, queued: bool = False) -> When:
        """What a timestamp that came just now is worth. ``queued``: the charger says that its message has waited."""
        now_us = self._clock.now_us()
        if stamp.t_us is None or stamp.quality not in _USABLE:
            waited = self._emptying if stamp.quality is TimeQuality.MISSING else self._waited()
            return When(now_us, stamp.quality, not (queued or waited), now_us, stamp.text)
        age_us = now_us - stamp.t_us
        if abs(age_us) <= RIGHT_US:
            self._right = True
            return When(stamp.t_us, _told(stamp), True, now_us, stamp.text)
        if age_us > 0 and (queued or self._waited()):
            return When(stamp.t_us, _told(stamp), False, now_us, stamp.text)
        if abs(age_us) > SKEWED_US:
            return When(now_us, TimeQuality.SKEWED, True, now_us, stamp.text)
        return When(stamp.t_us, _told(stamp), True, now_us, stamp.text)

    def _waited(self) -> bool:
        return self._right or self._emptying


def _told(stamp: Stamp) -> TimeQuality:
    return TimeQuality.NO_ZONE if stamp.quality is TimeQuality.NO_ZONE else TimeQuality.GOOD
