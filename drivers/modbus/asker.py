"""The questions to one unit, so that no late answer is ever taken for the answer to a later question.

Rules of this file:

1. On TCP each answer carries its question's number, and nothing is to do. RTU frames carry none (nor do those through a
   serial server): there, a question that was not answered in time may still be answered, at any later moment.
2. So a unit with unanswered questions is first *sounded*: it is asked something whose answer can't be mistaken for one
   to any of them (another function, or another length). What it says is thrown away. Units answer in order, so when
   that answer came, no older one can come any more.
3. An exception looks the same for all lengths: it counts as such an answer only if no unanswered question had its
   function. A unit that can't be sounded is left alone until its unanswered questions are ``TAINTED_S`` old.
"""

from collections.abc import Callable, Iterable, Iterator

from agent.core.clock import Clock
from agent.core.errors import NoAnswer
from drivers.codec.registers import BIT_TABLES
from drivers.codec.registers_pack import MAX_BITS, MAX_REGISTERS, Span
from drivers.modbus.frames import Question, Reply, read_question, write_question
from drivers.modbus.link import Link
from drivers.modbus.writing import Write

#: No answer comes later than this.
TAINTED_S = 60.0
#: Registers beyond what is wanted that a sounding may ask for, where nothing shorter is left.
_BEYOND = 4


class Asker:
    """Asks one unit. ``spans`` gives what the unit can be asked for, to sound it."""

    def __init__(
        self,
        link: Link,
        clock: Clock,
        unit: int,
        timeout_s: float,
        pause_s: float = 0.0,
        spans: Callable[[], Iterable[Span]] = tuple,
    ) -> None:
        self._link = link
        self._clock = clock
        self._unit = unit
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._spans = spans
        self._unanswered: dict[tuple[bytes, int], float] = {}  # how its answer looks -> when it was asked

    @property
    def place(self) -> str:
        """Whom it asks, for messages."""
        return f"unit {self._unit} on {self._link.url.name}"

    def question(self, span: Span) -> Question:
        """What asks for cells of a table; made once for what is asked again and again."""
        return read_question(self._unit, span)

    async def read(self, span: Span) -> Reply:
        """Ask for cells of a table. Raises what ``ask`` raises."""
        return await self.ask(self.question(span))

    async def write(self, write: Write) -> Reply:
        """Write. Raises what ``ask`` raises."""
        return await self.ask(write_question(self._unit, write))

    async def ask(self, question: Question) -> Reply:
        """Ask. Raises ``NoAnswer``, ``BadData`` when only nonsense came in its time, ``Unavailable``."""
        async with self._link.line:
            if self._link.tells_late_answers:
                return await self._link.ask(question, self._timeout_s, self._pause_s)
            if self._unanswered:
                await self._sound()
            return await self._exchange(question)

    async def _exchange(self, question: Question) -> Reply:
        key = (question.head, question.length)
        self._unanswered[key] = self._clock.monotonic_s()
        reply = await self._link.ask(question, self._timeout_s, self._pause_s)
        # Only reached with an answer: a time-out, a lost wire and a cancellation all leave the question unanswered.
        del self._unanswered[key]
        return reply

    async def _sound(self) -> None:
        """Find out that no older answer can come any more. Raises ``NoAnswer`` as long as that is not sure."""
        oldest_s = self._clock.monotonic_s() - TAINTED_S
        self._unanswered = {key: asked_s for key, asked_s in self._unanswered.items() if asked_s > oldest_s}
        if not self._unanswered:
            return
        op = f"ask {self.place}"
        question = next((one for one in self._soundings() if (one.head, one.length) not in self._unanswered), None)
        if question is None:
            raise NoAnswer(op, "a late answer could be mistaken for the next one's", "it is left alone for a minute")
        functions = {head[0] for head, _ in self._unanswered}
        reply = await self._exchange(question)
        if reply.exception and question.function in functions:
            self._unanswered[question.head, question.length] = self._clock.monotonic_s()
            raise NoAnswer(op, "its answer may be a late one", "it is asked again with another question")
        self._unanswered.clear()

    def _soundings(self) -> Iterator[Question]:
        """Questions that the unit should be able to answer, the likeliest first."""
        spans = list(self._spans())
        for span in spans:
            for count in range(span.count, 0, -1):
                yield read_question(self._unit, Span(span.table, span.address, count))
        for span in spans:
            limit = MAX_BITS if span.table in BIT_TABLES else MAX_REGISTERS
            for count in range(span.count + 1, min(span.count + _BEYOND, limit) + 1):
                yield read_question(self._unit, Span(span.table, span.address, count))
