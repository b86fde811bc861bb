"""One wire to Modbus devices: opened, closed, and asked one question at a time.

Rules of this file:

1. One question at a time (``line``). A wire is polled by one task, so who commands waits for one question at most.
2. ``close`` returns when the socket is closed, and ``open`` closes first: a device that takes one connection only never
   sees two of ours.
3. On a serial line a frame is followed by silence (3.5 characters; Modbus over Serial Line V1.02, 2.5.1.1), and what
   still comes behind an answer, or after a question's time, is waited out before the next one. Behind a serial server,
   whose line's speed is not known, that silence is ``SERVER_SILENCE_S``.
4. A connection that only seems to stand is not found out here: nobody answers then, and the poller opens it anew.
5. Many devices close a connection that nobody uses for some seconds, and gateways close theirs over a question that
   they don't like. Over TCP neither is the end of the wire: the next question opens it again, and only when that fails
   the wire is lost. Closed over a question, that one has no answer, which is its unit's affair. ``reopened`` tells it.
"""

import asyncio
import errno
import socket
import termios
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.clock import Clock
from agent.core.errors import BadData, NoAnswer, Unavailable, Unsupported
from drivers.line import is_pseudo
from drivers.modbus.frames import MbapScanner, Question, Reply, RtuScanner
from drivers.modbus.settings import ModbusUrl

if TYPE_CHECKING:
    from drivers.modbus.pymodbus_client import Client

CONNECT_S = 3.0
#: What comes after a question's time is waited out for so long, then the next one is asked regardless.
MAX_SETTLE_S = 1.0
#: 3.5 characters at 9600 baud, and a little.
SERVER_SILENCE_S = 0.005
#: The longest answer has 260 bytes: more than these hold none that is worth finding.
MAX_BYTES = 1024
_SILENT_CHARACTERS = 3.5
_LEAST_SILENCE_S = 0.00175
_SAMPLE_BYTES = 64


