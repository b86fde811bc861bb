"""One Modbus device as a ``PolledUnit``: its rounds of questions, and what its answers say of it.

Rules of this file:

1. Each answer is handed on as it comes, with its own time. An answer that breaks the protocol, or an exception, costs
   its own block only; the round goes on. Time that ran out ends the round: the others on the wire come first.
2. Exception 1, 2 or 3: the device lacks registers that its profile names. They are found (``ReadBlock.smaller``) and
   left out until the device was gone and is back; ``device.lacks`` tells which, once. A device that refuses all of its
   profile is asked for one block of it, and each time it is ``BadData``: it may be starting.
3. Exception 10 or 11 comes from a gateway: the device behind it does not answer. All other ones are the device's own
   troubles: it is asked again in the next round.
4. What the device says of itself is read once after it came (back), behind its first values; ``device.identity`` tells
   it when it is not what it was.
5. A device without a profile describes itself (SunSpec): then its first job is to be asked how.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from agent.core.clock import Clock
from agent.core.errors import BadData, NoAnswer, Unsupported
from agent.core.model import Event
from agent.core.ports import PollJob, Sink
from drivers.codec.registers import Register, Table, number_of, text_of
from drivers.codec.registers_block import Block, Exponents
from drivers.codec.registers_pack import Span
from drivers.modbus.asker import Asker
from drivers.modbus.blocks import ReadBlock, put_unknown
from drivers.modbus.command import Commander
from drivers.modbus.frames import Reply, exception_text, words_in
from drivers.modbus.link import Link
from drivers.modbus.model import ModbusDevice, ModbusProfile
from drivers.modbus.reading import place_of, rounds, spec_of

#: What makes a profile of a device that describes itself (``sunspec.discover``).
Discover = Callable[[Callable[[Table, int, int], Awaitable[list[int]]]], Awaitable[ModbusProfile]]

#: What a device that describes itself is asked first.
_SUNSPEC_MARKER = Span("holding", 40000, 2)
_NO_FUNCTION, _NO_ADDRESS, _NO_VALUE = 1, 2, 3
_LACKS = (_NO_FUNCTION, _NO_ADDRESS, _NO_VALUE)
_GATEWAY = (10, 11)


class _Round:
    """What is asked in one go. ``blocks`` shrink when the device lacks registers; ``whole`` is what they were."""

    def __init__(self, whole: Sequence[ReadBlock]) -> None:
        self.whole = tuple(whole)
        self.blocks = list(whole)
        self.refused = False  #: the device refuses all of it


class ModbusUnit:
    """One device. ``ids`` are the numbers of its profile's points, in their order; empty for one without profile."""

    def __init__(self, device: ModbusDevice, link: Link, ids: Sequence[int], clock: Clock, discover: Discover) -> None:
        self._device = device
        self._link = link
        self._clock = clock
        self._discover = discover
        pause_s = device.profile.pause_s if device.profile else 0.0
        self._asker = Asker(link, clock, device.unit_id, device.timeout_s, pause_s, self._soundings)
        self._profile: ModbusProfile | None = None
        self._ids: Sequence[int] = ()
        self._exponents: Exponents = {}
        self._rounds: list[_Round] = []
        self._commander: Commander | None = None
        self._identify = True
        self._reopened = False  # known that the far end closes the connection now and then
        self._identity: Mapping[str, object] = {}
        self._told: set[str] = set()
        self._reading: tuple[PollJob, ...] = (PollJob(device.every_s, self._discovered),)
        self._repeating: tuple[PollJob, ...] = ()
        self._jobs: tuple[PollJob, ...] = self._reading
        if device.profile is not None:
            if device.profile.settings:
                self._commander = Commander(device.id, device.profile, self._asker, clock)
            self._take(device.profile, ids)

    @property
    def device(self) -> str:
        """The id of the device."""
        return self._device.id

    @property
    def jobs(self) -> Sequence[PollJob]:
        """What it is asked; the same object as long as nothing about it changed."""
        if self._commander is not None and self._commander.jobs is not self._repeating:
            self._repeating = self._commander.jobs
            self._jobs = (*self._reading, *self._repeating)
        return self._jobs

    @property
    def timeout_s(self) -> float:
        """How long one answer may take."""
        return self._device.timeout_s

    @property
    def signals(self) -> Sequence[int]:
        """All that it can deliver by now."""
        return self._ids

    @property
    def commandable(self) -> Commander | None:
        """What can be set, if anything can."""
        return self._commander

    def forget(self) -> None:
        """It stopped answering, or the wire was opened anew."""
        self._identify = True
        self._reopened = False
        if self._device.profile is None:
            self._rounds = []
            self._jobs = (PollJob(self._device.every_s, self._discovered),)
        for one in self._rounds:
            one.blocks = list(one.whole)
            one.refused = False
            for block in one.blocks:
                block.forget()
        if self._commander is not None:
            self._commander.forget()

    # --- what is asked ---

    def _take(self, profile: ModbusProfile, ids: Sequence[int]) -> None:
        """From now on these points are read; ``ids`` are their numbers."""
        self._profile, self._ids = profile, tuple(ids)
        self._exponents = {}
        self._rounds = []
        jobs = []
        for one in rounds(profile, self._device.every_s):
            made = _Round([self._read_block(block) for block in one.blocks])
            self._rounds.append(made)
            jobs.append(PollJob(one.every_s, self._job(made)))
        self._jobs = self._reading = tuple(jobs)

    def _read_block(self, block: Block) -> ReadBlock:
        ids = [self._ids[place] for place in block.places]
        return ReadBlock(block, self._asker.question(block.span), ids, self._exponents)

    def _job(self, one: _Round) -> Callable[[Sink], Awaitable[None]]:
        async def run(sink: Sink) -> None:
            try:
                await self._run(one, sink)
            finally:
                self._hand_on_counts(sink)

        return run

    def _soundings(self) -> list[Span]:
        return [block.block.span for one in self._rounds for block in one.whole] or [_SUNSPEC_MARKER]

    # --- rounds ---

    async def _run(self, one: _Round, sink: Sink) -> None:
        first = one is self._rounds[0]
        if first and self._commander is not None:
            await self._commander.catch_up(sink)
        answered, fault, lacks = await self._ask_blocks(one, sink)
        if first and not answered and fault and (one.refused or not lacks):
            hint = "does the profile fit the device, is its unit id right?" if one.refused else ""
            raise BadData(f"read {self._asker.place}", fault, hint)
        self._tell_lacks(lacks, sink)
        if not first:
            return
        if self._link.reopened and not self._reopened:
            # It may have restarted, once. One that closes each idle connection must not be written to each time.
            self._reopened = self._identify = True
            if self._commander is not None:
                self._commander.forget()
        if self._identify:
            await self._read_identity(sink)
        if self._commander is not None:
            await self._commander.restore(sink)

    async def _ask_blocks(self, one: _Round, sink: Sink) -> tuple[bool, str, dict[str, str]]:
        """Ask for all blocks of a round: whether any was read, the last fault, and the points that the device lacks."""
        todo = deque(one.blocks)
        answered = False
        fault = ""
        lacks: dict[str, str] = {}
        while todo:
            block = todo.popleft()
            reply = await self._asker.ask(block.question)
            if not (reply.exception or reply.fault):
                answered = True
                block.put(reply.data, self._clock.now_us(), sink)
                if one.refused:
                    one.refused, one.blocks = False, list(one.whole)
                continue
            fault = self._note(reply, block, sink)
            if reply.exception in _LACKS and not one.refused:
                smaller = [] if reply.exception == _NO_FUNCTION else self._smaller(block)
                place = one.blocks.index(block)
                one.blocks[place : place + 1] = smaller
                todo.extendleft(reversed(smaller))
                if not smaller:
                    lacks |= dict.fromkeys(self._names(block), fault)
                    put_unknown(block.ids, self._clock.now_us(), sink)
        if one.whole and not one.blocks:
            one.refused, one.blocks = True, list(one.whole[:1])
        return answered, fault, lacks

    def _note(self, reply: Reply, block: ReadBlock, sink: Sink) -> str:
        """Count what was not an answer, and say it in words. Raises ``NoAnswer`` for a gateway's word."""
        if reply.fault:
            block.missed(self._clock.now_us(), sink)
            return reply.fault.replace("_", " ")
        self._link.counts[f"exception.{reply.exception}"] += 1
        if reply.exception in _GATEWAY:
            raise NoAnswer(
                f"read {self._asker.place}", exception_text(reply.exception), "is it on, is its unit id right?"
            )
        if reply.exception not in _LACKS:
            block.missed(self._clock.now_us(), sink)
        return exception_text(reply.exception)

    def _smaller(self, block: ReadBlock) -> list[ReadBlock]:
        assert self._profile is not None  # noqa: S101 - there are no blocks without
        return [self._read_block(one) for one in block.smaller(self._profile.max_registers)]

    def _names(self, block: ReadBlock) -> list[str]:
        assert self._profile is not None  # noqa: S101 - there are no blocks without
        return [self._profile.points[place].point for place in block.block.places]

    def _tell_lacks(self, lacks: Mapping[str, str], sink: Sink) -> None:
        new = {point: why for point, why in lacks.items() if point not in self._told}
        if not new or self._profile is None:
            return
        self._told.update(new)
        registers = {point.point: place_of(point.register) for point in self._profile.points}
        data = {point: f"{registers[point]}: {why}" for point, why in new.items()}
        sink.event(Event("device.lacks", self._clock.now_us(), self.device, {"points": data}))

    # --- what it says of itself ---

    async def _read_identity(self, sink: Sink) -> None:
        found: dict[str, object] = {}
        for name, register in (self._profile.identity if self._profile else {}).items():
            try:
                reply = await self._asker.read(Span(register.table, register.address, register.count))
            except (NoAnswer, BadData):
                break  # some devices say nothing to what they do not know: what they are is not worth losing them
            if reply.exception or reply.fault:
                continue
            words = words_in(reply.data, register.table, register.count)
            value = number_of(register, words) if isinstance(register, Register) else text_of(register, words)
            if value not in {None, ""}:
                found[name] = value
        self._identify = False
        if found and found != self._identity:
            self._identity = found
            sink.event(Event("device.identity", self._clock.now_us(), self.device, found))

    # --- devices that describe themselves ---

    async def _discovered(self, sink: Sink) -> None:
        """Ask the device what it has, and read it for the first time."""
        try:
            try:
                profile = await self._discover(self._registers)
            except Unsupported as error:
                if not self._ids:
                    raise
                # It did describe itself before: it may be starting.
                raise BadData(error.op, error.reason, error.hint) from error
            points = tuple(replace(point, every_s=None) for point in profile.points)
            profile = replace(profile, points=points)
            ids = await sink.declare([spec_of(self.device, point) for point in points])
            before = self._ids
            self._take(profile, ids)
            put_unknown([number for number in before if number not in ids], self._clock.now_us(), sink)
            await self._run(self._rounds[0], sink)
        finally:
            self._hand_on_counts(sink)

    async def _registers(self, table: Table, address: int, count: int) -> list[int]:
        """Registers of the device. Raises ``Unsupported`` where it refuses them."""
        op = f"read {table} {address} of {self._asker.place}"
        reply = await self._asker.read(Span(table, address, count))
        if reply.exception:
            self._link.counts[f"exception.{reply.exception}"] += 1
            if reply.exception in _LACKS:
                raise Unsupported(op, exception_text(reply.exception))
            raise NoAnswer(op, exception_text(reply.exception))
        if reply.fault:
            raise BadData(op, reply.fault.replace("_", " "))
        return words_in(reply.data, table, count)

    def _hand_on_counts(self, sink: Sink) -> None:
        counts = self._link.counts
        if counts:
            for name, amount in counts.items():
                sink.count(name, amount)
            counts.clear()
