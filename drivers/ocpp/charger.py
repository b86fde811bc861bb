"""One charger: what its connections bring, and what may be asked of it. Its parts do the work, this file joins them.

Rules of this file:

1. A charger is the same over all its connections: sessions, quirks and what it said of itself outlive them.
2. Set-up runs after each connection's boot, in a task that ends with the connection. A charger that does not boot when
   it connects again is what it was before; one that nothing is known of is asked to boot, once.
3. Until the safe limit was tried nobody is let in, for at most ``SAFE_WAIT_S``. A charger that refuses it is used all
   the same; that it has no fail-safe is told.
4. A connection that was lost may come back at once. Only after ``silence_s`` the charger is silent: that is told, and
   all that was known of it becomes unknown.
5. Nothing here raises into the link but ``CancelledError``; time comes from the clock only.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, DeviceError, StoreError, Unavailable
from agent.core.model import Event, Session, SignalSpec
from agent.core.ports import Action, Notebook, Sessions, Sink
from drivers.codec.ocpp_model import Boot, Reading, Status, Version
from drivers.codec.ocpp_readings import totals
from drivers.codec.ocpp_values import LocalAsUtc
from drivers.ocpp import inbound16, inbound201
from drivers.ocpp.board import Board, spec_of
from drivers.ocpp.certificates import Certificates
from drivers.ocpp.elsewhere import Elsewhere
from drivers.ocpp.id_tags import IdTags
from drivers.ocpp.limits_watched import WatchedLimits
from drivers.ocpp.local_list import LocalList
from drivers.ocpp.operations import Operations
from drivers.ocpp.outlets import PLANNED, Outlet, Wrong, suffix
from drivers.ocpp.ports import Call, Fault, Link, Payload
from drivers.ocpp.quirks import STANDARD, Quirks, choose
from drivers.ocpp.settings import CentralSettings, ChargerSettings
from drivers.ocpp.setup import set_up
from drivers.ocpp.times import Times
from drivers.ocpp.transactions import RETRY_S, Book, clean
from drivers.waiting import within

#: A charger that connects without a boot is taken as it was after so long (evcc 27309, 28540).
BOOT_WAIT_S = 10.0
#: The answer to the boot leaves before anything is asked.
AFTER_BOOT_S = 0.1
#: A charger may be away for so long before that is news, where its model's profile says nothing else.
SILENCE_S = 30.0
TICK_S = 1.0
CLOSE_S = 2.0
MAX_DEVIATIONS = 100
_BOOT = "boot"
_LIMIT, _ENABLED = "current_limit_a", "charging_enabled"


def charger_specs(settings: ChargerSettings) -> list[SignalSpec]:
    """The signals that every charger has: those of its outlets, and of several outlets what is set for the whole."""
    whole = () if settings.outlets == 1 else ("charger_status", _LIMIT, _ENABLED)
    names = [*whole, *(point + suffix(settings.outlets, one) for one in _numbers(settings) for point in PLANNED)]
    return [spec_of(settings.device, name) for name in names]


class Charger:
    """``Peer`` of its connections, ``ChargerState`` of those who ask it, ``Operable``; ``limits`` its Commandable."""

    def __init__(
        self,
        settings: ChargerSettings,
        central: CentralSettings,
        quirks: Sequence[Quirks],
        ids: Mapping[str, int],
        clock: Clock,
        sessions: Sessions,
        notebook: Notebook,
        id_tags: IdTags,
    ) -> None:
        self.settings = settings
        self.central = central
        self.times = Times(clock)
        self._known_quirks = quirks
        self._clock = clock
        self._notebook = notebook
        self._id_tags = id_tags
        self._board = Board(settings.device, ids, clock)
        self._operations = Operations(self, clock)
        self._local_list = LocalList(self, id_tags, clock)
        self.limits = WatchedLimits(self, clock, self._board.show)
        self.book = Book(settings, clock, sessions, id_tags, self.count, self._session_changed, self.limits.refuses)
        self._outlets = {
            one: Outlet(one, suffix(settings.outlets, one), self._board, clock, central.sample_s)
            for one in ((*_numbers(settings), 0) if settings.outlets > 1 else _numbers(settings))
        }
        self._elsewhere = Elsewhere(clock, self._outlets)
        self._faults: dict[int, Wrong] = {}
        self._finishing: dict[int, float] = {}  #: since when it only says Finishing; inf: it was reset for that
        self._deviations: set[tuple[str, str]] = set()
        self._outlets_told = 0  #: the highest number of an outlet that is not configured
        self._sink: Sink | None = None
        self._link: Link | None = None
        self._version = settings.version or Version.V16
        self._boot = _read_boot(self.remembered(_BOOT))
        self.quirks = STANDARD
        self.zone: tzinfo = UTC
        self._choose()
        self._tasks: set[asyncio.Task[None]] = set()
        self.certificates = Certificates(self, self._operations, clock, self._spawn, self.count)
        self._preparing: asyncio.Task[None] | None = None
        self._away_s: float | None = clock.monotonic_s()
        self._silent = False
        self._called = False  #: since it was opened

    # -- life --

    def open(self, sink: Sink) -> None:
        """Values and events go there from now on; called on the event loop."""
        self._sink = sink
        self._board.open(sink)
        self.limits.unshown()
        self._away_s, self._silent, self._called = self._clock.monotonic_s(), False, False
        self._spawn(self._watch())
        self._spawn(self._keep_book())
        self._spawn(self.limits.run())
        self._spawn(self._local_list.run())

    def in_zone(self, timezone: str) -> None:
        """Its times without a zone are those of this one from now on, unless its model's profile names another."""
        self.central = replace(self.central, timezone=timezone)
        self._choose()

    async def close(self) -> None:
        """End the connection and all that was begun; it may be opened again."""
        link = self._link
        if link is not None:
            self.detach(link)
            await link.close(1001, "the gateway stops")
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.save()
        self._board.lose()
        self._board.open(None)
        self._sink = None
        self._operations.probed = None  # what was being tried was interrupted by us

    async def save(self) -> None:
        """Have on disk what is only in memory of its sessions, within some seconds."""
        await within(self._clock, CLOSE_S, self.book.leave())

    async def retire(self) -> None:
        """``close`` it for good: it is no charger of the site any more, so nobody will tell the end of its sessions."""
        await self.close()
        await within(self._clock, CLOSE_S, self.book.lose_all())

    # -- Peer --

    def attach(self, link: Link) -> None:
        """It has connected."""
        self._link, self._version, self._away_s = link, link.version, None
        self._set_ping()
        self.times.connected()
        self._deviations.clear()
        self._elsewhere.connected()
        for outlet in self._outlets.values():
            outlet.connected()
        if self._silent or not self._called:
            self.tell("device.heard" if self._silent else "device.online", {"address": link.address})
            self._silent, self._called = False, True
        self.limits.connected()
        self._local_list.connected()
        self._prepare(self._without_boot(link))

    def detach(self, link: Link) -> None:
        """This connection has ended."""
        if link is not self._link:
            return
        self._link, self._away_s = None, self._clock.monotonic_s()
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None

    async def handle(self, call: Call) -> Payload | Fault:
        """What it asks is answered."""
        self.times.arrived()
        if call.deviation:
            self._deviates(call)
        answer = inbound201.handler(call) if self._version.two else inbound16.HANDLERS.get(call.action)
        if answer is None:
            self.count("unknown_action")
            return Fault("NotImplemented", f"nobody knows {call.action[:64]} here")
        try:
            return await answer(self, call)
        finally:
            self.times.answered()

    # -- ChargerState --

    @property
    def boot(self) -> Boot | None:
        """Its last BootNotification."""
        return self._boot

    @property
    def link(self) -> Link:
        """The open connection. Raises ``Unavailable`` when there is none."""
        if self._link is None:
            raise Unavailable(f"reach {self.settings.device}", "the charger is not connected", "look at its network")
        return self._link

    def transaction(self, outlet: int) -> str | None:
        """The running transaction of an outlet as the charger knows it."""
        session = self.book.current(outlet)
        return None if session is None else session.remote_id or str(session.id)

    def status(self, outlet: int) -> str | None:
        """The last status of an outlet."""
        known = self._outlets.get(outlet)
        return None if known is None else known.status

    def tell(self, kind: str, data: Mapping[str, object]) -> None:
        """An event about this charger."""
        if self._sink is not None:
            self._sink.event(Event(kind, self._clock.now_us(), self.settings.device, data))

    async def remember(self, name: str, data: Mapping[str, object] | None) -> None:
        """Keep something of it over restarts."""
        try:
            await self._notebook.write(f"ocpp.{name}", self.settings.device, data)
        except StoreError:
            self.count("not_remembered")

    def remembered(self, name: str) -> Mapping[str, object] | None:
        """What was kept."""
        return self._notebook.note(f"ocpp.{name}", self.settings.device)

    # -- Operable --

    @property
    def actions(self) -> Mapping[str, Action]:
        """What it can be told."""
        return self._operations.actions

    async def act(self, action: str, args: Mapping[str, object]) -> Mapping[str, object]:
        """Tell it. Raises as ``Operable.act``."""
        tag = args.get("id_tag")
        if action == "start" and isinstance(tag, str):
            self._id_tags.expect(self.settings.device, clean(tag))  # before it is asked: it may start at once
        answer = await self._operations.act(action, args)
        if action == "clear_charging_profile":
            self.limits.cleared()  # ours may be among them: whoever is limited or off must not draw more by that
        return answer

    # -- Station: what its messages change --

    def now_us(self) -> int:
        """Wall time."""
        return self._clock.now_us()

    async def booted(self, boot: Boot) -> None:
        """BootNotification."""
        self._boot = boot
        self._choose()
        self._set_ping()
        self.limits.booted()
        told = {"vendor": boot.vendor, "model": boot.model, "serial": boot.serial, "firmware": boot.firmware}
        self.tell("charger.booted", {**told, "reason": boot.reason, "profile": self.quirks.name})
        await self.remember(_BOOT, {**told, "reason": boot.reason, "details": dict(boot.details)})
        if self._link is not None:
            self._prepare(self._after_boot())

    def status_told(self, status: Status) -> None:
        """StatusNotification."""
        number = self.book.outlet(status.outlet)
        outlet = self._outlets.get(number)
        if status.time.t_us is not None:
            self.times.judge(status.time)
        if outlet is None:
            if number:
                self._unknown_outlet(number)
            return
        if status.status is None:
            self.count("unknown_status")
        outlet.told(status)
        if number and (whole := self._outlets.get(0)) is not None:
            whole.follow(one.status for one in self._outlets.values() if one is not whole)
        self._edge_of_fault(number, outlet.fault)
        if outlet.status != "Finishing":
            self._finishing.pop(number, None)
        else:
            self._finishing.setdefault(number, self._clock.monotonic_s())

    def state_told(self, outlet: int, charging_state: str, *, stopped: bool | None = None) -> None:
        """The chargingState of an outlet's transaction; see ``Outlet.state``."""
        known = self._outlets.get(outlet)
        if known is not None:
            known.state(charging_state, stopped=stopped)

    def heard_of(self, outlet: int) -> None:
        """Something came that is about the outlet's session."""
        known = self._outlets.get(outlet)
        if known is not None:
            known.heard()
        else:
            self._elsewhere.heard(outlet)

    async def sampled(self, outlet: int, readings: tuple[Reading, ...]) -> None:
        """Values that were measured just now."""
        number = self.book.outlet(outlet)
        known = self._outlets.get(number)
        if known is None:
            self._unknown_outlet(number)
            return
        values = totals(readings, self.settings.phases)
        if values:
            await known.sampled(values)

    async def ready(self) -> None:
        """Until the safe limit was tried, at most ``SAFE_WAIT_S`` after the connection."""
        if self._link is not None:
            await self.limits.settled()

    async def keep(self, kind: str, data: Mapping[str, object]) -> None:
        """An event that is on disk when this returns: the last one is a note too, which makes it one commit."""
        event = Event(kind, self._clock.now_us(), self.settings.device, data)
        while True:
            try:
                await self._notebook.write(kind, self.settings.device, {"t_us": event.t_us}, [event])
            except StoreError:
                self.count("store_retries")
                await self._clock.sleep_s(RETRY_S)
            else:
                return

    def reported(self, call: Call) -> None:
        """For those who asked the charger for it."""
        self._operations.reported(call)

    def count(self, name: str) -> None:
        """Count something of this wire."""
        if self._sink is not None:
            self._sink.count(name)

    # -- inside --

    def _session_changed(self, session: Session) -> None:
        for number in {0, session.outlet}:  # the whole had it until its outlet was told
            outlet = self._outlets.get(number)
            if outlet is not None:
                outlet.session(session)

    def _choose(self) -> None:
        named = [one for one in self._known_quirks if one.name == self.settings.profile]
        if named:
            self.quirks = named[0]
        elif self._boot is not None:
            self.quirks = choose(self._known_quirks, self._boot)
        try:
            zone: tzinfo = ZoneInfo(self.quirks.zone or self.central.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            zone = UTC
        self.zone = LocalAsUtc(zone) if self.quirks.local_time_as_utc else zone

    def _set_ping(self) -> None:
        """As often as this model needs, which is known from its boot on, also of an earlier connection."""
        if self._link is not None and self.quirks.ping_s is not None:
            self._link.set_ping(self.quirks.ping_s)

    def _deviates(self, call: Call) -> None:
        mark = (call.action, call.deviation)
        if mark in self._deviations or len(self._deviations) >= MAX_DEVIATIONS:
            return
        self._deviations.add(mark)
        self.tell("charger.deviates", {"message": call.action, "reason": call.deviation})

    def _unknown_outlet(self, told: int) -> None:
        """It has more outlets than configured: nobody limits those. Many tell so nowhere else (see ``setup.py``)."""
        self.count("unknown_outlet")
        if told > self._outlets_told and told > self.settings.outlets:
            self._outlets_told = told
            reason = f"it has {told}, configured are {self.settings.outlets}"
            self.tell("charger.mismatch", {"reason": reason})

    def _edge_of_fault(self, number: int, now: Wrong | None) -> None:
        before = self._faults.get(number)
        if before == now:
            return
        if before is not None:
            del self._faults[number]
            self.tell("charger.fault_ended", {"outlet": number, "error": before.error})
        if now is not None:
            self._faults[number] = now
            data = {"error": now.error, "vendor_error": now.vendor_error, "info": now.info}
            self.tell("charger.fault", {"outlet": number, **data})

    def _prepare(self, work: Coroutine[object, object, None]) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = self._spawn(work)

    async def _without_boot(self, link: Link) -> None:
        await self._clock.sleep_s(BOOT_WAIT_S)
        if self._boot is None and "TriggerMessage" not in self.quirks.skip:
            try:
                await link.call("TriggerMessage", {"requestedMessage": "BootNotification"})
            except (DeviceError, CommandRejected):
                self.count("no_boot")
            await self._clock.sleep_s(BOOT_WAIT_S)
        await self._set_up()

    async def _set_up(self) -> None:
        while True:
            again_s = await set_up(self, self.limits, self._operations, self._clock)
            self._local_list.wake()
            if again_s is None:
                return
            await self._clock.sleep_s(again_s)

    async def _after_boot(self) -> None:
        await self._clock.sleep_s(AFTER_BOOT_S)
        await self._set_up()

    async def _watch(self) -> None:
        while True:
            self._tick()
            await self._clock.sleep_s(TICK_S)

    async def _keep_book(self) -> None:
        """Apart from ``_watch``: the store may fail for long, and values grow old all the same."""
        await self.book.load()
        while True:
            if self.book.dirty:
                await self.book.flush()
            await self._give_up()
            await self._clock.sleep_s(TICK_S)

    def _tick(self) -> None:
        now_s = self._clock.monotonic_s()
        silence_s = SILENCE_S if self.quirks.silence_s is None else self.quirks.silence_s
        if self._away_s is not None and not self._silent and now_s - self._away_s >= silence_s:
            self._silent = True
            self.tell("device.silent", {"hint": "look at its network, and at the address that it calls"})
            for outlet in self._outlets.values():
                outlet.silent()
            self._finishing.clear()
            self._board.lose()
            self.limits.unshown()
        if self._silent:
            return
        for outlet in self._outlets.values():
            outlet.tick()
        self.limits.show()
        self._reset_finishing(now_s)

    async def _give_up(self) -> None:
        """End the sessions whose vehicles are gone (rule 4 of outlets.py), and those of which nobody can know that."""
        if self._link is None:
            return
        abandoned = [found for outlet in self._outlets.values() if (found := outlet.abandoned()) is not None]
        for session in (*abandoned, *self._elsewhere.abandoned(self.book.running())):
            await self.book.lose(session)

    def _reset_finishing(self, now_s: float) -> None:
        """Some models stay Finishing until they are reset (Autel: lbbrhzn 1523)."""
        limit_s = self.quirks.reset_when_finishing_s
        if limit_s is None or self._link is None or self.book.running():
            return
        late = [number for number, since_s in self._finishing.items() if now_s - since_s >= limit_s]
        if late:
            self._finishing.update(dict.fromkeys(late, float("inf")))
            self._spawn(self._reset())

    async def _reset(self) -> None:
        try:
            await self._operations.act("reset", {"kind": "soft"})
        except (DeviceError, CommandRejected):
            self.count("reset_refused")

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _numbers(settings: ChargerSettings) -> range:
    return range(1, settings.outlets + 1)


def _read_boot(note: Mapping[str, object] | None) -> Boot | None:
    if note is None:
        return None
    details = note.get("details")
    texts = {name: clean(str(note.get(name, ""))) for name in ("vendor", "model", "serial", "firmware", "reason")}
    told = details if isinstance(details, Mapping) else {}
    return Boot(**texts, details={str(name): str(value) for name, value in told.items()})
