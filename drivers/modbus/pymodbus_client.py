"""pymodbus, with all of its own will taken away: the only file that imports it, and it is imported late (14 MB).

Rules of this file:

1. The library brings the connection, the transaction numbers, the envelopes of what is sent and the time-out. What is
   an answer is decided by whoever gave ``scan``: our framer replaces the library's, whose checks are weaker and whose
   exceptions would end the connection.
2. No retries, no reconnecting, no counting of misses that closes the connection; its log is off, for all that goes
   wrong is raised here, once.
3. A connection that is lost ends the question on it at once; the library would let it wait for its time-out.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusIOException
from pymodbus.framer import FramerRTU, FramerSocket, FramerType
from pymodbus.pdu import DecodePDU, ModbusPDU

from drivers.modbus.frames import Question, Reply
from drivers.modbus.settings import ModbusUrl

#: Given what arrived and the transaction's number: how many bytes are done with, and the answer if it is there.
Scan = Callable[[bytes, int], tuple[int, Reply | None]]

#: A buffer this long holds no answer: the longest one has 260 bytes.
_BUFFER_BYTES = 1024
_NEVER = 1 << 30
_CLOSING_TURNS = 100


def checksum(data: bytes) -> int:
    """The CRC of an RTU frame, as the number that its two bytes make in the order in which they are sent."""
    return FramerRTU.compute_CRC(data)


class Client:
    """One connection. ``connect`` once; for another one make another client."""

    def __init__(self, url: ModbusUrl, connect_s: float, scan: Scan) -> None:
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)
        self._failed: OSError | None = None
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
        self._client.set_max_no_responses(_NEVER)
        self._ctx = self._client.ctx
        self._ctx.max_buffer_size = _BUFFER_BYTES
        self._ctx.framer = _MbapFramer(scan) if url.scheme == "tcp" else _RtuFramer(scan)
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
        if self._ctx.transport is None:
            raise ConnectionResetError("the connection was closed")
        self._ctx.comm_params.timeout_connect = timeout_s
        try:
            response: Any = await self._client.execute(False, _Request(question))
        except ModbusIOException:
            return None
        except ConnectionException as error:
            raise ConnectionResetError(str(error)) from error
        reply: Reply = response.reply
        return reply

    async def _remember(self) -> Any:  # noqa: ANN401 - what the library's own function gives
        """The library's way to connect, which would keep the reason of a failure to itself."""
        try:
            return await self._create()
        except OSError as error:
            self._failed = error
            raise

    def _connection(self, connected: bool) -> None:  # noqa: FBT001 - the library calls it so
        future = self._ctx.response_future
        if not connected and not future.done():
            future.set_exception(ConnectionResetError("the connection was closed by the other end"))
            future.exception()  # it is told to whoever asks; when nobody does, that is no mistake


class _Request(ModbusPDU):
    """A question as the library wants it."""

    def __init__(self, question: Question) -> None:
        super().__init__(dev_id=question.unit)
        self.function_code = question.pdu[0]
        self._data = question.pdu[1:]

    def encode(self) -> bytes:
        return self._data


class _Response(ModbusPDU):
    """An answer as the library hands it on."""

    def __init__(self, reply: Reply, unit: int, tid: int) -> None:
        super().__init__(dev_id=unit, transaction_id=tid)
        self.reply = reply


class _MbapFramer(FramerSocket):
    """Puts questions into MBAP frames, and leaves the finding of answers to ``scan``."""

    def __init__(self, scan: Scan) -> None:
        super().__init__(DecodePDU(is_server=False))
        self._scan = scan

    def handleFrame(self, data: bytes, exp_devid: int, exp_tid: int) -> tuple[int, ModbusPDU | None]:  # noqa: N802
        used, reply = self._scan(data, exp_tid)
        return used, None if reply is None else _Response(reply, exp_devid, exp_tid)


class _RtuFramer(FramerRTU):
    """The same for RTU frames."""

    def __init__(self, scan: Scan) -> None:
        super().__init__(DecodePDU(is_server=False))
        self._scan = scan

    def handleFrame(self, data: bytes, exp_devid: int, exp_tid: int) -> tuple[int, ModbusPDU | None]:  # noqa: N802
        used, reply = self._scan(data, exp_tid)
        return used, None if reply is None else _Response(reply, exp_devid, exp_tid)
