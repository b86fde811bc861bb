"""The line between a simulated counterpart and who directs it: orders on stdin, reports on stdout, lines of JSON.

Rules of this file:

1. An order is ``{"do": "<name>", ...}``. What is not known or makes no sense is told on stderr and changes nothing.
2. Once a second a report goes out: ``{"report": {...}}``. Lines of any other form on stdout are for people.
3. The end of stdin is the end of the director, also when it was killed: the counterpart ends too.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.core.clock import Clock

EVERY_S = 1.0

#: What an order does, by its name; it is called with the order's other members.
Orders = Mapping[str, Callable[..., Awaitable[None] | None]]
Report = Mapping[str, object]


def add_control(parser: argparse.ArgumentParser) -> None:
    """The option of a counterpart that can be directed."""
    text = "take orders as lines of JSON on stdin, tell how it is on stdout once a second, and end with stdin"
    parser.add_argument("--control", action="store_true", help=text)


def begin(
    orders: Orders, report: Callable[[], Report], clock: Clock, stop: Callable[[], object]
) -> "asyncio.Task[None]":
    """Obey and report until cancelled; at the end of stdin ``stop`` is called."""
    task = asyncio.create_task(_directed(orders, report, clock), name="directed")
    task.add_done_callback(lambda done: None if done.cancelled() else stop())
    return task


async def _directed(orders: Orders, report: Callable[[], Report], clock: Clock) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    telling = asyncio.create_task(_tell(report, clock), name="reports")
    try:
        while line := await reader.readline():
            await obey(line, orders)
    finally:
        telling.cancel()


async def _tell(report: Callable[[], Report], clock: Clock) -> None:
    while True:
        print(json.dumps({"report": report()}), flush=True)  # noqa: T201 - the director reads it
        await clock.sleep_s(EVERY_S)


async def obey(line: bytes, orders: Orders) -> None:
    """Do what one line says."""
    try:
        said: dict[str, Any] = json.loads(line)
        done = orders[said.pop("do")](**said)
        if done is not None:
            await done
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        print(f"not done: {line!r}: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 - the same
