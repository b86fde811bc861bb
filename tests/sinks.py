"""A ``Sink`` for tests of drivers: it keeps all that it is given."""

from collections import Counter
from collections.abc import Sequence

from agent.core.model import Batch, Column, Event, Number, SignalSpec

#: The number of the first signal that a driver declares; those that a test numbers itself stand below.
FIRST_DECLARED = 1_000_000


class RecordingSink:
    """Keeps what a listener hands over."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, bool]] = []
        self.batches = 0
        self.touched: list[int] = []
        self.events: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.declared: list[SignalSpec] = []

    def put(self, batch: Batch) -> None:
        self.batches += 1
        for signal, t_us, word in zip(batch.ids, batch.times_us, batch.words, strict=True):
            self.rows.append((int(signal), int(t_us), int(word), batch.valid))

    def touch(self, ids: Column) -> None:
        self.touched += [int(signal) for signal in ids]

    def event(self, event: Event) -> None:
        self.events.append(event)

    def count(self, name: str, amount: int = 1) -> None:
        assert amount > 0
        self.counts[name] += amount

    def words(self, signal: int) -> list[int]:
        return [word for one, _, word, valid in self.rows if one == signal and valid]

    def unknown(self) -> list[int]:
        return sorted(signal for signal, _, _, valid in self.rows if not valid)

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        ids = []
        for spec in specs:
            if spec not in self.declared:
                self.declared.append(spec)
            ids.append(FIRST_DECLARED + self.declared.index(spec))
        return ids

    def values(self) -> dict[str, Number | None]:
        """The newest physical value of each declared signal, by full name; None when it is unknown."""
        newest: dict[str, Number | None] = {}
        for signal, _, word, valid in self.rows:
            if signal >= FIRST_DECLARED:
                spec = self.declared[signal - FIRST_DECLARED]
                newest[spec.full_name] = spec.physical(word) if valid else None
        return newest
