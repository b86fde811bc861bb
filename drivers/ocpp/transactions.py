"""The sessions of one charger: what runs, what the store holds, and what each report changes.

Rules of this file:

1. The store is the truth; what is in memory is what was stored, but for registers that came late (``later``). One at
   a time reads and writes it, so that no state is stored behind a newer one. A write that was begun goes on when
   nobody waits for it any more: before anything else, its end is awaited, and the running sessions are read again.
2. While the store fails, reports wait and are tried again. They are never answered with an error of ours: the link
   ends first, and the charger repeats what was not answered.
3. Every report may come twice, late, or not at all. What comes twice changes nothing: it has the same key, or no
   register that is newer. What never came is made up for: a session that was only heard of while it ran is one
   (``begun: unseen``), as is one of which only the end was told (``unmatched``).
4. A session that we ended because nobody spoke of it any more (``ended_by: lost``) is corrected by what its charger
   says later; one that its charger ended (``ended_by: charger``) never opens again, whatever follows.
5. One outlet has one session. A new one ends those that began before it there.
6. A tag is in the session in the clear, in events as its hash.
7. Signed data are stored when they come first, and with the end: some chargers send kilobytes with each sample, and
   those in between prove nothing. The newest of a running session stay in memory.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.core.model import Event, Session
from agent.core.ports import Sessions
from drivers.codec.ocpp_model import Verdict
from drivers.ocpp.energy import MAINS_V, Rating, advance
from drivers.ocpp.id_tags import IdTags
from drivers.ocpp.readings import Taken
from drivers.ocpp.settings import ChargerSettings
from drivers.ocpp.times import When

T = TypeVar("T")
RETRY_S = 1.0
#: A report of a running session may wait for the group commit, up to a second, once in this time on the mean: a charger
#: has one report on its way at a time, and must not fall behind.
PACE_S = 5.0
#: So many may wait one after the other, those of a charger's outlets: each that does not costs pages of flash.
PATIENCE = 2
#: Registers that came in between are stored at most so often: each write costs pages of flash.
FLUSH_S = 10.0
#: Ended sessions that are remembered, for the values that some chargers send after the end.
MAX_ENDED = 20
MAX_STRANGE = 100
LOST = "Lost"


class Book:
    """The sessions of one charger.

    ``changed`` is told of each that was stored; ``refuses`` says whether none may begin at an outlet.
    """

    def __init__(
        self,
        settings: ChargerSettings,
        clock: Clock,
        sessions: Sessions,
        id_tags: IdTags,
        count: Callable[[str], None],
        changed: Callable[[Session], None],
        refuses: Callable[[int], bool],
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.sessions = sessions
        self.id_tags = id_tags
        self.rating = Rating(settings.phases * settings.max_a * MAINS_V)
        self.count = count
        self._changed = changed
        self._refuses = refuses
        self._running: dict[int, Session] = {}
        self._ended: dict[int, Session] = {}
        self._strange: dict[int, None] = {}  #: numbers that are none of ours
        self._dirty: set[int] = set()
        self._flushed_s: dict[int, float] = {}  #: of those that run
        self._waited_s: deque[float] = deque(maxlen=PATIENCE)
        self._signed: dict[int, Mapping[str, object]] = {}  #: the newest signed data of those that run (rule 7)
        self._writing: asyncio.Future[Any] | None = None  #: the last write
        self._loaded = False
        self._lock = asyncio.Lock()

    @property
    def device(self) -> str:
        """The charger's id."""
        return self.settings.device

    @property
    def dirty(self) -> bool:
        """Whether there is something that ``flush`` would store."""
        return bool(self._dirty)

    def running(self, outlet: int | None = None) -> list[Session]:
        """Those that run, the newest last; of one outlet or of all."""
        found = [one for one in self._running.values() if outlet is None or one.outlet == outlet]
        return sorted(found, key=lambda one: (one.start_us, one.id))

    def current(self, outlet: int) -> Session | None:
        """The one that runs at an outlet."""
        found = self.running(outlet)
        return found[-1] if found else None

    def outlet(self, told: int | None) -> int:
        """The outlet that a report is about: a charger with one needs not say which."""
        return told or (1 if self.settings.outlets == 1 else 0)

    async def durably(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do that, and again while the store fails (rule 2), one at a time."""
        async with self._lock:
            while True:
                try:
                    await self._load()
                    return await work()
                except StoreError:
                    self.count("store_retries")
                except asyncio.CancelledError:
                    self._loaded = False
                    raise
                await self.clock.sleep_s(RETRY_S)

    async def find(self, number: int) -> Session | None:
        """The session of that number, running or not. Raises ``StoreError``."""
        known = self._running.get(number) or self._ended.get(number)
        if known is not None or number <= 0 or number in self._strange:
            return known
        found = await self.sessions.find(self.device, id=number)
        if found is None:
            self._strange = _newest({**self._strange, number: None}, MAX_STRANGE)
        else:
            self._remember(found)
        return found

    async def named(self, remote_id: str) -> Session | None:
        """The newest session that the charger calls so. Raises ``StoreError``."""
        known = [one for one in self._running.values() if one.remote_id == remote_id]
        return known[-1] if known else await self.sessions.find(self.device, remote_id=remote_id)

    async def begin(
        self, session: Session, events: Sequence[Event] = (), *, live: bool = False
    ) -> tuple[Session, bool]:
        """Store a new one, or find the one with its key. Raises ``StoreError``.

        It ends those that began before it at its outlet; when it begins just now (``live``), all others there.
        """
        stored, new = await self._write(self.sessions.begin(session, events))
        self._remember(stored)
        await self._end_others(stored, every=live and new)
        return stored, new

    async def change(self, session: Session, events: Sequence[Event] = (), *, at_once: bool = True) -> None:
        """Store its new state. Raises ``StoreError``: then it is as it was.

        One whose outlet was not known before ends those that began before it there.
        """
        known = self._running.get(session.id)
        if not session.running:
            session = self._with_signed(session)
        work = self.sessions.change(session, events, at_once=at_once)
        await (self._write(work) if at_once else work)  # the next register makes up for one that nobody waited for
        self._dirty.discard(session.id)
        self._remember(session)
        if known is not None and known.outlet != session.outlet:
            await self._end_others(session)

    def later(self, session: Session) -> None:
        """Its new state is stored by the next ``flush``."""
        self._remember(session)
        self._dirty.add(session.id)

    def patient(self) -> bool:
        """Whether its charger can wait for the group commit now; then it does."""
        now_s = self.clock.monotonic_s()
        if len(self._waited_s) == PATIENCE and now_s - self._waited_s[0] < PATIENCE * PACE_S:
            return False
        self._waited_s.append(now_s)
        return True

    async def flush(self, *, every: bool = False) -> None:
        """Store what waits, each session at most once in ``FLUSH_S`` unless ``every``. What fails waits on."""
        now_s = self.clock.monotonic_s()
        self._flushed_s = {number: at_s for number, at_s in self._flushed_s.items() if number in self._running}
        for number in list(self._dirty):
            if not every and now_s - self._flushed_s.get(number, -FLUSH_S) < FLUSH_S:
                continue
            self._flushed_s[number] = now_s
            async with self._lock:
                try:
                    await self._load()
                    session = self._running.get(number) or self._ended.get(number)
                    if number in self._dirty and session is not None:  # as it is now: it may have ended meanwhile
                        # At once: a report that has to wait for the lock must not wait for a group commit too.
                        await self._write(self.sessions.change(session))
                    self._dirty.discard(number)
                except StoreError:
                    self.count("store_retries")

    async def leave(self) -> None:
        """Store what waits; its tags are in use no more as far as we know. Its sessions are read again when needed."""
        for one in self.running():
            self.id_tags.ended(one.id_tag, self.device, one.id)
            if one.id in self._signed:
                self._running[one.id] = self._with_signed(one)
                self._dirty.add(one.id)
        await self.flush(every=True)
        self._loaded = False

    async def lose(self, session: Session) -> None:
        """End one of which nobody speaks any more, as it was last known."""
        await self.durably(lambda: self._lose(session.id))

    async def lose_all(self) -> None:
        """End all that run, as they were last known."""
        await self.load()
        for one in self.running():
            await self.lose(one)

    async def load(self) -> None:
        """Know the sessions that ran when the gateway last stopped."""
        await self.durably(_nothing)

    def read(self, session: Session, samples: Sequence[Taken]) -> Session:
        """The session after these samples; the same object when they say nothing new."""
        for sample in samples:
            register = sample.register
            if register is not None:
                session = advance(session, register, self.rating)
            if sample.signed:
                session = self._sealed(session, sample)
        return session

    def event(self, kind: str, session: Session, data: Mapping[str, object] | None = None) -> Event:
        """An event about a session; its number is added where it has one."""
        said: dict[str, object] = {"session": session.id} if session.id else {}
        said |= {"outlet": session.outlet, "id_tag": self.id_tags.tag_hash(session.id_tag), **(data or {})}
        return Event(kind, self.clock.now_us(), self.device, said)

    async def verdict(self, tag: str, outlet: int, session: Session | None = None, kind: str = "") -> Verdict:
        """Whether that tag may charge at an outlet, in a session that runs or in a new one."""
        besides = [0, *(one.id for one in self.running(outlet))]
        if session is not None:
            besides.append(session.id)
        verdict = await self.id_tags.verdict(tag, device=self.device, besides=besides, kind=kind)
        refused = verdict is Verdict.ACCEPTED and self._refuses(outlet)
        return Verdict.BLOCKED if refused else verdict

    def judged(self, session: Session, verdict: Verdict, asked_by: str) -> Event:
        """The audit of a verdict about a session."""
        kind = "auth.accepted" if verdict is Verdict.ACCEPTED else "auth.refused"
        return self.event(kind, session, {"verdict": str(verdict), "asked_by": asked_by})

    def ended(self, session: Session, kind: str = "session.ended") -> Event:
        """The event of its end."""
        stop_us = session.stop_us if session.stop_us is not None else session.start_us
        said: dict[str, object] = {
            "energy_wh": session.energy_wh,
            "start_wh": session.start_wh,
            "last_wh": session.last_wh,
            "duration_s": max(stop_us - session.start_us, 0) // 1_000_000,
            "reason": session.reason,
        }
        said |= {name: session.data[name] for name in ("unmatched", "breaks_total") if name in session.data}
        return self.event(kind, session, said)

    def began(self, session: Session) -> Event:
        """The event of its start."""
        said: dict[str, object] = {"start_us": session.start_us, "start_wh": session.start_wh}
        said |= {name: session.data[name] for name in ("begun", "verdict") if name in session.data}
        return self.event("session.started", session, said)

    async def _write(self, work: Coroutine[object, object, T]) -> T:
        """Let the store finish, also when who waits for it is cancelled (rule 1). Raises ``StoreError``."""
        self._writing = writing = asyncio.ensure_future(work)
        return await asyncio.shield(writing)

    async def _load(self) -> None:
        if self._loaded:
            return
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self.id_tags.ready()
        stored = {one.id: one for one in await self.sessions.running(self.device)}
        gone = [one for number, one in self._running.items() if number not in stored]
        ended = [await self.sessions.find(self.device, id=one.id) or one for one in gone]
        mine, self._running = self._running, {}
        for one in gone:
            self._signed.pop(one.id, None)
            self.id_tags.ended(one.id_tag, self.device, one.id)
        for one in ended:
            if not one.running:
                self._remember(one)
        for one in stored.values():
            kept = mine.get(one.id)  # it may hold registers that are still to be flushed
            newer = kept is not None and (kept.last_us or 0) > (one.last_us or 0)
            self._remember(kept if kept is not None and newer else one)
        self._loaded = True

    async def _end_others(self, session: Session, *, every: bool = False) -> None:
        """End those that run at its outlet, where it runs: all, or those that began before it (rule 5)."""
        for one in self.running(session.outlet) if session.running else ():
            if one.id != session.id and (one.start_us <= session.start_us or every):
                await self._lose(one.id)

    async def _lose(self, number: int) -> None:
        session = self._running.get(number)
        if session is not None:
            lost = _lost(session)
            await self.change(lost, [self.ended(lost)])

    def _sealed(self, session: Session, sample: Taken) -> Session:
        """The session after a sample with signed data: the same object when these only stay in memory (rule 7)."""
        before = self._signed.get(session.id, session.data.get("signed")) if session.id else session.data.get("signed")
        signed = _signed(before, sample)
        if session.running and session.id:
            self._signed[session.id] = signed
            known = session.data.get("signed")
            if isinstance(known, Mapping) and signed.keys() == known.keys():
                return session
        return session if signed == before else replace(session, data={**session.data, "signed": signed})

    def _with_signed(self, session: Session) -> Session:
        signed = self._signed.get(session.id)
        return session if signed is None else replace(session, data={**session.data, "signed": signed})

    def _remember(self, session: Session) -> None:
        if session.running:
            self._ended.pop(session.id, None)
            self._running[session.id] = session
            self.id_tags.begun(session.id_tag, self.device, session.id)
        else:
            self._running.pop(session.id, None)
            self._signed.pop(session.id, None)
            self._ended = _newest({**self._ended, session.id: session}, MAX_ENDED)
            self.id_tags.ended(session.id_tag, self.device, session.id)
        self._changed(session)


def timed(when: When, name: str = "") -> dict[str, object]:
    """What a session's data say of a time that is not simply right: ``name`` is empty for its start."""
    said: dict[str, object] = {}
    if not when.told:
        said = {f"{name}time_quality": str(when.quality), f"{name}told": clean(when.text)}
    elif not when.live:
        said = {f"{name}arrived_us": when.arrived_us}
    return said


def clean(text: str, limit: int = 255) -> str:
    """A text of a charger that any store takes: without lone surrogates, and without what pads it."""
    return text.encode(errors="replace").decode().strip("\0 \t\r\n")[:limit]


def closed(session: Session, stop_us: int, reason: str, data: Mapping[str, object]) -> Session:
    """The session as its charger ended it."""
    return replace(
        session,
        stop_us=max(stop_us, session.start_us),
        reason=reason,
        data={**session.data, **data, "ended_by": "charger"},
    )


def ended_by_charger(session: Session) -> bool:
    """Whether its charger has ended it (rule 4)."""
    return not session.running and session.data.get("ended_by") == "charger"


def _lost(session: Session) -> Session:
    stop_us = max(session.start_us, session.last_us or 0)
    return replace(session, stop_us=stop_us, reason=LOST, data={**session.data, "ended_by": "lost"})


def _signed(kept: object, sample: Taken) -> dict[str, object]:
    """Signed data by measurand, the first and the last of each, byte for byte."""
    signed: dict[str, object] = dict(kept) if isinstance(kept, Mapping) else {}
    for reading in sample.signed:
        said = {"data": reading.text, "context": clean(reading.context), "t_us": sample.when.t_us}
        name = f"{clean(reading.measurand)} {clean(reading.phase)}".strip()
        before = signed.get(name)
        if not isinstance(before, Mapping):
            signed[name] = {"begin": said}
        elif sample.when.t_us > _t_us(before):
            signed[name] = {**before, "end": said}
    return signed


def _t_us(signed: Mapping[str, object]) -> int:
    """The time of the newest that is kept of a measurand's signed data."""
    last = signed.get("end", signed.get("begin"))
    t_us = last.get("t_us") if isinstance(last, Mapping) else None
    return t_us if isinstance(t_us, int) else 0


def _newest(known: dict[int, T], limit: int) -> dict[int, T]:
    return known if len(known) <= limit else dict(list(known.items())[-limit:])


async def _nothing() -> None:
    """Loading is all."""
