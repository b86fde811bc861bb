"""What happened since the API's start, counted from the ledger: whatever way an event came, it stands there."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from agent.core.ports import StoredEvent

_BATCH = 1000
#: What one look counts at most: the rest is counted by the next.
MAX_A_LOOK = 20_000


class EventFeed(Protocol):
    """The ledger in order. Blocks; raises ``StoreError``."""

    def events(self, after_seq: int, max_events: int, kind_prefix: str = "") -> Sequence[StoredEvent]:
        """Committed events after that one, oldest first."""

    def newest(self, stream: str) -> int:
        """The number of the newest committed record of a stream."""


class Tally:
    """Counts by kind, decisions by station, commands by outcome. ``look`` blocks: one at a time, in a thread."""

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed
        self._seen = feed.newest("event")
        self.kinds: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()

    def look(self) -> None:
        """Count what is new. Raises ``StoreError``; what was counted by then stays counted, once."""
        for _ in range(0, MAX_A_LOOK, _BATCH):
            found = self._feed.events(self._seen, _BATCH)
            for stored in found:
                self._count(stored)
                self._seen = stored.seq
            if len(found) < _BATCH:
                return

    def _count(self, stored: StoredEvent) -> None:
        event = stored.event
        self.kinds[event.kind] += 1
        if event.kind == "station.decided":
            self.decisions[event.subject] += 1
        elif event.kind == "command.result":
            self.commands[str(event.data.get("outcome"))] += 1
