"""The other end of ``bench/modbus.py``: Modbus TCP devices in a process of their own, as cheap as they can be."""

import asyncio
from multiprocessing.connection import Connection

#: Requests that read registers have 12 bytes (Modbus Messaging on TCP/IP V1.0b, 3.1.3 and 6.3 of the protocol).
_REQUEST = 12


class _Device(asyncio.Protocol):
    """Answers each question; the first ``changing`` registers are other ones each time."""

    def __init__(self, changing: int, service_s: float, mute: set[int]) -> None:
        self._changing = changing
        self._service_s = service_s
        self._mute = mute
        self._asked = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _REQUEST:
            question, self._buffer = self._buffer[:_REQUEST], self._buffer[_REQUEST:]
            if question[6] in self._mute:
                continue
            answer = self._answer(question)
            if self._service_s:
                asyncio.get_running_loop().call_later(self._service_s, self._transport.write, answer)
            else:
                self._transport.write(answer)

    def _answer(self, question: bytes) -> bytes:
        count = int.from_bytes(question[10:12], "big")
        self._asked = (self._asked + 1) & 0x7FFF
        changing = min(self._changing, count)
        words = self._asked.to_bytes(2, "big") * changing + b"\x00\x07" * (count - changing)
        length = (3 + len(words)).to_bytes(2, "big")
        return question[:4] + length + question[6:8] + bytes((len(words),)) + words


def serve(devices: int, changing: int, service_s: float, control: Connection) -> None:
    """Serve until ``control`` is closed. Tells the ports, then takes the sets of units that do not answer."""
    asyncio.run(_serve(devices, changing, service_s, control))


async def _serve(devices: int, changing: int, service_s: float, control: Connection) -> None:
    loop = asyncio.get_running_loop()
    mute: set[int] = set()
    ended = asyncio.Event()

    def told() -> None:
        try:
            mute.clear()
            mute.update(control.recv())
        except EOFError:
            loop.remove_reader(control.fileno())
            ended.set()

    servers = [
        await loop.create_server(lambda: _Device(changing, service_s, mute), "127.0.0.1", 0) for _ in range(devices)
    ]
    control.send([server.sockets[0].getsockname()[1] for server in servers])
    loop.add_reader(control.fileno(), told)
    await ended.wait()
    for server in servers:
        server.close()
