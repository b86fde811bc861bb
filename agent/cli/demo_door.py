"""The unix socket on which the demo's director is asked: one line of JSON there, one back, and the connection ends.

``{}`` asks how things are, ``{"scenario": true}`` starts the scenario, ``{"fault": "battery_hot", "active": true}``
switches a fault. Each is answered with ``Director.state()``, or with ``{"unknown": "<fault>"}``.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from agent.cli.demo_director import Director, UnknownFaultError

_ASK_S = 5.0


@contextlib.asynccontextmanager
async def door(director: Director, path: Path) -> AsyncIterator[None]:
    """Answer while the context lasts. Raises ``OSError``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, TimeoutError):  # who asks nonsense gets no answer
            async with asyncio.timeout(_ASK_S):
                said = await _answer(director, await reader.readline())
                writer.write(json.dumps(said).encode() + b"\n")
                await writer.drain()
        writer.close()

    # Its folder is a temporary one of this user's alone, so the socket needs no mode of its own.
    async with await asyncio.start_unix_server(answer, path):
        yield


async def _answer(director: Director, line: bytes) -> object:
    asked = json.loads(line)
    try:
        if "fault" in asked:
            director.switch(asked["fault"], active=asked["active"] is True)
        elif "scenario" in asked:
            await director.play(running=asked["scenario"] is True)
    except UnknownFaultError as error:
        return {"unknown": str(error)}
    return director.state()
