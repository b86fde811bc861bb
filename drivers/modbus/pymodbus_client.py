"""pymodbus, with all of its own will taken away: the only file that imports it, and it is imported late (14 MB).

Rules of this file:

1. The library brings the connection (TCP and serial), the transaction numbers and the frames of what is sent. What is
   an answer is decided by whoever gave ``scan``: the library's own checks are weaker, and raise exceptions that would
   end the connection. So what arrives goes past its framer, and past the record that it keeps of all bytes.
2. Waiting for the answer is done here too: no retries, no reconnecting, no counting of misses that closes the
   connection, and a connection that is lost ends the question on it at once. The library's log is off, for all that
   goes wrong is raised here, once.
3. Whoever asks waits until the answer is there before he asks again: ``link.py`` sees to that.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.framer import FramerRTU, FramerType
from pymodbus.pdu import ModbusPDU

from drivers.modbus.frames import Question, Reply
from drivers.modbus.settings import ModbusUrl

#: Given what arrived and the transaction's number: how many bytes are done with, and the answer if it is there.
Scan = Callable[[bytes, int], tuple[int, Reply | None]]

_CLOSING_TURNS = 100


def checksum(data: bytes) -> int:
    """The CRC of an RTU frame, as the number that its two bytes make in the order in which they are sent."""
    return FramerRTU.compute_CRC(data)


class Client:
    """One connection. ``connect`` once; for another one make another client."""

    def __init__(self, url: ModbusUrl, connect_s: float, scan: Scan) -> None:
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)
        self._failed: OSError | None = None
        self._answer: asyncio.Future[Reply | None] | None = None
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient
        framer = FramerType.SOCKET if url.scheme == "tcp" else FramerType.RTU
        if url.scheme == "rtu":
            self._client = AsyncModbusSerialClient(
                url.host,
                framer=framer,
                baudrate=url.baud,
                bytesize=url.bytesize,
                parity=url.parity,
                stopbits=url.stopbits,
                reconnect_delay=0,
                timeout=connect_s,
                retries=0,
                trace_connect=self._connection,
            )
        else:
            self._client = AsyncModbusTcpClient(
                url.host,
                port=url.port,
                framer=framer,
                reconnect_delay=0,
                timeout=connect_s,
                retries=0,
                trace_connect=self._connection,
            )
        self._ctx = self._client.ctx
        self._ctx.data_received = self._received  # type: ignore[method-assign]
        self._ctx.low_level_send = self._send
        self._scan = scan
        self._create = self._ctx.call_create
        self._ctx.call_create = self._remember

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._ctx.transport is not None

    @property
    def tid(self) -> int:
        """The number of the last transaction; always 0 for RTU frames."""
        return self._ctx.request_transaction_id

    @property
    def leftover(self) -> bytes:
        """What arrived since the last question was sent and was no answer."""
        return self._ctx.recv_buffer

    async def connect(self) -> None:
        """Connect. Raises ``OSError`` (``TimeoutError`` too), ``ValueError`` for settings that no port has."""
        if not await self._client.connect():
            raise self._failed or TimeoutError("no connection in time")
        # A serial transport begins to read in the next turns of the loop, and can't be closed before it did.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Close; also twice. The socket is closed when it returns."""
        transport = self._ctx.transport
        self._client.close()
        if not isinstance(transport, asyncio.Transport):
            return
        socket = transport.get_extra_info("socket")
        transport.abort()  # what waits to be sent to a peer that does not read must not hold the socket
        for _ in range(_CLOSING_TURNS):
            if socket is None or socket.fileno() < 0:
                return
            await asyncio.sleep(0)

    async def exchange(self, question: Question, timeout_s: float) -> Reply | None:
        """Send a question; what ``scan`` found to be its answer, or None when the time is up.

        Raises ``ConnectionError`` when there is no connection, or no longer.
        """
        ctx = self._ctx
        if ctx.transport is None:
            raise ConnectionResetError("the connection was closed")
        loop = ctx.loop
        answer: asyncio.Future[Reply | None] = loop.create_future()
        self._answer = answer
        request = _Request(question)
        request.transaction_id = ctx.getNextTID()
        ctx.recv_buffer = b""
        timer = loop.call_later(timeout_s, _time_is_up, answer)
        try:
            ctx.pdu_send(request)
            return await answer
        finally:
            timer.cancel()
            self._answer = None

    def _send(self, data: bytes, addr: tuple[str, int] | None = None) -> None:  # noqa: ARG002 - the library's call
        transport: Any = self._ctx.transport
        if transport is not None:
            transport.write(data)

    def _received(self, data: bytes) -> None:
        ctx = self._ctx
        buffer = ctx.recv_buffer + data
        used, reply = self._scan(buffer, ctx.request_transaction_id)
        ctx.recv_buffer = buffer[used:]
        if reply is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(reply)

    async def _remember(self) -> Any:  # noqa: ANN401 - what the library's own function gives
        """The library's way to connect, which would keep the reason of a failure to itself."""
        try:
            return await self._create()
        except OSError as error:
            self._failed = error
            raise

    def _connection(self, connected: bool) -> None:  # noqa: FBT001 - the library calls it so
        if not connected and self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection was closed by the other end"))


def _time_is_up(answer: "asyncio.Future[Reply | None]") -> None:
    if not answer.done():
        answer.set_result(None)


class _Request(ModbusPDU):
    """A question as the library wants it."""

    def __init__(self, question: Question) -> None:
        super().__init__(dev_id=question.unit)
        self.function_code = question.pdu[0]
        self._data = question.pdu[1:]

    def encode(self) -> bytes:
        return self._data
