"""Asking units that nobody knows yet, one question at a time, over any line.

The driver's own ``link.py`` is not used here: a search changes the speed of an open port again and again, asks for
answers of any length (function 43/14), and wants to know whose late answers it hears.
"""

import asyncio
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass

from agent.core.clock import Clock
from drivers.line import Line
from drivers.modbus.scan_frames import (
    Question,
    identification,
    identify_pdu,
    mbap_answer,
    mbap_frame,
    rtu_answers,
    rtu_frame,
)

#: Exceptions of a gateway whose unit is not there (Modbus Application Protocol V1.1b3, 7).
NO_PATH, NO_TARGET = 0x0A, 0x0B
_EXCEPTION = 0x80
_MAX_WAITING = 512
_MAX_ROUNDS = 8
_BITS = 11  #: of a character in RTU
#: An answer to the question for identification has no fixed length; it may be as long as a frame.
_LONGEST = 250
_BASIC, _REGULAR = 1, 2


@dataclass(frozen=True, slots=True)
class Refused:
    """The unit is there, and answers with an exception."""

    code: int


#: The registers; what the unit said instead; None: it said nothing.
Answer = tuple[int, ...] | Refused | None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an answer may take, beside its time on the wire, and the silence between two questions in RTU."""

    timeout_s: float
    pause_s: float = 0.01


class Asker:
    """One question at a time. Every method raises what the line raises, and ``BadData`` when TCP brings no Modbus.

    ``baud`` 0: MBAP frames; otherwise RTU frames at that speed (of a serial server: about that speed).
    ``shy``: units that are not asked who they are.
    """

    def __init__(
        self, line: Line, patience: Patience, clock: Clock, baud: int = 0, shy: Container[int] = frozenset()
    ) -> None:
        self._line = line
        self._patience = patience
        self._clock = clock
        self._baud = baud
        self._shy = shy
        self._stream = bytearray()
        self._transaction = 0
        self._owing: int | None = None  #: the unit whose answer did not come, and still may
        self._unanswered = b""  #: what it was asked
        self.late: set[int] = set()  #: units that answered when others were asked
        self.heard = 0  #: bytes that came, whatever they were

    async def read(self, unit: int, question: Question) -> Answer:
        """What a unit has in its registers."""
        pdu = await self._ask(unit, question.pdu, question.answer_bytes)
        if pdu is None:
            return None
        return Refused(pdu[1]) if pdu[0] & _EXCEPTION else question.words(pdu)

    async def identify(self, unit: int) -> dict[int, str]:
        """What a unit says of itself by function 43/14: texts by object number; empty when it does not know it."""
        found: dict[int, str] = {}
        for code in () if unit in self._shy else (_BASIC, _REGULAR):
            following: int | None = 0
            for _ in range(_MAX_ROUNDS):
                if following is None:
                    break
                pdu = await self._ask(unit, identify_pdu(code, following), _LONGEST)
                if pdu is None or pdu[0] & _EXCEPTION:
                    return found
                objects, following = identification(pdu)
                found |= objects
        return found

    async def linger(self) -> None:
        """Hear the late answer of the unit that was asked last, in RTU: no question follows that would hear it."""
        if self._owing is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hear_late(self._owing), self._patience.timeout_s)

    async def _hear_late(self, unit: int) -> None:
        waiting = b""
        while unit not in self.late:
            waiting = (waiting + await self._hear())[-_MAX_WAITING:]
            self.late.update(answering for answering, _ in rtu_answers(waiting, self._unanswered))

    async def _ask(self, unit: int, pdu: bytes, answer_bytes: int) -> bytes | None:
        try:
            if self._baud:
                return await self._ask_rtu(unit, pdu, answer_bytes)
            return await self._ask_mbap(unit, pdu)
        except TimeoutError:
            self._owing, self._unanswered = unit, pdu
            return None

    async def _ask_mbap(self, unit: int, pdu: bytes) -> bytes:
        self._transaction = self._transaction % 0xFFFF + 1
        await self._line.write(mbap_frame(self._transaction, unit, pdu))
        async with asyncio.timeout(self._patience.timeout_s):
            while True:
                answer = mbap_answer(self._stream, self._transaction, unit, pdu)
                if answer is not None:
                    return answer
                self._stream += await self._hear()

    async def _ask_rtu(self, unit: int, pdu: bytes, answer_bytes: int) -> bytes:
        if self._owing == unit:
            # RTU can't tell a late answer from the right one: wait for it, and throw it away.
            await self._clock.sleep_s(self._patience.timeout_s)
            self._line.drain()
        self._owing = None
        await self._clock.sleep_s(self._patience.pause_s)
        question = rtu_frame(unit, pdu)
        waiting = b""
        await self._line.write(question)
        on_wire_s = _BITS * (len(question) + answer_bytes + 5) / self._baud
        async with asyncio.timeout(self._patience.timeout_s + on_wire_s):
            while True:
                waiting = (waiting + await self._hear())[-_MAX_WAITING:]
                for answering, answer in rtu_answers(waiting, pdu):
                    if answering == unit:
                        return answer
                    self.late.add(answering)

    async def _hear(self) -> bytes:
        data = await self._line.read()
        self.heard += len(data)
        return data
