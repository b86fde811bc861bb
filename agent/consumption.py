"""Consumption that clients post (device, kWh, time) as a register: ``agent.insight.postings`` over the store.

The account of a device and the rows of its register are one commit: a crash leaves both or none. Postings of one device
wait for each other, those of several devices share commits.
"""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.api.view import PostedEnergy, Taken
from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Batch, Signal
from agent.insight.energy import POSTED
from agent.insight.postings import MAX_AHEAD_US, NOTE, Account, Posted, Verdict, account_of, post, spec
from agent.posted import PostedDevices
from agent.store.db import Store
from agent.store.rollup import MINUTE_US

NAME = spec("").name
_WORDS_PER_WH = 1000


@dataclass(slots=True)
class _Outcome:
    """What became of the postings of one device so far."""

    account: Account
    rows: list[tuple[int, int]] = field(default_factory=list)  #: (time, word) to store
    inserted: int = 0
    duplicates: int = 0
    late: int = 0
    conflicts: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)

    def take(self, place: int, posted: Posted) -> None:
        """One more."""
        self.account = posted.account
        self.rows += posted.rows
        if posted.verdict is Verdict.DUPLICATE:
            self.duplicates += 1
        elif posted.verdict in {Verdict.CONFLICT, Verdict.REFUSED}:
            self.conflicts += posted.verdict is Verdict.CONFLICT
            self.refused.append((place, posted.reason))
        else:
            self.inserted += 1
            self.late += posted.verdict is Verdict.LATE


class Consumption:
    """``agent.api.view.EnergyPosts``. ``changed`` is told of each device whose energy is another one now."""

    def __init__(self, clock: Clock, store: Store, posted: PostedDevices, changed: Callable[[str], None]) -> None:
        self._clock = clock
        self._store = store
        self._posted = posted
        self._changed = changed
        self._locks: dict[str, asyncio.Lock] = {}  # of devices that are posted: bounded as these are

    async def post(self, rows: Sequence[PostedEnergy]) -> Taken:
        """Count postings, each (device, time) once. Returns after the commit.

        Raises ``StoreError``: then some devices' postings may be stored and others not, and all can be sent again.
        """
        refused: list[tuple[int, str]] = []
        devices: dict[str, list[PostedEnergy]] = {}
        fresh: dict[str, None] = {}
        for row in rows:
            reason = self._refusal(row, len(fresh.keys() - {row.device}))
            if reason:
                refused.append((row.place, reason))
            else:
                devices.setdefault(row.device, []).append(row)
                if self._posted.signal(row.device, NAME) is None:
                    fresh[row.device] = None
        await self._posted.declare([spec(device) for device in fresh])
        done = await asyncio.gather(*(self._post(device, found) for device, found in devices.items()))
        return Taken(
            sum(one.inserted for one in done),
            sum(one.duplicates for one in done),
            sorted([*refused, *(each for one in done for each in one.refused)]),
            late=sum(one.late for one in done),
            conflicts=sum(one.conflicts for one in done),
        )

    def _refusal(self, row: PostedEnergy, fresh: int) -> str:
        """Why it can't be taken, as far as that is known before its register is numbered."""
        if row.t_us > self._clock.now_us() + MAX_AHEAD_US:
            return "its time is in the future"
        signal = self._posted.signal(row.device, NAME)
        if signal is not None and signal.source != POSTED:
            return f"{NAME} of this device is a reading that is posted to /api/telemetry"
        return self._posted.refusal(row.device, fresh)

    async def _post(self, device: str, rows: Sequence[PostedEnergy]) -> _Outcome:
        signal = self._posted.signal(device, NAME)
        if signal is None:
            raise StoreError(f"count the energy of {device}", "it has no register")
        async with self._locks.setdefault(device, asyncio.Lock()):
            try:
                account = account_of(self._store.note(NOTE, device))
            except ValueError as error:
                raise StoreError(f"count the energy of {device}", str(error)) from error
            outcome = await asyncio.to_thread(self._fold, signal, account, rows)
            if outcome.rows:
                times = array("q", (t_us for t_us, _ in outcome.rows))
                words = array("q", (word for _, word in outcome.rows))
                batch = Batch(array("i", [signal.id]) * len(times), times, words)
                await self._store.write(NOTE, device, outcome.account.data, (), batch)
                self._changed(device)
                await self._posted.show(batch)
        return outcome

    def _fold(self, signal: Signal, account: Account, rows: Sequence[PostedEnergy]) -> _Outcome:
        """Take them in by time. In a thread: it reads the store where they are older than the newest."""
        now_us = self._clock.now_us()
        from_us = max(self._store.raw_from_us(), self._store.raw_cut_us())
        outcome = _Outcome(account)
        counted: dict[int, int] = {}

        def stored(t_us: int) -> int | None:
            return counted[t_us] if t_us in counted else self._rise(signal, t_us)

        for row in sorted(rows, key=lambda row: row.t_us):
            found = post(outcome.account, row.kwh, row.t_us, now_us, stored, from_us)
            if found.verdict is Verdict.ACCEPTED:
                counted[row.t_us] = found.account.last
            outcome.take(row.place, found)
        return outcome

    def _rise(self, signal: Signal, t_us: int) -> int | None:
        """What the register rose by in the first row of that time; None when there is none."""
        minute_us = t_us // MINUTE_US * MINUTE_US
        first: int | None = None
        before = 0
        for row_us, _, value in self._store.rows([signal.id], minute_us, t_us + 1):
            word = round((value or 0) * _WORDS_PER_WH)
            if row_us < t_us:
                before = max(before, word)
            elif first is None:
                first = word
        if first is None:
            return None
        rolled = self._store.rolled([signal.id], "minute", [(minute_us, minute_us + MINUTE_US)], before=True)[signal.id]
        earlier: list[float] = rolled.hi[(rolled.t_us < minute_us) & (rolled.count > 0)].tolist()
        return first - max([before, *(round(wh * _WORDS_PER_WH) for wh in earlier)])
