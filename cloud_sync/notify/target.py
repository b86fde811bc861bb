"""One address: what it has not been told yet, and when it is told."""

from collections.abc import Sequence

from cloud_sync.notify.news import News, Waiting
from cloud_sync.notify.send import service

GATHER_S = 2.0
HURRY_S = 5.0
FIRST_RETRY_S = 5.0
MAX_RETRY_S = 300.0


class Target:
    """An address; an empty one keeps the news until there is one. ``heir_of`` is one that is gone: all that it was not
    told is told here.
    """  # noqa: D205 - one sentence

    def __init__(self, address: str, number: int, heir_of: "Target | None" = None) -> None:
        self.address = address
        self.number = number  #: of the file's addresses, from 1
        self.waiting = Waiting()
        self.error = ""  #: empty: the last try succeeded
        self.sent = 0
        self.failed = 0
        self.last_sent_us: int | None = None
        self._under_way: Sequence[News] = ()
        self._fresh: set[str] = set()  #: alarms of which news came since the last try
        self._last_try_s: float | None = None
        self._retry_s = 0.0  #: 0: the last try succeeded
        self._told_s: dict[str, float] = {}  #: when each critical alarm was told, while that keeps it from hurrying
        self._lost_told = 0
        self._on: set[str] = set()  #: alarms that it was told of, and not that they are over
        if heir_of is not None:
            self.error = heir_of.error
            for news in heir_of.untold():
                self.add(news, returns=True)

    @property
    def name(self) -> str:
        """What may be told of it."""
        return f"address {self.number} ({service(self.address)})"

    @property
    def owed(self) -> int:
        """How many news it was not told."""
        return len(self.untold())

    def untold(self) -> list[News]:
        """News that it was not told, the oldest first."""
        return [*self._under_way, *self.waiting.all()]

    @property
    def lost(self) -> int:
        """News that were dropped, and that it does not know of."""
        return self.waiting.dropped - self._lost_told

    @property
    def loud(self) -> bool:
        """Whether something waits on which somebody must act now."""
        return any(one.loud for one in self.waiting.all())

    def add(self, news: News, *, returns: bool) -> None:
        """Something to tell. ``returns``: also that an alarm is over, where it was told that it is not."""
        half_told = any(one.alarm == news.alarm for one in self._under_way)
        if news.hushed and not (half_told or news.alarm in self._on or news.alarm in self.waiting):
            return
        self.waiting.add(news, returns=returns or half_told)
        self._fresh.add(news.alarm)

    def due_s(self, every_s: float) -> float | None:
        """When it is told, on the monotonic clock; None: nothing waits, or a message is under way."""
        news = self.waiting.all()
        if not news or self._under_way:
            return None
        gathered_s = news[0].heard_s + GATHER_S
        last_s = self._last_try_s
        if last_s is None:
            return gathered_s
        wait_s = self._retry_s or every_s
        if any(one.loud and one.alarm in self._fresh and not self._flutters(one, every_s) for one in news):
            wait_s = min(wait_s, HURRY_S)
        return max(gathered_s, last_s + wait_s)

    def begin(self, now_s: float) -> Sequence[News]:
        """What is told now; nothing when all has become too old."""
        self._under_way = self.waiting.take(now_s)
        self._last_try_s = now_s
        self._fresh.clear()
        return self._under_way

    def end(self, *, sent: bool | None, now_s: float, every_s: float, returns: bool) -> None:
        """What ``begin`` gave was sent, or not; None: nobody knows, the try was broken off."""
        news, self._under_way = self._under_way, ()
        if not sent:
            self.waiting.give_back(news, now_s)
            if sent is False:
                self.failed += 1
                self._retry_s = min(self._retry_s * 2 or FIRST_RETRY_S, MAX_RETRY_S)
            return
        self.sent += 1
        self._retry_s, self._lost_told = 0.0, self.waiting.dropped
        self._told_s = {alarm: at_s for alarm, at_s in self._told_s.items() if now_s - at_s < every_s}
        self._on.difference_update(one.alarm for one in news if one.cleared_us is not None)
        self._on.update(one.alarm for one in news if one.cleared_us is None)
        self._told_s.update((one.alarm, now_s) for one in news if one.loud)
        if not returns:
            self.waiting.only_raised()

    def try_at_once(self) -> None:
        """It is known to work again."""
        self._retry_s, self._last_try_s = 0.0, None

    def _flutters(self, news: News, every_s: float) -> bool:
        told_s = self._told_s.get(news.alarm)
        return told_s is not None and news.heard_s - told_s < every_s
