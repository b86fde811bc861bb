"""One WebSocket connection to a charger: its calls are answered, ours are asked.

Rules of this file:

1. Three tasks, none of which waits for another: the reader takes frames and hands results to who waits for them, the
   worker lets the peer handle the charger's calls in order, one at a time, and the tender looks at the clock.
2. Every call is answered in time, whatever happens to its handling. But a message about a transaction or its energy
   never gets an error for a fault of ours: its charger would drop it. It gets more time, and then the connection is
   closed, for a charger repeats what was not answered.
3. A charger is slowed down before it is cut off: beyond the rate nothing is read for a while, and TCP holds it back.
   Long frames count as several. Who asks again before the answer has come, against 4.1.1 of OCPP-J 1.6, soon has no
   burst left; who waits for answers keeps it for its offline queue. No charger takes more than one frame in a turn of
   the loop.
4. What nobody waits for costs nothing: answers that are late, repeated or to no question are counted and dropped.
5. A call that comes again with the same id and text was not answered as far as its charger knows: it gets the same
   answer again and is not handled twice. But ids that never change do exist, so what must be fresh is handled anew.
6. Whatever was received is still handled when the connection has ended, though its answer goes nowhere.
7. Anything that a charger sends shows that it lives; a pong is only needed when it is quiet.
"""

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from agent.core.clock import Clock
from agent.core.errors import BadData, CommandRejected, NoAnswer, Refusal, Unavailable
from drivers.codec.ocpp_frame import (
    BadFrame,
    CallFrame,
    ErrorFrame,
    Frame,
    ResultFrame,
    pack_call,
    pack_error,
    pack_result,
    unpack,
)
from drivers.codec.ocpp_model import Version
from drivers.ocpp.ports import Call, Fault, Payload, Peer
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.throttle import Budget
from drivers.waiting import within

log = logging.getLogger(__name__)

#: What a charger drops for good when it gets an error for it (OCPP 1.6, 3.7.1 and 4.8; 2.0.1 part 2, E04).
ESSENTIAL = frozenset({"StartTransaction", "StopTransaction", "TransactionEvent", "MeterValues"})
#: Some chargers send these on a 2.x connection; the peer knows which.
ALSO_ON_2 = frozenset({"StartTransaction", "StopTransaction"})
#: Handled as often as they come: a time and a verdict grow old.
FRESH = frozenset({"Heartbeat", "Authorize"})
#: Codes that 2.x spells in another way.
CODES_2 = {
    "FormationViolation": "FormatViolation",
    "OccurenceConstraintViolation": "OccurrenceConstraintViolation",
}
NOT_CAPABLE = frozenset({"NotImplemented", "NotSupported"})

TICK_S = 1.0
CLOSE_S = 2.0
#: What was received before the connection ended is handled for so long.
DRAIN_S = 2.0
#: A quiet charger is gone after so many ping intervals.
SILENT_PINGS = 1.5
#: How many answers are kept for calls that come again.
KEPT_ANSWERS = 16
MAX_REASON = 120

POLICY, FAILED = 1008, 1011


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What one connection may take. Frames above the rate wait; ``burst`` of them don't."""

    rate_per_s: float = 100.0
    burst: int = 2000
    early: float = 20.0  #: what a call takes of the burst that comes before the answer to the one before it
    frame_bytes: int = 1024  #: a longer frame counts as several: what it costs grows with its length
    queue: int = 64  #: calls that wait to be handled; then nothing more is read,
    full_s: float = 30.0  #: and after so long without room the connection is closed
    handle_s: float = 3.5  #: the peer's time for a call; with the tick and the way the answer leaves within 5 s
    essential_s: float = 30.0  #: the same for messages about transactions


