"""What of a Modbus device can be set: written, read back, repeated, and set again after the device was away.

Rules of this file:

1. A device that was never commanded is never written to. Its set-up is written before the first command and its
   heartbeat begins with it; ``release`` ends both, so that the device's own watchdog takes over.
2. A command succeeds when the device says afterwards what was asked. It is given some tries to: many take a moment.
3. What was set is repeated every ``refresh_s`` by jobs of its own, and by ``catch_up`` where those are not run because
   reading fails. It is written again with the set-up after the device was away (``restore``): it may have been without
   power. A job that has nothing to ask does not exist: whoever polls would take it for an answer.
   A device that answers to reading only is read all the same: what has no answer here is tried less often then.
4. After an error nobody knows what the device has: that point is repeated no longer. A value that the device refused
   outright changes nothing: the one before it stays in force.
5. Between two writes lies ``write_pause_s``, whatever came of the first one: the second waits.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from agent.core.clock import Clock
from agent.core.errors import BadData, CommandRejected, DeviceError, NoAnswer, Refusal
from agent.core.model import Event, Number
from agent.core.points import find_point
from agent.core.ports import PollJob, Setting, Sink
from drivers.codec.registers import number_of
from drivers.codec.registers_block import span_of
from drivers.modbus.asker import Asker
from drivers.modbus.frames import exception_text, words_in
from drivers.modbus.model import ModbusPoint, ModbusProfile, ModbusSetting
from drivers.modbus.writing import Write, agrees, allowed, plain_write, read_value, setting_of, write_of

#: A device may need a moment until it says what was written.
READ_BACK_TRIES = 4
READ_BACK_PAUSE_S = 0.25
#: So many periods after it was last written, a value is repeated with whatever is asked next.
OVERDUE = 1.2
#: A device that takes no writes after it was away is tried again after so long, and then half as often each time.
RESTORE_S, MAX_RESTORE_S = 5.0, 60.0
_ACCEPTED = 5  #: the exception that says "it will be done"
_GATEWAY = (10, 11)


class Commander:
    """``Commandable`` of one device; its jobs and ``restore`` are run by whoever polls it."""

    def __init__(self, device: str, profile: ModbusProfile, asker: Asker, clock: Clock) -> None:
        self._device = device
        self._asker = asker
        self._clock = clock
        self._known = {setting.point: setting for setting in profile.settings}
        self._settings = MappingProxyType(
            {point: setting_of(device, setting, _unit(point)) for point, setting in self._known.items()}
        )
        self._setup = tuple(plain_write(write) for write in profile.setup)
        self._heartbeat = plain_write(profile.heartbeat) if profile.heartbeat else None
        self._heartbeat_s = profile.heartbeat_s
        self._write_pause_s = profile.write_pause_s
        self._next_write_s = -math.inf
        self._beat_s = -math.inf
        self._lock = asyncio.Lock()
        self._wanted: dict[str, tuple[Number, float]] = {}  # point -> value, when it was last written
        self._told: set[str] = set()
        self._away = False
        self._unheard = False  # the last try to catch up had no answer
        self._restore_pause_s, self._restore_s = RESTORE_S, -math.inf
        self.started = False  #: it was commanded, and not released since
        periods = {setting.refresh_s for setting in profile.settings if setting.refresh_s}
        if self._heartbeat is not None:
            periods.add(self._heartbeat_s)
        self._periods = {period: PollJob(period, self._repeater(period)) for period in sorted(periods)}
        self._jobs: tuple[PollJob, ...] = ()

    @property
    def jobs(self) -> tuple[PollJob, ...]:
        """What is repeated now; the same object as long as nothing about it changed."""
        return self._jobs

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What can be set, by point."""
        return self._settings

    async def set(self, point: str, value: Number) -> Number:
        """Set it, read it back, and repeat it; what the device says it is now.

        Raises ``CommandRejected``, ``NoAnswer``, ``BadData`` or ``Unavailable``.
        """
        op = f"set {self._device}.{point}"
        setting = self._known.get(point)
        if setting is None:
            hint = f"it has {', '.join(self._known)}"
            raise CommandRejected(op, Refusal.NOT_CAPABLE, "the device has no such setting", hint)
        able = allowed(setting, value) if math.isfinite(value) else None
        if able is None:
            hint = f"from {setting.min} to {setting.max}" + (", or 0" if setting.zero else "")
            raise CommandRejected(op, Refusal.OUT_OF_RANGE, f"{value} can't be set", hint)
        try:
            write = write_of(setting, able)
        except ValueError as error:
            raise CommandRejected(op, Refusal.OUT_OF_RANGE, str(error)) from error
        async with self._lock:
            if not self.started:
                await self._begin(op)
            return await self._set(op, setting, able, write)

    def release(self) -> None:
        """Stop repeating what was set."""
        self._wanted.clear()
        self._told.clear()
        self.started = self._away = False
        self._find_jobs()

    def forget(self) -> None:
        """The device was away, or the way to it: it may have lost what was set."""
        self._away = self.started
        self._restore_pause_s, self._restore_s = RESTORE_S, -math.inf

    async def restore(self, sink: Sink) -> None:
        """Set again what was set before a device was away that has just answered. Raises ``Unavailable``.

        One that does not answer to it is told, and tried again with a later answer: it is there, and is read.
        """
        if not self._away or self._lock.locked() or self._clock.monotonic_s() < self._restore_s:
            return
        async with self._lock:
            try:
                await self._restore(sink)
            except (NoAnswer, BadData) as error:
                self._restore_s = self._clock.monotonic_s() + self._restore_pause_s
                self._restore_pause_s = min(2 * self._restore_pause_s, MAX_RESTORE_S)
                self._tell("settings", error.reason, sink)
            else:
                self._away = False
                self._told.discard("settings")

    async def _restore(self, sink: Sink) -> None:
        op = f"set {self._device} again"
        try:
            await self._begin(op)
        except CommandRejected as error:
            self._tell("set-up", error.reason, sink)
        for point, (value, written_s) in list(self._wanted.items()):
            setting = self._known[point]
            try:
                await self._set(op, setting, value, write_of(setting, value))
            except CommandRejected as error:
                self._tell(point, error.reason, sink)
            except DeviceError:
                self._wanted[point] = value, written_s
                raise

    async def catch_up(self, sink: Sink) -> None:
        """Repeat what should have been repeated long ago. Raises ``DeviceError``; the next time it leaves it then."""
        if self._unheard:
            self._unheard = False
            return
        try:
            await self._catch_up(sink)
        except DeviceError:
            self._unheard = True
            raise

    async def _catch_up(self, sink: Sink) -> None:
        for period in self._periods:
            if self.started and self._oldest_s(period) < self._clock.monotonic_s() - OVERDUE * period:
                await self._repeat(period, sink)

    def _repeater(self, period: float) -> Callable[[Sink], Awaitable[None]]:
        return lambda sink: self._repeat(period, sink)

    async def _repeat(self, period: float, sink: Sink) -> None:
        """Write again what has this period."""
        async with self._lock:
            if self._heartbeat is not None and self.started and self._heartbeat_s == period:
                await self._write_again("heartbeat", self._heartbeat, sink)
                self._beat_s = self._clock.monotonic_s()
            for point in self._repeated(period):
                value, _ = self._wanted[point]
                await self._write_again(point, write_of(self._known[point], value), sink)
                if point in self._wanted:  # not released meanwhile
                    self._wanted[point] = value, self._clock.monotonic_s()

    def _repeated(self, period: float) -> list[str]:
        return [point for point in self._wanted if self._known[point].refresh_s == period]

    def _oldest_s(self, period: float) -> float:
        """When the oldest of what has this period was written; infinity for nothing."""
        written_s = [self._wanted[point][1] for point in self._repeated(period)]
        if self._heartbeat is not None and self._heartbeat_s == period:
            written_s.append(self._beat_s)
        return min(written_s, default=math.inf)

    def _find_jobs(self) -> None:
        """Bring ``jobs`` up to date."""
        active = [job for period, job in self._periods.items() if self.started and self._oldest_s(period) < math.inf]
        if active != list(self._jobs):
            self._jobs = tuple(active)

    async def _begin(self, op: str) -> None:
        """Write what must stand before commands. Raises as ``set`` does."""
        for write in self._setup:
            await self._write(op, write)
        if self._heartbeat is not None:
            await self._write(op, self._heartbeat)
            self._beat_s = self._clock.monotonic_s()
        self.started = True
        self._find_jobs()

    async def _set(self, op: str, setting: ModbusSetting, value: Number, write: Write) -> Number:
        before = self._wanted.pop(setting.point, None)
        try:
            try:
                await self._write(op, write)
            except CommandRejected:
                if before is not None:
                    self._wanted[setting.point] = before
                raise
            written_s = self._clock.monotonic_s()
            read = value if setting.read_back is None else await self._read_back(op, setting, setting.read_back, value)
            if self.started:  # not released meanwhile
                self._wanted[setting.point] = value, written_s
                self._told.discard(setting.point)
            return read
        finally:
            self._find_jobs()

    async def _read_back(self, op: str, setting: ModbusSetting, back: ModbusPoint, value: Number) -> Number:
        """What the device says of a setting now. Raises ``CommandRejected`` when it is not what was asked."""
        register = back.register
        read: Number | None = None
        for attempt in range(READ_BACK_TRIES):
            if attempt:
                await self._clock.sleep_s(READ_BACK_PAUSE_S)
            reply = await self._asker.read(span_of(register))
            if reply.fault:
                raise BadData(op, f"reading it back: {reply.fault.replace('_', ' ')}")
            if reply.exception:
                text = f"it was written, but can't be read back: {exception_text(reply.exception)}"
                raise CommandRejected(op, Refusal.DEVICE_REFUSED, text)
            raw = number_of(register, words_in(reply.data, register.table, register.count))
            read = None
            if raw is not None and not any(low <= raw <= high for low, high in back.missing):
                read = read_value(setting, raw)
            if read is not None and agrees(setting, value, read):
                return read
        said = "nothing that is known" if read is None else f"{read:g}"
        raise CommandRejected(op, Refusal.DEVICE_REFUSED, f"{value:g} was written, the device says {said}")

    async def _write(self, op: str, write: Write) -> None:
        """One writing question. Raises ``CommandRejected`` when the device refuses it."""
        wait_s = self._next_write_s - self._clock.monotonic_s()
        if wait_s > 0:
            await self._clock.sleep_s(wait_s)
        try:
            reply = await self._asker.write(write)
        finally:
            self._next_write_s = self._clock.monotonic_s() + self._write_pause_s
        if reply.fault:
            raise BadData(op, reply.fault.replace("_", " "))
        if reply.exception in _GATEWAY:
            raise NoAnswer(op, exception_text(reply.exception))
        if reply.exception and reply.exception != _ACCEPTED:
            raise CommandRejected(op, Refusal.DEVICE_REFUSED, exception_text(reply.exception))

    async def _write_again(self, what: str, write: Write, sink: Sink) -> None:
        """Repeat one writing question; a refusal is told once, until it is accepted again."""
        try:
            await self._write(f"repeat {what} of {self._device}", write)
        except CommandRejected as error:
            self._tell(what, error.reason, sink)
        else:
            self._told.discard(what)

    def _tell(self, what: str, reason: str, sink: Sink) -> None:
        if what not in self._told:
            self._told.add(what)
            data = {"what": what, "reason": reason}
            sink.event(Event("device.refuses", self._clock.now_us(), self._device, data))


def _unit(point: str) -> str:
    known = find_point(point)
    return known.unit if known else ""
