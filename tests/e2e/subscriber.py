"""A subscriber inside the test that stands for the central server, and what the tests of the uplink wait with."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from agent.core.clock import SystemClock
from agent.core.model import Number
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Session
from cloud_sync.settings import LinkSettings
from cloud_sync.subscriber import EventMessage, State
from cloud_sync.watch import Item, Receiver, Values


class QuickClock(SystemClock):
    """Back-offs of seconds are cut to a tenth: the tests wait for brokers, not for jitter."""

    async def sleep_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 10)


class Subscriber:
    """Stands for the central server: keeps everything that came, in the order in which it came."""

    def __init__(self, url: str, site: str = "depot-7") -> None:
        self.items: list[Item] = []
        self.ready = asyncio.Event()
        self._site = site
        self._receiver = Receiver()
        self._link = MqttLink(LinkSettings(url, f"central-{site}"), QuickClock())

    async def run(self) -> None:
        await self._link.run(self._serve)

    async def _serve(self, session: Session) -> None:
        await session.subscribe(f"enlace/{self._site}/+")
        self.ready.set()
        while True:
            message = await session.next_message()
            self.items += self._receiver.feed(message.topic, message.payload)
            session.acknowledge(message)

    @property
    def rows(self) -> list[tuple[int, int, Number | None]]:
        messages = [item for item in self.items if isinstance(item, Values)]
        return [(row.signal.id, row.t_us, row.value) for message in messages for row in message.rows]

    def seqs(self) -> list[int]:
        """The numbers of the telemetry that counts, that is without repeats."""
        return [item.message.seq for item in self.items if isinstance(item, Values)]

    def events(self) -> list[int]:
        return [item.seq for item in self.items if isinstance(item, EventMessage)]

    def states(self) -> list[bool]:
        return [item.online for item in self.items if isinstance(item, State)]

    def of(self, kind: type[Item]) -> list[Item]:
        return [item for item in self.items if isinstance(item, kind)]


class Runs(Protocol):
    """What runs until cancelled."""

    async def run(self) -> None:
        """Run until cancelled."""


@asynccontextmanager
async def running(*parts: "Runs") -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(part.run()) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.01)
