"""A simulated OCPP charger without its connection: outlets, transactions, what it wants to tell, what it was told.

Rules of this file:

1. ``step`` is what moves it: time, vehicles, samples, heartbeats, retries. Nothing here waits.
2. What belongs to a transaction goes into ``outbox`` in order and leaves it when it is answered, or when it was refused
   as often as the charger tries (1.6 edition 2, 3.7.1 and 5.; 2.0.1 part 2, E04 and E13). Everything else is
   ``lively``: it is forgotten when the connection ends.
3. A transaction message is on disk before it is sent, when there is a state file. After a restart the transactions that
   ran are ended where they were last looked at: PowerLoss.
4. What a version calls things is its dialect's business (``charger_ocpp16.py``, ``charger_ocpp201.py``).
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from agent.core.clock import Clock
from drivers.sim import charger_ocpp_state as state
from drivers.sim.charger_ocpp_dialect import Dialect
from drivers.sim.charger_ocpp_model import (
    Message,
    Outlet,
    Payload,
    Quirk,
    Session,
    SimSettings,
    Transaction,
    iso,
    standard_keys,
)
from drivers.sim.charger_ocpp_profiles import Hardware, Profiles, read_profile
from drivers.sim.evse import PHASES, Evse

MAX_OUTBOX = 20_000
MAX_LIVELY = 200
SHORT = 4  #: an outbox that goes before everything else
ACCEPTED = "Accepted"
#: Before a reset it has this long to answer and to say goodbye.
RESET_AFTER_S = 1.0
FIRST_REGISTER_WH = 1_000_000


class Charger:
    """The charger behind the connection. ``sessions`` are its ended transactions as reported."""

    def __init__(self, settings: SimSettings, clock: Clock, dialect: Callable[["Charger"], Dialect]) -> None:
        self.settings = settings
        self.clock = clock
        self.quirks = dict(settings.quirks)  #: may change while it lives
        self.cut_off = False  #: its network is gone: it can't dial
        self.random = random.Random(settings.seed)  # noqa: S311 - a simulation, no secret
        self.keys = standard_keys(settings)
        self.firmware = settings.firmware
        self.password = settings.password
        self.url = settings.url
        self.networks: dict[int, str] = {}
        self.profiles = Profiles(Hardware(settings.max_a, settings.phases, settings.outlets))
        self.outlets = [self._outlet(number) for number in range(1, settings.outlets + 1)]
        self.outbox: deque[Message] = deque()
        self.lively: deque[Message] = deque()
        self.sessions: list[Session] = []
        self.local_list: dict[str, str] = {}
        self.list_version = 0
        self.transaction_ids: dict[int, str] = {}  #: 1.6: ours -> the central system's, while messages may need it
        self.last_number = 0
        self.dropped = 0  #: messages that were given up, or that found no room
        self.violations: list[str] = []  #: what the central system sent against the schemas
        self.wake = asyncio.Event()
        self.hang_up = asyncio.Event()
        self.registered = ""  #: the answer to BootNotification on this connection
        self.booted = False  #: a BootNotification was accepted since power-up
        self.powered = True
        self.connected = False
        self.operative = True
        self._boot_reason = "PowerUp"
        self._boot_due_s = self._heartbeat_s = self._stepped_s = clock.monotonic_s()
        self._slot = self._drop_done = 0
        self._later: list[tuple[float, Message | Callable[[], None]]] = []
        self._unsaved = self._dirty = False
        self.dialect = dialect(self)
        if settings.state_file is not None and settings.state_file.exists():
            state.restore(self, settings.state_file)
        for outlet in self.outlets:
            if outlet.transaction is not None:
                self.finish(outlet, "PowerLoss", looked_at=False)
        if Quirk.BACKLOG in self.quirks:
            self._make_backlog(int(self.quirks[Quirk.BACKLOG] or 10_000))

    def _outlet(self, number: int) -> Outlet:
        settings = self.settings
        evse = Evse(
            settings.seed * 1000 + number, settings.max_a, pace=settings.pace, phases=min(PHASES, settings.phases)
        )
        evse.total_wh = float(FIRST_REGISTER_WH * number)
        evse.enabled = False
        return Outlet(number, evse)

    # What the world does to it

    def plug_in(self, number: int = 1, wants_a: float = 16.0, tag: str | None = None) -> None:
        """A vehicle comes to an outlet; ``tag``: and its driver presents this."""
        self.outlets[number - 1].evse.plug_in(wants_a)
        self.step()
        if tag is not None:
            self.present(number, tag)

    def unplug(self, number: int = 1) -> None:
        """The vehicle leaves."""
        self.step()
        self.outlets[number - 1].evse.unplug()
        self.step()

    def present(self, number: int, tag: str) -> None:
        """Somebody holds an id tag to the reader: it starts a transaction, or ends the one that it started."""
        outlet = self.outlets[number - 1]
        if outlet.transaction is not None:
            if outlet.transaction.tag == tag:
                self.finish(outlet, "Local")
            return
        reserved = outlet.reservation is not None and outlet.reservation.tag != tag
        if reserved or outlet.asked or outlet.fault or not outlet.operative:
            return
        if self.flag("LocalPreAuthorize") and self.local_list.get(tag) == ACCEPTED:
            self.let_in(outlet, tag)
        elif self.online:
            outlet.asked = True
            self.say(self.dialect.authorize(tag, lambda status: self._authorized(outlet, tag, status)))
        else:
            self._let_in_offline(outlet, tag)

    def cut(self, *, off: bool) -> None:
        """Its network goes, or comes back."""
        self.cut_off = off
        if off:
            self.hang_up.set()

    def break_down(self, number: int, error: str) -> None:
        """A fault of an outlet (1.6 ChargePointErrorCode); empty: it is repaired."""
        outlet = self.outlets[number - 1]
        if error and outlet.transaction is not None:
            self.finish(outlet, "Other")
        outlet.fault = error
        self.step()

    # Time

    def step(self) -> None:
        """Bring everything up to now."""
        now_s = self.clock.monotonic_s()
        seconds, self._stepped_s = now_s - self._stepped_s, now_s
        for outlet in self.outlets:
            self._step_outlet(outlet, seconds, now_s)
        due = [what for due_s, what in self._later if due_s <= now_s]
        self._later = [(due_s, what) for due_s, what in self._later if due_s > now_s]
        for what in due:
            if isinstance(what, Message):
                self.say(what)
            else:
                what()
        if self.powered and self.connected:
            self._tell(now_s)
        if self._dirty or self._unsaved:
            self.save()
        self.wake.set()

    def _step_outlet(self, outlet: Outlet, seconds: float, now_s: float) -> None:
        evse, running = outlet.evse, outlet.transaction
        evse.enabled = self.powered and running is not None and not running.blocked
        if Quirk.IGNORES_LIMITS not in self.quirks:
            sharing = max(1, sum(one.transaction is not None for one in self.outlets))
            started_us = None if running is None else running.start_us
            evse.tell_limit(self.profiles.limit_a(outlet.number, self.clock.now_us(), started_us, sharing))
        evse.step(seconds)
        if not self.powered:
            return
        if outlet.plugged != evse.plugged:
            self._plug_moved(outlet)
        if outlet.tag is not None and now_s > outlet.tag_until_s:
            outlet.tag = outlet.remote_id = outlet.remote_profile = None
        if outlet.reservation is not None and outlet.reservation.until_us <= self.clock.now_us():
            outlet.reservation = None
        if outlet.tag is not None and evse.plugged and outlet.transaction is None:
            self._begin(outlet)
        if outlet.transaction is not None:
            self._step_transaction(outlet, outlet.transaction, now_s)

    def _step_transaction(self, outlet: Outlet, running: Transaction, now_s: float) -> None:
        self._look(outlet, running)
        interval_s = self.number("MeterValueSampleInterval")
        if interval_s and now_s - running.sampled_s >= interval_s:
            running.sampled_s = now_s if now_s - running.sampled_s > 2 * interval_s else running.sampled_s + interval_s
            fatal = self.quirks.get(Quirk.REBOOTS_ON)
            if fatal and fatal in self.keys["MeterValuesSampledData"].value.split(","):
                self.reboot("Unknown", at_once=True)
                return
            self._keep(self.dialect.sampled(outlet, running, "Sample.Periodic"))
        if outlet.charging_state != running.state:
            running.state = outlet.charging_state
            self._keep(self.dialect.changed(outlet, running, "ChargingStateChanged"))
        drops_s = self.quirks.get(Quirk.DROPS)
        ran_s = (running.last_us - running.start_us) / 1_000_000
        if drops_s is not None and running.number != self._drop_done and ran_s >= float(drops_s or 5):
            self._drop_done = running.number
            self.hang_up.set()

    def _plug_moved(self, outlet: Outlet) -> None:
        outlet.plugged = outlet.evse.plugged
        if not outlet.plugged:
            if outlet.transaction is not None:
                self.finish(outlet, "EVDisconnected")
            outlet.finished = False
        elif self.settings.tag is not None and outlet.tag is None:
            self.present(outlet.number, self.settings.tag)

    def _tell(self, now_s: float) -> None:
        if self.registered != ACCEPTED:
            if now_s >= self._boot_due_s:
                self._boot_due_s = float("inf")  # until it is answered
                self.lively.appendleft(self.dialect.boot(self._boot_reason))
            return
        if now_s - self._heartbeat_s >= self.number("HeartbeatInterval") > 0:
            self._heartbeat_s = now_s
            self.say(self.dialect.heartbeat())
        for outlet in self.outlets:
            if outlet.told != outlet.status:
                outlet.told = outlet.status
                self.say(self.dialect.status(outlet))
        interval_s = self.number("ClockAlignedDataInterval")
        slot = self.clock.now_us() // (interval_s * 1_000_000) if interval_s else 0
        if slot != self._slot and self._slot:
            for outlet in self.outlets:
                if outlet.transaction is None:
                    self.say(self.dialect.meter(outlet, "Sample.Clock"))
                else:
                    self._keep(self.dialect.sampled(outlet, outlet.transaction, "Sample.Clock"))
        self._slot = slot

    # Transactions

    def let_in(self, outlet: Outlet, tag: str, remote_id: int | None = None, profile: Payload | None = None) -> None:
        """This tag may charge here: its transaction begins as soon as a vehicle is there."""
        outlet.tag = tag
        outlet.tag_until_s = self.clock.monotonic_s() + self.number("ConnectionTimeOut")
        outlet.remote_id, outlet.remote_profile = remote_id, profile

    def finish(self, outlet: Outlet, reason: str, *, looked_at: bool = True) -> None:
        """End the transaction of an outlet. ``looked_at`` False: where it was last looked at."""
        running = outlet.transaction
        if running is None:
            return
        if looked_at:
            self._look(outlet, running)
        running.reason = reason
        outlet.transaction, outlet.finished = None, outlet.evse.plugged
        outlet.evse.enabled, outlet.evse.current_a = False, 0.0
        if Quirk.NO_STOP not in self.quirks:
            self._keep(self.dialect.stopped(outlet, running))
        told = running.id or self.transaction_ids.get(running.number, "")
        self.sessions.append(Session(outlet.number, running.start_wh, running.last_wh, running.tag, reason, told))
        self.profiles.end_transaction(outlet.number)
        if outlet.scheduled is not None:
            outlet.operative, outlet.scheduled = outlet.scheduled, None

    def find(self, transaction: str) -> Outlet | None:
        """The outlet where this transaction runs."""
        for outlet in self.outlets:
            running = outlet.transaction
            if running is not None and transaction in {running.id, self.transaction_ids.get(running.number)} - {""}:
                return outlet
        return None

    def refuse_transaction(self, number: int) -> None:
        """The central system does not take the id tag of this transaction."""
        for outlet in self.outlets:
            if outlet.transaction is not None and outlet.transaction.number == number:
                outlet.transaction.blocked = True
                if self.flag("StopTransactionOnInvalidId"):
                    self.finish(outlet, "DeAuthorized")

    def sample_now(self, outlets: list[Outlet]) -> None:
        """Meter values of their transactions, because they were asked for."""
        for outlet in outlets:
            if outlet.transaction is not None:
                self._look(outlet, outlet.transaction)
                self._keep(self.dialect.sampled(outlet, outlet.transaction, "Trigger"))

    def _begin(self, outlet: Outlet) -> None:
        self.last_number += 1
        now_s, now_us = self.clock.monotonic_s(), self.clock.now_us()
        running = Transaction(
            number=self.last_number,
            outlet=outlet.number,
            tag=outlet.tag or "",
            start_wh=outlet.register_wh,
            start_us=now_us,
            remote_id=outlet.remote_id,
            reservation=None if outlet.reservation is None else outlet.reservation.id,
            state=outlet.charging_state,
            sampled_s=now_s,
        )
        self._look(outlet, running)
        outlet.transaction, outlet.reservation = running, None
        profile, outlet.tag, outlet.remote_profile, outlet.remote_id = outlet.remote_profile, None, None, None
        if profile is not None:
            self.profiles.install(read_profile(outlet.number, profile))
        self._keep(self.dialect.started(outlet, running))

    def _look(self, outlet: Outlet, running: Transaction) -> None:
        running.last_wh, running.last_us = outlet.register_wh, self.clock.now_us()
        self.changed()

    def _authorized(self, outlet: Outlet, tag: str, status: str) -> None:
        outlet.asked = False
        if status == ACCEPTED:
            self.let_in(outlet, tag)
            self.step()

    def _let_in_offline(self, outlet: Outlet, tag: str) -> None:
        known = self.local_list.get(tag) if self.flag("LocalAuthListEnabled") else None
        allowed = self.flag("LocalAuthorizeOffline") if known else self.flag("AllowOfflineTxForUnknownId")
        if allowed and known in {ACCEPTED, None}:
            self.let_in(outlet, tag)

    def _make_backlog(self, count: int) -> None:
        outlet = self.outlets[0]
        for transaction in range(count // 4):
            self.last_number += 1
            start_us = self.clock.now_us() - (count // 4 - transaction) * 60_000_000
            running = Transaction(self.last_number, 1, "BACKLOG", outlet.register_wh, start_us)
            running.last_wh, running.last_us = running.start_wh, start_us
            self._keep(self.dialect.started(outlet, running))
            for _ in range(2):
                outlet.evse.total_wh += 5
                running.last_wh, running.last_us = outlet.register_wh, running.last_us + 15_000_000
                self._keep(self.dialect.sampled(outlet, running, "Sample.Periodic"))
            outlet.transaction = running
            self.finish(outlet, "Local", looked_at=False)

    # The connection's side

    @property
    def online(self) -> bool:
        """Whether the central system can be asked something."""
        return self.connected and self.registered == ACCEPTED

    def attached(self) -> None:
        """A connection is open."""
        self.connected = True
        self.hang_up.clear()
        self.registered = ""
        for message in self.outbox:
            message.due_s = 0.0
        quiet = self.booted and (not self.dialect.boots_again or Quirk.NO_BOOT in self.quirks)
        self._boot_due_s = self._heartbeat_s = self.clock.monotonic_s()
        if quiet:
            self._register(ACCEPTED)
        self.step()

    def detached(self) -> None:
        """The connection has ended."""
        self.connected = False
        self.lively.clear()
        for outlet in self.outlets:
            if outlet.asked:
                outlet.asked = False
                self._let_in_offline(outlet, self.settings.tag or "")
        self.wake.clear()

    def booted_with(self, status: str, interval_s: int) -> None:
        """The answer to BootNotification (1.6 edition 2, 4.2; 2.0.1 B01 to B03)."""
        if status == ACCEPTED:
            if interval_s > 0:
                self.keys["HeartbeatInterval"].value = str(interval_s)
            self._register(ACCEPTED)
            return
        self.registered = status
        self._boot_due_s = self.clock.monotonic_s() + (interval_s or 60)

    def _register(self, status: str) -> None:
        self.registered, self.booted, self._boot_reason = status, True, "PowerUp"
        self._heartbeat_s = self.clock.monotonic_s()
        self.say(self.dialect.status(None))
        for outlet in self.outlets:
            outlet.told = ""

    def next_message(self) -> Message | None:
        """What to send now. The outbox goes first, but a long one does not keep the rest waiting."""
        kept = self.outbox[0] if self.outbox and self.online else None
        if kept is not None and kept.due_s > self.clock.monotonic_s():
            kept = None
        lively = self.lively[0] if self.lively else None
        if lively is not None and self.registered == "Rejected" and lively.action != "BootNotification":
            lively = None
        if kept is not None and (lively is None or len(self.outbox) < SHORT or self._turn()):
            if self._unsaved:
                self.save()
            return kept
        if lively is not None:
            self.lively.popleft()
        return lively

    def _turn(self) -> bool:
        return self.random.random() < 0.5  # noqa: PLR2004 - one or the other

    def answered(self, message: Message, answer: Any) -> None:  # noqa: ANN401 - a class for each action
        """The central system answered."""
        if message.transaction is None:
            if message.then is not None:
                message.then(answer)
            return
        self.outbox.popleft()
        self.changed()
        self.dialect.answered(message, answer)

    def refused(self, message: Message) -> None:
        """A CALLERROR came, or nothing in time."""
        if message.transaction is None:
            if message.action == "BootNotification":
                self._boot_due_s = self.clock.monotonic_s() + 10
            elif message.then is not None:
                message.then(None)
            return
        message.attempts += 1
        if message.attempts >= self.number("TransactionMessageAttempts"):
            self.outbox.popleft()
            self.dropped += 1
        else:
            pause_s = self.number("TransactionMessageRetryInterval") * message.attempts
            message.due_s = self.clock.monotonic_s() + pause_s

    def say(self, message: Message | None) -> None:
        """Send it while this connection lasts."""
        if message is None or not self.connected:
            return
        if len(self.lively) >= MAX_LIVELY:
            self.lively.popleft()
            self.dropped += 1
        self.lively.append(message)
        self.wake.set()

    def later(self, seconds: float, what: Message | Callable[[], None]) -> None:
        """Say or do it in some seconds."""
        self._later.append((self.clock.monotonic_s() + seconds, what))

    def _keep(self, message: Message | None) -> None:
        if message is None:
            return
        if len(self.outbox) >= MAX_OUTBOX:
            self.dropped += 1
            return
        self.outbox.append(message)
        self._unsaved = self.settings.state_file is not None
        self.wake.set()

    # What it is told

    def number(self, key: str) -> int:
        """A key that is a whole number."""
        return int(self.keys[key].value)

    def flag(self, key: str) -> bool:
        """A key that is true or false."""
        return self.keys[key].value.lower() == "true"

    def set_key(self, name: str, value: str) -> str:
        """ChangeConfiguration: Accepted, Rejected or NotSupported. A new password makes it dial again."""
        key = self.keys.get(name)
        if key is None:
            return "NotSupported"
        if not key.writable or not key.takes(value):
            return "Rejected"
        if name == "AuthorizationKey":
            return self._set_password(value)
        key.value = value
        self.changed()
        return ACCEPTED

    def _set_password(self, value: str) -> str:
        try:  # the security whitepaper has it in hexadecimal digits
            self.password = bytes.fromhex(value) if len(value) >= 32 else value.encode()  # noqa: PLR2004
        except ValueError:
            self.password = value.encode()
        self.changed()
        self.later(RESET_AFTER_S, self.hang_up.set)
        return ACCEPTED

    def reboot(self, reason: str, *, at_once: bool = False, stop: str = "Reboot") -> None:
        """End the transactions for the reason ``stop``, power off, and come back saying ``reason``."""
        if not at_once:
            for outlet in self.outlets:
                self.finish(outlet, stop)

        def power_off() -> None:
            for outlet in self.outlets:
                self.finish(outlet, stop)
                outlet.asked, outlet.tag = False, None
            self.powered = self.booted = False
            self._boot_reason = reason
            self.hang_up.set()
            self.later(self.settings.reboot_s, power_on)

        def power_on() -> None:
            self.powered = True

        self.later(0 if at_once else RESET_AFTER_S, power_off)

    # What both dialects need

    def message(self, action: str, payload: Payload, running: Transaction | None = None) -> Message:
        """A message with an id of its own."""
        return Message(action, payload, str(uuid4()), None if running is None else running.number)

    def stamp(self, t_us: int | None = None) -> str:
        """A time, or now, as it writes it."""
        t_us = self.clock.now_us() if t_us is None else t_us
        if Quirk.CLOCK_UNSET in self.quirks and not self.booted:
            t_us %= 86_400_000_000
        return iso(t_us, self.quirks)

    def changed(self) -> None:
        """Something that it keeps over a restart is new."""
        self._dirty = self.settings.state_file is not None

    def save(self) -> None:
        """Write the state file, where there is one."""
        self._unsaved = self._dirty = False
        if self.settings.state_file is not None:
            state.save(self, self.settings.state_file)
