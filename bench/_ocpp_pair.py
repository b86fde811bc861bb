"""A charger without a socket: both ends of a connection in one process, for our link and for the package's."""

import asyncio
from collections import deque

from websockets.exceptions import ConnectionClosedOK

from bench._ocpp_charger import Script


class PairedSocket:
    """What a connection's reader and writer use of a WebSocket. The charger says the next thing when it was answered.

    ``stop`` ends it; ``recv`` then raises as a closed connection does.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._inbox: deque[str] = deque([script.next()])
        self._ready = asyncio.Event()
        self._ready.set()
        self._stopped = False
        self.transport = self

    async def recv(self, decode: bool | None = None) -> str | bytes:  # noqa: FBT001 - as the library has it
        """The next frame."""
        while not self._inbox:
            self._ready.clear()
            await self._ready.wait()
        if self._stopped:
            raise ConnectionClosedOK(None, None)
        text = self._inbox.popleft()
        return text.encode() if decode is False else text

    async def send(self, text: str) -> None:
        """A frame for the charger."""
        self._inbox.append(self._script.hear(text) or self._script.next())
        self._ready.set()

    async def ping(self) -> "asyncio.Future[float]":
        """Answered at once."""
        pong: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        pong.set_result(0.0)
        return pong

    async def close(self, code: int = 1000, reason: str = "") -> None:  # noqa: ARG002 - as the library has it
        """End it."""
        self.stop()

    def abort(self) -> None:
        """The same."""
        self.stop()

    def stop(self) -> None:
        """The charger is gone."""
        self._stopped = True
        self._inbox.append("")
        self._ready.set()
