"""Current limits and on/off of a charger's outlets, by charging profiles.

Rules of this file:

1. What is wanted of an outlet is set as TxDefaultProfile and, while a transaction runs, as its TxProfile too: whether a
   changed default reaches a running transaction differs from charger to charger in 1.6 (edition 2, 3.13), and in 2.0.1
   it does not where a TxProfile came from elsewhere (part 2, K01). A charger may refuse the TxProfile: the default
   stands, and the read-back says whether it works.
2. One stack level below lies the safe profile, which has no end. Each limit ends ``VALIDITY_S`` after it was set and is
   repeated at a third of that: a charger whose gateway died falls to the safe profile. Where there is one level only,
   the safe limit is the limit's own second period; where there is one period only too, it can't be had.
3. Off is 0 A, and with ``off: stop`` the end of the session besides. On is the limit that was set before, or the
   outlet's highest current where none ever was.
4. One write at a time; a value that stands is written only to repeat it; between two lies what the model needs.
5. After an error that leaves open what the charger has, that outlet is repeated no longer: it falls to its safe limit
   unless it is set anew. A value that the charger refused changes nothing.
6. What was set counts for one connection. On the next all of it is set again: by ``restore``, or some time later.
7. What is in force (``in_force``) is what the charger accepted last, until that ends; then the safe limit, where that
   was accepted. It is unknown after an error that leaves it open, after the charger's boot until it is set again, and
   after the gateway's start for as long as a limit of its last life may hold.
"""

import asyncio
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, DeviceError, Refusal
from agent.core.model import Number
from agent.core.ports import Setting
from drivers.ocpp.limits_profiles import REFRESH_S, VALIDITY_S
from drivers.ocpp.limits_writer import WHOLE, ProfileWriter
from drivers.ocpp.ports import ChargerState

LIMIT, ENABLED = "current_limit_a", "charging_enabled"
TICK_S = 2.0
#: Set-up has so long after a connection before what was wanted is set again without it.
RESUME_S = 60.0
#: After a repeat that failed, the next try.
RETRY_S = 30.0
#: A charger may round, or count watts at its own voltage, by so much.
TOLERANCE_A = 0.5


@dataclass(slots=True)
class _Outlet:
    """What is wanted of an outlet (or the whole), and what it was told on this connection."""

    limit_a: Number | None = None
    on: bool | None = None
    written_a: Number | None = None
    due_s: float = -math.inf  #: when it is to be repeated
    tx: str | None = None  #: the transaction that has got it as its own profile
    stopped: str | None = None  #: the transaction that was asked to stop
    told: bool = False  #: that a repeat is refused
    force_a: Number | None = None  #: what is in force until ``until_s``; None: unknown
    force_on: bool = True
    until_s: float = -math.inf
    safe: bool = False  #: the safe limit is in force from then on