class WsLink:
    """``Link`` over a connection that is open.

    ``count`` gets what happens on it; ``told`` holds which faults of ours were logged, for all connections together;
    ``budget`` is the charger's, for all connections that it makes.
    """

    def __init__(  # noqa: PLR0913 - what a connection is made of
        self,
        websocket: Connection,
        identity: str,
        version: Version,
        address: str,
        clock: Clock,
        schemas: Schemas,
        count: Callable[[str, int], None],
        *,
        call_timeout_s: float = 30.0,
        ping_s: float = 30.0,
        limits: LinkLimits | None = None,
        told: set[str] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.identity = identity
        self.version = version
        self.address = address
        self._websocket = websocket
        self._clock = clock
        self._schemas = schemas
        self._count = count
        self._call_timeout_s = call_timeout_s
        self._ping_s = ping_s
        self._limits = limits or LinkLimits()
        self._budget = budget or Budget(clock, self._limits.burst, self._limits.rate_per_s)
        self._queue: asyncio.Queue[tuple[CallFrame, str]] = asyncio.Queue(self._limits.queue)
        self._unanswered = 0  #: its calls
        self._asking = asyncio.Lock()
        self._asked: tuple[str, asyncio.Future[Payload]] | None = None
        self._answers: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._handling: tuple[asyncio.Task[Payload | Fault], float] | None = None
        self._pinging: asyncio.Task[bool] | None = None
        self._heard_s = clock.monotonic_s()
        self._pinged_s = self._heard_s
        self._told = set() if told is None else told
        self._garbled = False
        self._ended = False

    async def _drained(self, worker: asyncio.Task[None]) -> None:
        """All that was received is handled, or nothing of it will be any more."""
        joined = asyncio.create_task(self._queue.join())
        try:
            await asyncio.wait({worker, joined}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            joined.cancel()

    def set_ping(self, seconds: float) -> None:
        """Another ping interval: some models need one of at most 90 s to stay connected."""
        self._ping_s = seconds

    async def run(self, peer: Peer) -> None:
        """Read and answer until the connection has ended."""
        reader = asyncio.create_task(self._read())
        worker = asyncio.create_task(self._work(peer))
        tender = asyncio.create_task(self._tend())
        try:
            await asyncio.wait({reader, worker, tender}, return_when=asyncio.FIRST_COMPLETED)
            self._end()
            await within(self._clock, DRAIN_S, self._drained(worker))
        finally:
            self._end()
            tasks = [task for task in (reader, worker, tender, self._pinging) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close(FAILED, "")
        for task in (reader, worker, tender):
            if not task.cancelled():
                task.result()

    async def call(self, action: str, payload: Payload, timeout_s: float | None = None) -> Payload:
        """Ask the charger; see ``Link.call``. Who asks while another one waits for an answer waits for that first."""
        broken = self._schemas.deviation(self.version, action, payload, strict=True)
        if broken:
            raise ValueError(f"{action}: {broken}")
        op = f"{action} of {self.identity}"
        async with self._asking:
            if self._ended:
                raise Unavailable(op, "the connection is gone")
            id_ = str(uuid.uuid4())
            future: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
            self._asked = id_, future
            try:
                seconds = self._call_timeout_s if timeout_s is None else timeout_s
                answer = await within(self._clock, seconds, self._ask(op, pack_call(id_, action, payload), future))
            finally:
                self._asked = None
                if not future.cancel() and not future.cancelled():
                    future.exception()  # looked at, should nobody have waited any more
        if answer is None:
            self._count("no_answer", 1)
            raise NoAnswer(op, f"no answer within {seconds:g} s")
        if self._schemas.deviation(self.version, action, answer, result=True):
            self._count("bad.result", 1)
            missing = self._schemas.missing(self.version, action, answer)
            if missing:
                raise BadData(op, f"its answer lacks {', '.join(missing)}")
        return answer

    async def close(self, code: int, reason: str) -> None:
        """End the connection, within 2 s also when the charger does not take part in it."""
        self._end()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._websocket.close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))
        except TimeoutError:
            self._websocket.transport.abort()

    async def answers(self, seconds: float) -> bool:
        """Whether the charger answers a ping within that time."""
        return bool(await within(self._clock, seconds, self._ping()))

    def _end(self) -> None:
        """Nothing is asked any more, and who waits for an answer learns that none will come."""
        self._ended = True
        if self._asked is not None and not self._asked[1].done():
            self._asked[1].set_exception(Unavailable(f"ask {self.identity}", "the connection is gone"))

    async def _ask(self, op: str, text: str, future: asyncio.Future[Payload]) -> Payload:
        if not await self._send(text):
            raise Unavailable(op, "the connection is gone")
        return await future

    async def _send(self, text: str) -> bool:
        try:
            await self._websocket.send(text)
        except ConnectionClosed:
            return False
        self._count("sent", 1)
        return True

    # The reader

    async def _read(self) -> None:
        await self._rest(self._budget.debt_s())  # what the connection before took too much
        while True:
            try:
                data = await self._websocket.recv(decode=False)
            except ConnectionClosed:
                return
            self._heard_s = self._clock.monotonic_s()
            self._count("frames", 1)
            text = data.decode("utf-8", "replace")
            frame = unpack(text)
            wait_s = self._budget.spend(max(1.0, len(data) / self._limits.frame_bytes), self._early(frame))
            if not await self._take(frame, text):
                return
            await self._rest(wait_s)

    async def _rest(self, seconds: float) -> None:
        if seconds > 0:
            self._count("slowed", 1)
            await self._clock.sleep_s(seconds)
        else:
            await asyncio.sleep(0)  # frames that wait in the buffer don't make the loop turn

    def _early(self, frame: Frame) -> float:
        """What it takes of the burst for coming before its time."""
        if not isinstance(frame, CallFrame) or frame.send or not self._unanswered:
            return 0.0
        self._count("early", 1)
        return self._limits.early

    async def _take(self, frame: Frame, text: str) -> bool:
        """Deal with a frame; False when the connection was closed for it."""
        if isinstance(frame, CallFrame):
            return await self._queue_up(frame, text)
        if isinstance(frame, BadFrame):
            await self._bad(frame)
        elif isinstance(frame, ResultFrame):
            self._answered(frame.id, frame.payload)
        else:
            self._refused(frame)
        return True

    async def _queue_up(self, frame: CallFrame, text: str) -> bool:
        self._unanswered += not frame.send
        if self._queue.full():
            self._count("overflow", 1)
            if not await within(self._clock, self._limits.full_s, self._put(frame, text)):
                await self.close(POLICY, "more calls than can be handled")
                return False
            return True
        self._queue.put_nowait((frame, text))
        return True

    async def _put(self, frame: CallFrame, text: str) -> bool:
        await self._queue.put((frame, text))
        return True

    def _waiting(self, id_: str | None) -> asyncio.Future[Payload] | None:
        """Who waits for this answer; nobody for those that are late, repeated or to no question."""
        if self._asked is not None and self._asked[0] == id_ and not self._asked[1].done():
            return self._asked[1]
        self._count("unsolicited", 1)
        return None

    def _answered(self, id_: str, payload: Payload) -> None:
        waiting = self._waiting(id_)
        if waiting is not None:
            waiting.set_result(payload)

    def _refused(self, frame: ErrorFrame) -> None:
        if frame.of_result:
            self._count("bad.answer", 1)
            self._tell_once(frame.code, f"{self.identity} can't use an answer of ours: {frame.code}")
            return
        waiting = self._waiting(frame.id)
        if waiting is not None:
            refusal = Refusal.NOT_CAPABLE if frame.code in NOT_CAPABLE else Refusal.DEVICE_REFUSED
            reason = ": ".join(part for part in (frame.code, frame.description) if part) or "an error without a code"
            waiting.set_exception(CommandRejected(f"ask {self.identity}", refusal, reason[:255]))

    async def _bad(self, frame: BadFrame) -> None:
        self._count("bad.frame", 1)
        if not self._garbled:
            self._garbled = True
            log.info("%s sent what is no OCPP message: %s", self.identity, frame.reason)
        if not frame.reply:
            waiting = self._waiting(frame.id)
            if waiting is not None:
                waiting.set_exception(BadData(f"ask {self.identity}", frame.reason))
        elif self.version.two:
            # 2.0.1 part 4, 4.2.3: "-1" where the message id can't be read.
            code = "RpcFrameworkError" if frame.id is None else "FormatViolation"
            await self._send(pack_error("-1" if frame.id is None else frame.id, code, frame.reason))
        elif frame.id is not None:
            await self._send(pack_error(frame.id, "FormationViolation", frame.reason))

    # The worker

    async def _work(self, peer: Peer) -> None:
        while True:
            frame, text = await self._queue.get()
            answer = await self._answer(peer, frame, text)
            if answer is None:
                return  # what waits behind it comes again after it
            if not frame.send:
                self._unanswered -= 1  # before it is sent: the next call may be here before we are back
                await self._send(answer)
            self._queue.task_done()

    async def _answer(self, peer: Peer, frame: CallFrame, text: str) -> str | None:
        """What is sent back; None when the connection was closed instead."""
        mark = hash(text)
        known = self._answers.get(frame.id)
        if known is not None and known[0] == mark and frame.action not in FRESH:
            self._count("repeated", 1)
            return known[1]
        spoken = self._spoken(frame.action)
        if spoken is None:
            self._count("unknown_action", 1)
            return pack_error(frame.id, "NotImplemented", f"{self.version} has no {frame.action}")
        deviation = self._schemas.deviation(spoken, frame.action, frame.payload)
        if spoken is not self.version:
            deviation = deviation or f"a message of {spoken}"
        if deviation:
            self._count("bad.payload", 1)
        outcome = await self._handled(peer, Call(frame.id, frame.action, frame.payload, deviation, text))
        if isinstance(outcome, Fault):
            code = CODES_2.get(outcome.code, outcome.code) if self.version.two else outcome.code
            return pack_error(frame.id, code, outcome.description)
        answer = None if outcome is None else self._result(spoken, frame, outcome)
        if answer is not None:
            self._answers[frame.id] = mark, answer
            if len(self._answers) > KEPT_ANSWERS:
                self._answers.popitem(last=False)
            return answer
        if frame.action in ESSENTIAL:
            await self.close(FAILED, f"{frame.action} could not be handled: please repeat it")
            return None
        return pack_error(frame.id, "InternalError", "could not be handled")

    def _spoken(self, action: str) -> Version | None:
        """Which version this message is of; None: of none that may come here."""
        if self._schemas.knows(self.version, action):
            return self.version
        return Version.V16 if self.version.two and action in ALSO_ON_2 else None

    async def _handled(self, peer: Peer, call: Call) -> Payload | Fault | None:
        """What the peer answers; None when it took too long or failed, which is a fault of ours."""
        limit_s = self._limits.essential_s if call.action in ESSENTIAL else self._limits.handle_s
        task = asyncio.ensure_future(peer.handle(call))
        self._handling = task, self._clock.monotonic_s() + limit_s
        try:
            await asyncio.wait({task})
        finally:
            self._handling = None
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            self._count("late", 1)
            return None
        error = task.exception()
        if error is not None:
            self._count("bad.handling", 1)
            self._tell_once(call.action, f"{call.action} of {self.identity} could not be handled", error)
            return None
        return task.result()

    def _result(self, spoken: Version, frame: CallFrame, payload: Payload) -> str | None:
        """The answer as text. One that breaks its schema is a fault of ours: it is only sent for what is essential."""
        deviation = self._schemas.deviation(spoken, frame.action, payload, result=True, strict=True)
        try:
            text = pack_result(frame.id, payload)
        except ValueError as error:
            deviation, text = str(error), ""
        if deviation and not frame.send:
            self._count("bad.answer", 1)
            self._tell_once(frame.action, f"the answer to {frame.action} breaks its schema: {deviation}")
            if frame.action not in ESSENTIAL or not text:
                return None
        return text

    def _tell_once(self, about: str, text: str, error: BaseException | None = None) -> None:
        if about not in self._told:
            self._told.add(about)
            log.error("%s", text, exc_info=error)

    # The tender

    async def _tend(self) -> None:
        while True:
            await self._clock.sleep_s(TICK_S)
            now_s = self._clock.monotonic_s()
            if self._handling is not None and now_s >= self._handling[1]:
                self._handling[0].cancel()
            if now_s - self._heard_s > SILENT_PINGS * self._ping_s:
                self._count("silent", 1)
                await self.close(FAILED, "no answer to pings")
                return
            if now_s - self._pinged_s >= self._ping_s:
                self._pinged_s = now_s
                if self._pinging is not None:
                    self._pinging.cancel()  # a later pong speaks for it
                self._pinging = asyncio.create_task(self._ping())

    async def _ping(self) -> bool:
        try:
            await (await self._websocket.ping())
        except ConnectionClosed:
            return False
        self._heard_s = self._clock.monotonic_s()
        return True
