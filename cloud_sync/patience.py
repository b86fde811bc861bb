"""The outbox through a store that fails at times: tried again until it is well, told once on each edge."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from agent.core.clock import Clock
from agent.core.errors import StoreError

_log = logging.getLogger(__name__)

STORE_RETRY_S = 5.0

_Result = TypeVar("_Result")


class Patience:
    """Waits for the store: the site's data waits there, not here."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.fault = ""  #: why the store can't be read or written now

    async def read(self, read: Callable[..., _Result], *args: object) -> _Result:
        """Read from the store, in a thread."""
        return await self._until_well(partial(asyncio.to_thread, read, *args))

    async def write(self, write: Callable[[], "Future[_Result]"]) -> _Result:
        """Have the store write, and wait for the commit."""

        async def action() -> _Result:
            return await asyncio.wrap_future(write())

        return await self._until_well(action)

    async def _until_well(self, action: Callable[[], Awaitable[_Result]]) -> _Result:
        while True:
            try:
                result = await action()
            except StoreError as error:
                if not self.fault:
                    _log.warning("the uplink waits for the store: %s", error)
                self.fault = str(error)
                await self.clock.sleep_s(STORE_RETRY_S)
            else:
                if self.fault:
                    _log.info("the uplink goes on: the store is well again")
                    self.fault = ""
                return result