class Link:
    """A wire. ``counts`` gathers what went wrong, for whoever polls to hand on."""

    def __init__(self, url: ModbusUrl, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._client: Client | None = None
        self._scanner: MbapScanner | RtuScanner = MbapScanner()
        self._question: Question | None = None
        self._flooded = False  # more came than any answer has
        self.line = asyncio.Lock()  #: the right to ask
        self.reopened = False  #: the far end has closed it since the poller opened it, and let us in again
        self._busy_s = clock.monotonic_s()  # when there was last something on the wire
        self.counts: Counter[str] = Counter()
        bits = 1 + url.bytesize + (url.parity != "N") + url.stopbits
        self._character_s = bits / url.baud if url.scheme == "rtu" else 0.0
        self._silence_s = 0.0 if url.scheme == "tcp" else SERVER_SILENCE_S
        if url.scheme == "rtu":
            self._silence_s = max(_SILENT_CHARACTERS * self._character_s, _LEAST_SILENCE_S)

    @property
    def url(self) -> ModbusUrl:
        """Where it leads."""
        return self._url

    @property
    def tells_late_answers(self) -> bool:
        """Whether each answer says which question it belongs to."""
        return self._url.scheme == "tcp"

    async def open(self) -> None:
        """Open. Raises ``Unavailable`` or ``Unsupported``, and leaves nothing open then."""
        self.reopened = False
        await self._open()

    async def _open(self) -> None:
        from drivers.modbus.pymodbus_client import Client, checksum  # noqa: PLC0415 - 14 MB: only where Modbus is used

        await self.close()
        op = f"open {self._url.name}"
        self._scanner = MbapScanner(self.counts) if self.tells_late_answers else RtuScanner(self.counts, crc=checksum)
        try:
            client = self._client = Client(_as_the_port_takes_it(self._url), CONNECT_S, self._scan)
            await client.connect()
            _still_wanted()
        except OSError as error:
            await self.close()
            raise Unavailable(op, *_why(error)) from error
        except termios.error as error:
            await self.close()
            raise Unavailable(op, str(error.args[-1]), "is it a serial port, and can it have this framing?") from error
        except ValueError as error:
            await self.close()
            raise Unsupported(op, str(error), "check baud rate, parity and stop bits") from error
        except BaseException:
            await self.close()
            raise
        self._busy_s = self._clock.monotonic_s()

    async def close(self) -> None:
        """Close; also after a failed open, and twice. The socket is closed when it returns."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def ask(self, question: Question, timeout_s: float, pause_s: float = 0) -> Reply:
        """Ask, with the line held; what came back for it, also when that is an exception or wrong in itself.

        ``pause_s``: silence that the unit needs before. Raises ``NoAnswer``, ``BadData`` when something came in its
        time but no answer, ``Unavailable`` when the connection is gone.
        """
        client = await self._connected()
        silence_s = max(self._silence_s, pause_s)
        if silence_s:
            await self._settle(silence_s)
        transfer_s = (len(question.pdu) + question.length + 8) * self._character_s
        self._question = question
        self._flooded, self._scanner.strange = False, ""
        try:
            reply = await client.exchange(question, timeout_s + transfer_s)
        except ConnectionError as error:
            if self._url.scheme == "rtu":
                raise Unavailable(f"ask {self._url.name}", str(error), "it is opened again") from error
            self.counts["no_answer"] += 1
            raise NoAnswer(f"ask unit {question.unit} on {self._url.name}", str(error), "it is opened again") from error
        except asyncio.CancelledError:
            self._scanner.unanswered.append(client.tid)
            raise
        finally:
            self._question = None
            if silence_s:
                self._busy_s = self._clock.monotonic_s()
        if reply is None:
            raise self._nothing(question, client)
        if reply.fault:
            self.counts[f"bad.{reply.fault}"] += 1
        return reply

    async def _connected(self) -> "Client":
        """The connection, opened again when the far end has closed it. Raises ``Unavailable``."""
        client = self._client
        if client is not None and not client.connected and self._url.scheme != "rtu":
            await self._open()
            self.reopened = True
            self.counts["reopened"] += 1
            client = self._client
        if client is None:
            raise Unavailable(f"ask {self._url.name}", "the connection is closed")
        return client

    def _scan(self, data: bytes, tid: int) -> tuple[int, Reply | None]:
        """What arrived, looked at each time that there is more of it."""
        if self._silence_s:
            self._busy_s = self._clock.monotonic_s()
        if self._question is None:
            self.counts["unasked"] += 1
            return len(data), None
        if len(data) > MAX_BYTES:
            self._flooded = True
            return len(data), None
        return self._scanner.scan(data, self._question, tid)

    def _nothing(self, question: Question, client: "Client") -> NoAnswer | BadData:
        """The error for a question whose time is up."""
        op = f"ask unit {question.unit} on {self._url.name}"
        leftover = client.leftover
        fault = "too_long" if self._flooded else self._scanner.blame(leftover, question)
        self._scanner.unanswered.append(client.tid)
        if fault == "late":
            self.counts["late"] += 1
        elif fault:
            self.counts[f"bad.{fault}"] += 1
            sample = leftover[:_SAMPLE_BYTES].hex(" ") or "nothing"
            return BadData(op, f"{fault.replace('_', ' ')}, left over: {sample}", "check the wiring and the profile")
        self.counts["no_answer"] += 1
        return NoAnswer(op, "no answer in time", "is it on, is its unit id right, is timeout_s long enough?")

    async def _settle(self, silence_s: float) -> None:
        """Wait until the wire has been silent for so long."""
        give_up_s = self._clock.monotonic_s() + max(MAX_SETTLE_S, silence_s)
        while True:
            now_s = self._clock.monotonic_s()
            wait_s = self._busy_s + silence_s - now_s
            if wait_s <= 0 or now_s >= give_up_s:
                return
            await self._clock.sleep_s(wait_s)


def _as_the_port_takes_it(url: ModbusUrl) -> ModbusUrl:
    """A pseudo terminal (socat's, say) has no parity of its own, and refuses one: the far end's port has it."""
    if url.scheme == "rtu" and is_pseudo(url.host):
        return replace(url, parity="N", stopbits=1, bytesize=8)
    return url


def _still_wanted() -> None:
    """Python 3.11 may lose a cancellation that comes together with what ``wait_for`` waits for."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


#: Reason and hint of failed opens. An empty reason: what the system says.
_REASONS = {
    errno.ETIMEDOUT: ("nobody answers", "check the address, the network and whether the device is on"),
    errno.ECONNREFUSED: ("", "check the port, and whether Modbus is switched on in the device"),
    errno.ENOENT: ("there is no such port", "is the adapter plugged in? names under /dev/serial/by-id stay the same"),
    errno.EACCES: ("", "add the user that runs enlace to the group of the port (dialout)"),
    errno.EAGAIN: ("another program has it open", "end the other program, or take another port"),
    errno.EBUSY: ("another program has it open", "end the other program, or take another port"),
}


def _why(error: OSError) -> tuple[str, str]:
    """Reason and hint of a failed open."""
    text = error.strerror or str(error) or type(error).__name__
    if isinstance(error, socket.gaierror):
        return f"host name: {text}", "write an address, or check the name server"
    number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno
    if number is None and "lock" in text:  # pyserial's own words for a port that is open elsewhere
        number = errno.EBUSY
    reason, hint = _REASONS.get(number or 0, ("", "check address and cable"))
    return reason or text, hint
