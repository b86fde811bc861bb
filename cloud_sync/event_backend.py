"""A server that knows timed events: it is asked which are due to start and to finish, and told when they have.

Rules of this file:

1. What the server says has begun goes on here, until the server says that it is over or its ``end_date`` has come,
   whichever is first: what goes on ends also without a network.
2. That an event is about to be started or finished is on disk before the server is told, and what came of it is after.
   Where the answer was lost (network, kill, power), the next list tells: what it still holds is told again, what it
   does not hold was taken. So each is started once here, and finished once.
3. A server that fails in any way is asked again at its time. Both edges are told once. One event that it refuses or
   fails over holds up no other, nor one list the other; where nobody answers at all, a list is left for that time.
4. What is listed before its time is waited for, where the time has a zone and our clock is believed. All else is the
   server's to know.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import quote

from agent.core.clock import Clock, is_set
from agent.core.errors import StoreError
from agent.core.model import Event
from agent.core.ports import Notebook
from cloud_sync.backend_http import Asker, BackendError
from cloud_sync.backend_list import Data, EventList, end_us, moment_us, parse
from cloud_sync.settings import EventBackendSettings

logger = logging.getLogger(__name__)

NOTE = "backend_event"
SUBJECT = "event_backend"
#: So many of one list are done in one look, and so many are held here.
MAX_EVENTS = 1000

#: Two clocks that are set differ by less: what the server calls due is not put off to the next look for that.
_SKEW_US = 2_000_000
#: A question that was too slow ends by itself this much of ``timeout_s`` later; until then no other can be asked.
_LATER = 0.25

Told = Callable[[str, Data], None]


class _State(StrEnum):
    STARTING = "starting"  # the server is being told that it starts
    STARTED = "started"
    FINISHING = "finishing"


@dataclass(frozen=True, slots=True)
class _Held:
    """An event of the server's that began here, or is about to. ``acting``: it goes on here."""

    state: _State
    data: Data
    acting: bool = False


@dataclass(slots=True)
class _Counts:
    rounds: int = 0
    failed: int = 0
    started: int = 0
    finished: int = 0
    refused: int = 0
    bad_entries: int = 0


@dataclass(slots=True)
class _Memory:
    """What was told once already, the newest ``MAX_EVENTS`` of it."""

    told: dict[tuple[str, str], None] = field(default_factory=dict)

    def first(self, event_id: str, what: str) -> bool:
        """Whether that is new."""
        if (event_id, what) in self.told:
            return False
        self.told[event_id, what] = None
        if len(self.told) > MAX_EVENTS:
            del self.told[next(iter(self.told))]
        return True


