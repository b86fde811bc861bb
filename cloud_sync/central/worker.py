"""One worker: one connection to the broker, one to the database, batches from the one to the other.

Rules of this file:

1. A batch is what came within ``LINGER_S``, and no more once nothing has come for ``QUIET_S``: a broker that sends few
   messages ahead of their acknowledgement must not be waited for.
2. While the database is away a batch is kept and tried again, and the broker sends no more than fits its window. When
   the connection to the broker ends, the batch is dropped: it comes again.
3. Telemetry and events come by shared subscriptions where the broker has them; state and catalogue, which are
   retained, by plain ones: each worker knows the catalogue before what needs it.
4. What arrives is taken out of the connection's inbox at once and held here, up to ``MAX_HELD_BYTES``: Mosquitto 2.0.11
   goes far beyond the receive maximum that it was told, and what finds the inbox full is not delivered a second time.
5. Acknowledgements to gateways are said ``SETTLE_EVERY_S`` after what they are about, for each stream at most.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from cloud_sync.central.database import Database
from cloud_sync.central.intake import Intake, Key, Stored
from cloud_sync.central.later import Later
from cloud_sync.central.ledger import Ledger
from cloud_sync.central.names import Names
from cloud_sync.central.parse import MAX_SEQ, RECORDS, RETAINED
from cloud_sync.central.settings import RECEIVE_MAXIMUM, CentralSettings
from cloud_sync.link import Link, MqttLink
from cloud_sync.mqtt import Message, Refused, Session

_log = logging.getLogger(__name__)

MAX_MESSAGES = 1000
MAX_BYTES = 8 << 20
MAX_HELD_BYTES = 128 << 20
HELD_LOOK_S = 0.05
LINGER_S = 0.1
QUIET_S = 0.01
SETTLE_EVERY_S = 1.0
UPKEEP_EVERY_S = 10.0
PRUNE_EVERY_S = 3600.0
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 15.0

_Result = TypeVar("_Result")


@dataclass(slots=True)
class Counts:
    """Since the start of this worker."""

    messages: int = 0
    batches: int = 0
    records: int = 0
    samples: int = 0
    repeated: int = 0
    refused: int = 0
    waiting: int = 0


class Worker:
    """Receives, stores, acknowledges. ``index`` tells the workers of one machine apart."""

    def __init__(
        self, settings: CentralSettings, clock: Clock, index: int = 0, link: Link[Session] | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._link: Link[Session] = link or MqttLink(settings.link(index), clock)
        names = Names()
        self._database = Database(settings.database, self._forget)
        self._names = names
        self._intake = Intake(self._database, names)
        self._later = Later(self._database, names)
        self._ledger = Ledger(self._database, settings.give_up_s)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="central")
        self._touched: dict[Key, tuple[int, int]] = {}
        self._next_settle_s = self._next_upkeep_s = self._next_prune_s = clock.monotonic_s()
        self._held_bytes = 0
        self._fault = ""
        self._refused = False
        self._plain = False
        self._introduced = 0  #: to how many databases (``Database.opened``) the broker was asked for the sites
        self.counts = Counts()

    async def run(self) -> None:
        """Work until cancelled. Raises ``ConfigError`` when the database is of another version."""
        try:
            await self._insist(self._begin)
            await self._link.run(self.serve)
        finally:
            # A call that is under way ends first: what it commits needs no acknowledgement to stay.
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._database.close))
            self._thread.shutdown(wait=False)

    async def serve(self, session: Session) -> None:
        """Take batches on one connection until it ends. Never returns by itself."""
        held: asyncio.Queue[Message] = asyncio.Queue(RECEIVE_MAXIMUM)
        self._held_bytes = 0
        reader = asyncio.ensure_future(self._hold(session, held))
        try:
            await self._subscribe(session)
            while True:
                if self._introduced != self._database.opened:
                    await self._hear_of_sites(session)
                await self._round(session, held)
                if reader.done():
                    reader.result()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _hold(self, session: Session, held: "asyncio.Queue[Message]") -> None:
        """Take what arrives. Raises ``Unavailable`` when something found no room."""
        dropped = self._link.stats.inbox_dropped
        while self._link.stats.inbox_dropped == dropped:
            while self._held_bytes > MAX_HELD_BYTES:
                await self._clock.sleep_s(HELD_LOOK_S)
            message = await session.next_message()
            self._held_bytes += len(message.payload)
            await held.put(message)
        raise Unavailable("receive", "the broker sent more than it was allowed to")

    async def _round(self, session: Session, held: "asyncio.Queue[Message]") -> None:
        batch = await self._collect(held)
        if batch:
            stored = await self._insist(partial(self._intake.store, [(one.topic, one.payload) for one in batch]))
            for message in batch:
                session.acknowledge(message)
            await self._note(len(batch), stored)
        await self._settle(session)
        await self._keep_up()

    # The broker's side.

    async def _hear_of_sites(self, session: Session) -> None:
        """Subscribe to states and catalogues.

        A database that may lack those that stand is told them now: they come by themselves only when they change.
        """
        opened = self._database.opened
        topics = (f"{self._settings.root}/+/{name}" for name in RETAINED)
        await session.subscribe(*topics, again=self._introduced != opened)
        self._introduced = opened

    async def _subscribe(self, session: Session) -> None:
        root = self._settings.root
        await self._hear_of_sites(session)
        topics = [f"{root}/+/{name}" for name in RECORDS]
        reason = "MQTT 3.1.1 has none" if session.protocol != "5" else ""
        if not reason:
            try:
                await session.subscribe(*(f"$share/{self._settings.group}/{topic}" for topic in topics))
            except Refused as error:
                reason = error.reason
        if reason:
            await session.subscribe(*topics)
            if not self._plain:
                _log.warning("no shared subscription, so each worker receives everything, and one does: %s", reason)
            self._plain = True

    async def _collect(self, held: "asyncio.Queue[Message]") -> list[Message]:
        """The next batch; empty when nothing came until something else was due."""
        batch, size = list[Message](), 0
        idle_s = max(min(self._next_settle_s, self._next_upkeep_s) - self._clock.monotonic_s(), 0.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(idle_s if self._touched else UPKEEP_EVERY_S):
                size += self._took(await held.get(), batch)
            async with asyncio.timeout(LINGER_S):
                while len(batch) < MAX_MESSAGES and size < MAX_BYTES:
                    if held.empty():
                        async with asyncio.timeout(QUIET_S):
                            size += self._took(await held.get(), batch)
                    else:
                        size += self._took(held.get_nowait(), batch)
        return batch

    def _took(self, message: Message, batch: list[Message]) -> int:
        self._held_bytes -= len(message.payload)
        batch.append(message)
        return weight(message.payload)

    async def _settle(self, session: Session) -> None:
        """Say to gateways up to where they are stored."""
        if not self._touched or self._clock.monotonic_s() < self._next_settle_s:
            return
        self._next_settle_s = self._clock.monotonic_s() + SETTLE_EVERY_S
        uptos = await self._insist(partial(self._ledger.settle, dict(self._touched)))
        for (site, stream), upto in uptos.items():
            payload = json.dumps({"stream": stream, "upto": upto}, separators=(",", ":")).encode()
            with contextlib.suppress(Refused):
                await session.publish(f"{self._settings.root}/{site}/ack", payload)
        # Not before: what a connection's end cut off is said on the next one.
        self._touched.clear()

    # The database's side.

    def _begin(self) -> None:
        self._touch(self._ledger.left_behind())

    def _touch(self, keys: list[Key]) -> None:
        for key in keys:
            self._touched.setdefault(key, (0, MAX_SEQ))

    async def _note(self, messages: int, stored: Stored) -> None:
        counts = self.counts
        counts.messages += messages
        counts.batches += 1
        counts.records += stored.records
        counts.samples += stored.samples
        counts.repeated += stored.repeated
        counts.refused += len(stored.refused)
        counts.waiting += stored.waiting
        for key, (base, seq) in stored.touched.items():
            known = self._touched.get(key, (base, seq))
            self._touched[key] = max(known[0], base), min(known[1], seq)
        if stored.refused and not self._refused:
            first = stored.refused[0]
            _log.warning("%s: refused, see enlace.refused; all such are only counted: %s", first.topic, first.reason)
            self._refused = True
        if stored.catalogs or stored.waiting:
            await self._convert(sorted(stored.catalogs))
        if stored.corrected:
            await self._insist(self._later.correct)

    async def _convert(self, sites: list[str]) -> None:
        more = bool(sites)
        while more:
            converted, more = await self._insist(partial(self._later.convert, sites))
            if converted:
                _log.info("%d messages had waited for their catalogue", converted)

    async def _keep_up(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_upkeep_s:
            self._next_upkeep_s = now_s + UPKEEP_EVERY_S
            await self._convert(await self._insist(self._later.sites_waiting))
            await self._insist(self._later.correct)
            self._touch(await self._insist(self._ledger.unsettled))
        if now_s >= self._next_prune_s:
            self._next_prune_s = now_s + PRUNE_EVERY_S
            await self._insist(self._ledger.prune)

    async def _insist(self, action: Callable[[], _Result]) -> _Result:
        """Do it in the database's thread, again and again until the database does it."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._thread, action)
            except Unavailable as error:
                if not self._fault:
                    _log.warning("waiting for the database: %s", error.reason)
                self._fault = error.reason
                await self._clock.sleep_s(backoff_s)
                backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            else:
                if self._fault:
                    _log.info("the database does its work again")
                self._fault = ""
                return result

    def _forget(self) -> None:
        self._names.forget()
        self._intake.forget()


def weight(payload: bytes) -> int:
    """What a message costs in memory, roughly: blocks and compressed JSON unpack to many times their size."""
    return len(payload) if payload[:1] == b"{" else 40 * len(payload)