class Limits:
    """``Commandable`` of one charger; ``run`` is a task of the charger's, over all its connections."""

    def __init__(self, state: ChargerState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._writer = ProfileWriter(state, clock)
        self._several = state.settings.outlets > 1
        self._outlets = {number: _Outlet() for number in range(1, state.settings.outlets + 1)}
        self._whole = _Outlet()  #: of a charger with several outlets
        self._settings = MappingProxyType({one.point: one for one in self._offers()})
        self._lock = asyncio.Lock()
        self._next_write_s = -math.inf
        self._resume_s = math.inf
        self._no_tx = False
        self._to_safe = False
        self._met = False  #: that the charger was connected in this life

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What can be set, by point: of one outlet without a number; of several ``.N``, and plain for all together."""
        return self._settings

    @property
    def failsafe(self) -> bool:
        """Whether the charger falls to its safe limit when we are gone, as far as that is known."""
        return self._writer.ending() != "none"

    def refuses(self, outlet: int) -> bool:
        """Whether no session may begin there: switched off, where off means that (``off: stop``)."""
        return self._state.settings.off == "stop" and outlet in self._outlets and not self._is_on(outlet)

    async def learn(self, **facts: object) -> None:
        """What set-up found: ``unit`` (A, W), ``max_level``, ``max_periods``; None for what was not told.

        What stands in the other unit is set again: a charger that counts in watts may have taken 6 A for 6 W.
        """
        before = self._writer.unit
        await self._writer.learn(**facts)
        if self._writer.unit != before:
            self.cleared()

    async def set(self, point: str, value: Number) -> Number:
        """Set it, read it back, and repeat it; what is in force. Raises as ``Commandable.set``.

        The plain limit of a charger with several outlets is that of all together (ChargePointMaxProfile).
        """
        op = f"set {self._state.settings.device}.{point}"
        setting = self._settings.get(point)
        if setting is None:
            hint = f"it has {', '.join(self._settings)}"
            raise CommandRejected(op, Refusal.NOT_CAPABLE, "the charger has no such setting", hint)
        able = self._able(op, setting, value)
        name, _, number = point.partition(".")
        outlet = int(number) if number else WHOLE if self._several else 1
        async with self._lock:
            if name == LIMIT:
                return await self._set_limit(op, outlet, able)
            await self._switch(op, outlet, on=able != 0)
            return able

    def release(self) -> None:
        """Stop repeating what was set: it ends with its validity, and the safe limit is in force."""
        for one in (*self._outlets.values(), self._whole):
            self._forget(one)
        self._to_safe = not self.failsafe

    async def install_safe(self) -> None:
        """Install the safe limit on each outlet. Raises as ``set`` does."""
        async with self._lock:
            await self._install_safe()

    def in_force(self) -> Mapping[str, Number | None]:
        """What the charger lets its outlets draw now, by point; None: unknown (rule 7)."""
        found: dict[str, Number | None] = {}
        for point in self._settings:
            name, _, number = point.partition(".")
            outlet = int(number) if number else WHOLE if self._several else 1
            found[point] = self._limit_in_force(outlet) if name == LIMIT else self._on_in_force(outlet)
        return found

    def booted(self) -> None:
        """It has started anew: what it has kept of its limits is not known until they are set again."""
        for one in (*self._outlets.values(), self._whole):
            one.force_a, one.safe = None, False

    def connected(self) -> None:
        """It has connected: set-up is about to call ``restore``; if it does not, ``run`` does so later."""
        if not self._met and self._state.boot is not None:  # it was ours before: it may still have a limit
            for one in (*self._outlets.values(), self._whole):
                one.until_s = self._clock.monotonic_s() + VALIDITY_S
        self._met = True
        self._writer.connected()
        self._no_tx = False
        self._resume_s = self._clock.monotonic_s() + RESUME_S
        for one in (*self._outlets.values(), self._whole):
            one.written_a = one.tx = None
            one.due_s = -math.inf

    def cleared(self) -> None:
        """What the charger has of ours may be gone, or mean something else: ``run`` sets all again in ``TICK_S``."""
        self._to_safe = True
        for one in (*self._outlets.values(), self._whole):
            one.written_a = one.tx = None
            one.due_s = -math.inf

    async def restore(self) -> None:
        """Set again what was set before the connection was lost. Raises as ``set`` does, for the first that fails."""
        self._resume_s = -math.inf
        async with self._lock:
            await self._repeat_due()

    async def run(self) -> None:
        """Repeat what was set, over all connections; until cancelled, never raises else."""
        while True:
            await self._clock.sleep_s(TICK_S)
            if self._clock.monotonic_s() < self._resume_s:
                continue
            async with self._lock:
                try:
                    await self._repeat_due()
                except DeviceError:
                    continue  # gone, or silent: the charger's connection tells that
                except CommandRejected:
                    continue  # told where it was met

    def _offers(self) -> Iterator[Setting]:
        settings = self._state.settings
        limit = Setting(
            settings.device, LIMIT, "A", settings.min_a, settings.max_a, 0, True, settings.safe_a, REFRESH_S
        )
        enabled = Setting(settings.device, ENABLED, "", 0, 1, 1)
        if not self._several:
            yield from (limit, enabled)
            return
        count = settings.outlets
        yield replace(limit, max=settings.max_a * count, safe=settings.safe_a * count)
        yield enabled
        for number in self._outlets:
            yield replace(limit, point=f"{LIMIT}.{number}")
            yield replace(enabled, point=f"{ENABLED}.{number}")

    def _able(self, op: str, setting: Setting, value: Number) -> Number:
        """The value that the charger can do, rounded down. Raises ``CommandRejected``."""
        off = setting.zero and value == 0
        if not math.isfinite(value) or not (off or setting.min <= value <= setting.max):
            hint = f"from {setting.min:g} to {setting.max:g}" + (", or 0" if setting.zero else "")
            raise CommandRejected(op, Refusal.OUT_OF_RANGE, f"{value:g} can't be set", hint)
        if setting.point.startswith(ENABLED) and value not in (0, 1):
            raise CommandRejected(op, Refusal.OUT_OF_RANGE, f"{value:g} is neither 0 nor 1")
        steps = self._state.quirks.steps_a
        whole = self._several and setting.point == LIMIT
        if steps and not off and setting.point.startswith(LIMIT) and not whole:
            return max((step for step in steps if step <= value), default=0)
        return value

    async def _set_limit(self, op: str, outlet: int, limit_a: Number) -> Number:
        one = self._of(outlet)
        self._can(op, outlet, LIMIT)
        before, one.limit_a = one.limit_a, limit_a
        try:
            await self._bring(outlet)
        except CommandRejected:
            one.limit_a, one.due_s = before, -math.inf
            raise
        except DeviceError:
            self._forget(one)
            raise
        if outlet == WHOLE or not self._is_on(outlet):
            return limit_a
        one.force_a = said = await self._read_back(op, outlet, limit_a)
        return said

    async def _switch(self, op: str, outlet: int, *, on: bool) -> None:
        one = self._of(outlet)
        self._can(op, outlet, ENABLED)
        before, one.on = one.on, on
        stop = self._state.settings.off == "stop"
        for number in self._targets if outlet == WHOLE else (outlet,):
            try:
                await self._bring(number)
            except CommandRejected:
                self._of(number).due_s = -math.inf
                if not stop:  # ending the session is what counts there
                    one.on = before
                    raise
            except DeviceError:
                self._forget(one)
                raise
            if not on and stop:
                await self._stop(op, number)
            elif not on:
                await self._read_back(op, number, 0)

    def _of(self, outlet: int) -> _Outlet:
        return self._whole if outlet == WHOLE else self._outlets[outlet]

    @property
    def _targets(self) -> tuple[int, ...]:
        """What profiles are set on: the outlets, or the whole where the charger has several and takes no other."""
        return (WHOLE,) if self._several and self._writer.whole_only else tuple(self._outlets)

    def _can(self, op: str, outlet: int, point: str) -> None:
        """Raise ``CommandRejected`` for what this model can't do."""
        if outlet != WHOLE and outlet not in self._targets:
            text, hint = "this model is limited as a whole only", f"set {point}"
            raise CommandRejected(op, Refusal.NOT_CAPABLE, text, hint)
        if outlet == WHOLE and point == LIMIT and self._state.quirks.purpose == "TxDefaultProfile":
            text, hint = "this model has no limit for the whole", f"set {point}.1 and so on"
            raise CommandRejected(op, Refusal.NOT_CAPABLE, text, hint)

    def _is_on(self, outlet: int) -> bool:
        return self._whole.on is not False and self._of(outlet).on is not False

    def _wanted(self, outlet: int) -> Number | None:
        """The current that is wanted of an outlet; None: nobody said."""
        one = self._of(outlet)
        if outlet == WHOLE and outlet not in self._targets:
            return one.limit_a  # on and off are its outlets'
        if not self._is_on(outlet):
            return 0
        if one.limit_a is None and (one.on or self._whole.on):
            return self._state.settings.max_a * (len(self._outlets) if outlet == WHOLE else 1)
        return one.limit_a

    def _new_transaction(self, outlet: int) -> str | None:
        """The running transaction of an outlet that its own profile does not know yet."""
        if outlet == WHOLE or self._no_tx or not self._state.quirks.tx_profile or self._writer.whole_only:
            return None
        transaction = self._state.transaction(outlet)
        return None if transaction == self._outlets[outlet].tx else transaction

    async def _bring(self, outlet: int, *, again: bool = False) -> None:
        """Write what is wanted of an outlet, where it does not stand already. Raises as ``set`` does."""
        one, wanted = self._of(outlet), self._wanted(outlet)
        stands = wanted == one.written_a and not again
        if not stands:
            one.tx = None
        transaction = self._new_transaction(outlet)
        if wanted is None or (stands and transaction is None):
            return
        wait_s = self._next_write_s - self._clock.monotonic_s()
        if wait_s > 0:
            await self._clock.sleep_s(wait_s)
        safe_a = self._safe_a(outlet)
        one.written_a = None
        try:
            if not stands:
                await self._write(outlet, wanted, safe_a)
            if transaction is not None:
                one.tx = transaction
                await self._limit_tx(outlet, wanted, safe_a, transaction)
        finally:
            self._next_write_s = self._clock.monotonic_s() + self._state.quirks.min_interval_s
        one.written_a, one.told = wanted, False

    async def _write(self, outlet: int, wanted: Number, safe_a: Number) -> None:
        """Write it as the default. Raises as ``set`` does."""
        one, on = self._of(outlet), self._is_on(outlet)
        before = one.force_a, one.until_s
        ends = self._writer.ending() != "none"
        one.force_a, one.until_s = None, self._clock.monotonic_s() + VALIDITY_S if ends else math.inf
        try:
            await self._writer.limit(outlet, wanted, safe_a)
        except CommandRejected:
            one.force_a, one.until_s = before
            raise
        now_s = self._clock.monotonic_s()
        one.force_a, one.force_on, one.due_s = wanted, on, now_s + REFRESH_S
        one.until_s = now_s + VALIDITY_S if self._writer.ending() != "none" else math.inf
        if self._writer.level == 0 and ends:
            one.safe = True  # it is the limit's own second period

    def _limit_in_force(self, outlet: int) -> Number | None:
        own = self._own_limit(outlet)
        if outlet != WHOLE or outlet in self._targets:
            return own
        each = [self._own_limit(number) for number in self._outlets]
        parts = [one for one in each if one is not None]
        if len(parts) < len(each):
            return own
        return sum(parts) if own is None else min(own, sum(parts))

    def _own_limit(self, outlet: int) -> Number | None:
        one = self._of(outlet)
        if self._clock.monotonic_s() < one.until_s:
            return one.force_a
        return self._safe_a(outlet) if one.safe else None

    def _on_in_force(self, outlet: int) -> int | None:
        if outlet == WHOLE and outlet not in self._targets:
            each = [self._on_in_force(number) for number in self._outlets]
            return None if None in each else int(1 in each)
        if self.refuses(outlet):
            return 0  # whatever it may draw, no session begins
        one = self._of(outlet)
        if self._own_limit(outlet) is None:
            return None
        return int(one.force_on or self._clock.monotonic_s() >= one.until_s)

    def _safe_a(self, outlet: int) -> Number:
        return self._state.settings.safe_a * (len(self._outlets) if outlet == WHOLE else 1)

    async def _limit_tx(self, outlet: int, wanted: Number, safe_a: Number, transaction: str) -> None:
        try:
            await self._writer.limit(outlet, wanted, safe_a, transaction)
        except CommandRejected:
            self._no_tx = True  # on this connection: the default profile is what there is

    async def _read_back(self, op: str, outlet: int, limit_a: Number) -> Number:
        """What is in force. Raises ``CommandRejected`` when a running session may draw more, ``Unavailable``."""
        if self._state.transaction(outlet) is None:
            return limit_a
        said = await self._writer.in_force(outlet)
        if said is None:
            return limit_a
        if said > limit_a + TOLERANCE_A:
            self._of(outlet).force_a = said
            text = f"{limit_a:g} A were accepted, the charger says that {said:.4g} A are in force"
            raise CommandRejected(op, Refusal.DEVICE_REFUSED, text)
        return min(said, limit_a) if abs(said - limit_a) > TOLERANCE_A else limit_a

    async def _stop(self, op: str, outlet: int) -> None:
        """End the running session of an outlet, where there is one."""
        transaction = self._state.transaction(outlet)
        if transaction is None:
            return
        link = self._state.link
        action = "RequestStopTransaction" if link.version.two else "RemoteStopTransaction"
        number: object = transaction if link.version.two else int(transaction)
        answer = await link.call(action, {"transactionId": number})
        if answer.get("status") != "Accepted":
            text = f"it answered {answer.get('status')} to the request to end its session"
            raise CommandRejected(op, Refusal.DEVICE_REFUSED, text)
        self._outlets[outlet].stopped = transaction

    async def _install_safe(self) -> None:
        self._to_safe = False
        for outlet in self._targets:
            if self._writer.level == 0 and self._wanted(outlet) is not None:
                await self._bring(outlet, again=True)  # one level: the safe limit is in it
            else:
                await self._writer.safe(outlet, self._safe_a(outlet))
                one = self._of(outlet)
                one.safe = True
                if self._writer.level == 0:  # in the place of any limit
                    one.until_s = -math.inf

    async def _repeat_due(self) -> None:
        """Set again what is due, or not known to the charger. Raises as ``set`` does, for the first that fails."""
        now_s = self._clock.monotonic_s()
        if self._to_safe:
            await self._install_safe()
        for outlet in (*self._outlets, WHOLE):
            one = self._of(outlet)
            due = now_s >= one.due_s
            stop = self.refuses(outlet) and self._state.transaction(outlet) not in {None, one.stopped}
            if not due and not stop and self._new_transaction(outlet) is None:
                continue
            try:
                if stop:
                    await self._stop(f"switch {self._state.settings.device} off", outlet)
                await self._bring(outlet, again=due)
            except CommandRejected as error:
                one.due_s = now_s + RETRY_S
                if not one.told:
                    one.told = True
                    self._state.tell("charger.refused", {"what": "limit", "outlet": outlet, "reason": error.reason})
                raise
            except DeviceError:
                one.due_s = now_s + RETRY_S
                raise

    @staticmethod
    def _forget(one: _Outlet) -> None:
        one.limit_a = one.on = one.written_a = one.tx = None