class EventBackend:
    """The client. ``on_started`` and ``on_finished`` are given an event's id and data, once each, on the event loop.

    After a restart ``going_on`` holds what began before: whoever derives something from it derives it again.
    """

    def __init__(
        self,
        settings: EventBackendSettings,
        clock: Clock,
        notebook: Notebook,
        record: Callable[[Event], None],
        on_started: Told,
        on_finished: Told,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._notebook = notebook
        self._record = record
        self._on_started = on_started
        self._on_finished = on_finished
        self._held = _read(notebook)
        self._unkept: dict[str, list[Event]] = {}
        self._once = _Memory()
        #: What came to nothing the last time comes last the next, so that it can't keep the others from their turn.
        self._behind: dict[str, dict[str, None]] = {"start": {}, "finish": {}}
        self._early: dict[str, set[str]] = {"start_date": set(), "end_date": set()}  #: what is waited for
        self._counts = _Counts()
        self._asker = Asker(settings, clock)
        self.failing = ""  #: what it fails over now; empty: nothing

    @property
    def going_on(self) -> Mapping[str, Data]:
        """What began here and is not over, by id."""
        return {event_id: held.data for event_id, held in self._held.items() if held.acting}

    def counters(self) -> Mapping[str, int]:
        """For ``/metrics``."""
        counts = self._counts
        return {
            "rounds_total": counts.rounds,
            "failed_total": counts.failed,
            "started_total": counts.started,
            "finished_total": counts.finished,
            "refused_total": counts.refused,
            "bad_entries_total": counts.bad_entries,
            "going_on": len(self.going_on),
        }

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep_s(self._settings.every_s)

    async def look(self) -> None:
        """Ask once, and do what is due. A server that fails is told, not raised."""
        self._counts.rounds += 1
        await self._end_by_clock()
        failure = ""
        for step in (self._start, self._finish, self._keep_the_rest):
            began_s = self._clock.monotonic_s()
            try:
                await step()
            except (BackendError, StoreError) as error:
                failure = failure or str(error)
                if self._clock.monotonic_s() - began_s >= self._settings.timeout_s:
                    await self._clock.sleep_s(self._settings.timeout_s * _LATER)
        self._counts.failed += bool(failure)
        if failure and not self.failing:
            logger.warning("the event backend fails, it is asked again each time: %s", failure)
            self._tell("event_backend.failed", SUBJECT, {"reason": failure})
        elif self.failing and not failure:
            logger.info("the event backend answers again")
            self._tell("event_backend.back", SUBJECT, {})
        self.failing = failure

    async def _start(self) -> None:
        listed = await self._list("pending-start")
        due = self._due(listed, "start_date")
        for event_id, held in list(self._held.items()):
            if held.state is not _State.STARTING or event_id in due:
                continue
            if event_id in listed.events:
                await self._forget(event_id)  # it was put off over there, and may yet be called off
            elif listed.whole:
                await self._began(event_id, held)  # its answer was lost

        async def start(event_id: str) -> bool:
            held = self._held.get(event_id)
            if held is None:
                self._make_room()
                held = self._held[event_id] = _Held(_State.STARTING, due[event_id])
                await self._keep_or_forget(event_id)
            taken = await self._post(event_id, "start")
            if held.state is _State.STARTING and taken:
                await self._began(event_id, held)
            elif held.state is _State.STARTING:
                await self._forget(event_id)
            return taken

        await self._each("start", due, start)

    async def _finish(self) -> None:
        listed = await self._list("pending-finish")
        for event_id, held in list(self._held.items()):
            if held.state is _State.FINISHING and listed.whole and event_id not in listed.events:
                await self._over(event_id)

        async def finish(event_id: str) -> bool:
            known = self._held.get(event_id)
            if known is not None and known.state is _State.STARTING:
                with contextlib.suppress(StoreError):  # an end waits for no disk
                    await self._began(event_id, known)  # what is to be finished began: its answer was lost just now
                known = self._held[event_id]
            if known is not None and known.state is not _State.FINISHING:
                self._held[event_id] = replace(known, state=_State.FINISHING)
                await self._keep_later(event_id, [])
            taken = await self._post(event_id, "finish")
            if taken or known is not None:
                await self._over(event_id)  # also where it refuses: it says itself that the end has come
            return taken

        await self._each("finish", self._due(listed, "end_date"), finish)

    async def _keep_the_rest(self) -> None:
        """What the store did not take before. Raises ``StoreError``."""
        for event_id, events in list(self._unkept.items()):
            await self._keep(event_id, events)
            del self._unkept[event_id]

    def _due(self, listed: EventList, key: str) -> Mapping[str, Data]:
        """What is listed, without what is before its time by our clock."""
        if not is_set(self._clock):
            return listed.events
        until_us = self._clock.now_us() + _SKEW_US
        due = {one: data for one, data in listed.events.items() if (moment_us(data, key) or 0) <= until_us}
        early = listed.events.keys() - due.keys()
        if early - self._early[key]:
            # Should the clock here be wrong, this tells why nothing happens.
            logger.info("the event backend lists events before their %s, which is waited for: %d", key, len(early))
        self._early[key] = early
        return due

    async def _each(self, what: str, due: Mapping[str, Data], tell: Callable[[str], Awaitable[bool]]) -> None:
        """``tell`` of what is due, whatever becomes of one of them. Raises the first ``BackendError`` at the end."""
        behind = self._behind[what] = {one: None for one in self._behind[what] if one in due}
        order = [*(one for one in due if one not in behind), *behind]
        until_s = self._clock.monotonic_s() + self._settings.every_s
        failure: BackendError | None = None
        for event_id in order[:MAX_EVENTS]:
            began_s = self._clock.monotonic_s()
            behind.pop(event_id, None)
            behind[event_id] = None
            try:
                if await tell(event_id):
                    del behind[event_id]
            except BackendError as error:
                failure = failure or error
                if not error.unsure or error.__cause__ is not None:
                    break  # nobody is let in, or the network's own exception is behind it: the others fare the same
                if self._clock.monotonic_s() - began_s >= self._settings.timeout_s:
                    break  # no answer: the others may take as long each
            if self._clock.monotonic_s() > until_s:
                break  # a slow server: the other list is not kept waiting, the rest is listed again
        if failure is not None:
            raise failure

    async def _began(self, event_id: str, held: _Held) -> None:
        """The server took it. One whose end is over already is only told. Raises ``StoreError``: at the next look."""
        now_us = self._clock.now_us()
        ends_us = end_us(held.data)
        begun = replace(held, state=_State.STARTED, acting=ends_us is None or ends_us > now_us)
        event = Event("event_backend.started", now_us, event_id, {**held.data, "id": event_id, "acting": begun.acting})
        self._held[event_id] = begun
        try:
            await self._keep(event_id, [event])
        except StoreError:
            self._held[event_id] = held
            raise
        self._counts.started += 1
        if begun.acting:
            self._on_started(event_id, begun.data)

    async def _over(self, event_id: str) -> None:
        """The server has finished it."""
        held = self._held.pop(event_id, None)
        event = Event("event_backend.finished", self._clock.now_us(), event_id, {"id": event_id})
        if held is None:
            if self._once.first(event_id, "finished"):
                self._counts.finished += 1
                self._record(event)
            return
        self._counts.finished += 1
        self._once.first(event_id, "finished")
        if held.acting:
            self._on_finished(event_id, held.data)
        await self._keep_later(event_id, [event])

    async def _end_by_clock(self) -> None:
        """What goes on here ends at its time, whether or not the server can be asked."""
        now_us = self._clock.now_us()
        for event_id, held in list(self._held.items()):
            ends_us = end_us(held.data)
            if held.acting and ends_us is not None and ends_us <= now_us:
                self._held[event_id] = replace(held, acting=False)
                self._on_finished(event_id, held.data)
                event = Event("event_backend.ended", now_us, event_id, {"id": event_id, "end_us": ends_us})
                await self._keep_later(event_id, [event])

    def _make_room(self) -> None:
        """Forget the oldest that does nothing here where there are too many. Raises ``BackendError``."""
        if len(self._held) < MAX_EVENTS:
            return
        idle = next((one for one, held in self._held.items() if not held.acting), None)
        if idle is None:
            raise BackendError("start an event", f"{MAX_EVENTS} of its events go on here already", "finish some")
        del self._held[idle]
        self._unkept.setdefault(idle, [])

    async def _keep(self, event_id: str, events: Sequence[Event] = ()) -> None:
        """Make it outlive a kill, as it is now. Raises ``StoreError``."""
        held = self._held.get(event_id)
        data = None if held is None else {"state": held.state.value, "acting": held.acting, "data": dict(held.data)}
        await self._notebook.write(NOTE, event_id, data, events)

    async def _keep_later(self, event_id: str, events: list[Event]) -> None:
        """The same, at the next look where the store does not take it now: an end waits for no disk."""
        events = [*self._unkept.pop(event_id, []), *events]
        try:
            await self._keep(event_id, events)
        except StoreError:
            self._unkept[event_id] = events

    async def _keep_or_forget(self, event_id: str) -> None:
        """A start that can't be kept is none. Raises ``StoreError``."""
        try:
            await self._keep(event_id)
        except StoreError:
            del self._held[event_id]
            raise

    async def _forget(self, event_id: str) -> None:
        del self._held[event_id]
        await self._keep_later(event_id, [])

    async def _post(self, event_id: str, what: str) -> bool:
        """Tell the server; whether it took it. Raises ``BackendError`` where the server, not the event, is at fault."""
        op = f"{what} event {event_id}"
        try:
            status = (await self._asker.ask("POST", f"{quote(event_id, safe='')}/{what}", op)).status
        except BackendError as error:
            if what == "start" and not error.unsure and self._held[event_id].state is _State.STARTING:
                await self._forget(event_id)
            raise
        if status < HTTPStatus.BAD_REQUEST:
            return True
        self._counts.refused += 1
        if self._once.first(event_id, what):
            logger.warning("the event backend refuses to %s (HTTP %d)", op, status)
            self._tell("event_backend.refused", event_id, {"id": event_id, "what": what, "status": status})
        return False

    async def _list(self, path: str) -> EventList:
        """What is due. Raises ``BackendError``."""
        op = f"ask for {path}"
        answer = await self._asker.ask("GET", path, op)
        if answer.status != HTTPStatus.OK:
            hint = "is url: right?" if answer.status == HTTPStatus.NOT_FOUND else ""
            raise BackendError(op, f"it answers HTTP {answer.status}", hint)
        listed = parse(op, answer.body)
        self._counts.bad_entries += listed.bad
        return listed

    def _tell(self, kind: str, subject: str, data: Data) -> None:
        self._record(Event(kind, self._clock.now_us(), subject, data))


def _read(notebook: Notebook) -> dict[str, _Held]:
    """What was held before the restart; what can't be read is left out, with a line in the log."""
    found = {}
    for event_id, note in notebook.notes(NOTE).items():
        try:
            data = note["data"]
            if not isinstance(data, Mapping):
                raise TypeError("no object")  # noqa: TRY301 - as any other damage
            found[event_id] = _Held(_State(str(note["state"])), data, bool(note["acting"]))
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("the backend's event %s can't be read and is left out: %r", event_id, error)
    return found
