"""The network in front of a simulated device on Modbus TCP: it answers until it is ended, and can be taken away."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import SimDevice

from agent.core.clock import Clock
from drivers.sim.directed import Orders, Report, begin

OFFLINE = "offline"  #: the fault of the line: nobody listens

log = logging.getLogger(__name__)


class Line:
    """Where a device is reached. ``device`` makes it anew for each time that it is opened."""

    def __init__(
        self, device: Callable[[], SimDevice], host: str, port: int, own: Callable[[str, bool], None] | None = None
    ) -> None:
        self._device = device
        self._address = host, port
        self._own = own
        self._server: ModbusTcpServer | None = None

    async def open(self) -> None:
        """Listen. Raises OSError when the port can't be had."""
        self._server = ModbusTcpServer(self._device(), address=self._address)
        await self._server.serve_forever(background=True)

    async def cut(self) -> None:
        """Listen no more, and cut what is connected."""
        server, self._server = self._server, None
        if server is not None:
            await server.shutdown()  # type: ignore[no-untyped-call]

    async def switch(self, name: str, on: bool) -> None:  # noqa: FBT001 - as the order says it
        """Switch a fault: ``offline``, or one of the device's own. Raises ``ValueError`` and ``OSError``."""
        if name != OFFLINE:
            if self._own is None:
                raise ValueError(f"{name} is no fault of it")
            self._own(name, on)
        elif on:
            await self.cut()
        elif self._server is None:
            await self.open()

    async def serve(self, orders: Orders, report: Callable[[], Report], clock: Clock, *, control: bool) -> None:
        """Answer until SIGTERM or SIGINT; ``control``: and take orders. Raises OSError when the port can't be had."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await self.open()
        log.info("answering on %s:%d", *self._address)
        directed = begin({"fault": self.switch, **orders}, report, clock, stop.set) if control else None
        await stop.wait()
        if directed is not None:
            directed.cancel()
        await self.cut()


def run(name: str, known: argparse.Namespace, work: Callable[[argparse.Namespace], Coroutine[None, None, None]]) -> int:
    """Run a program's device on its ``--host`` and ``--port``. 0: ended on request; 1: the port can't be had."""
    logging.basicConfig(level=logging.INFO, format=f"{name}: %(message)s")
    try:
        asyncio.run(work(known))
    except (OSError, RuntimeError) as error:
        print(f"can't listen on {known.host}:{known.port}: {error}", file=sys.stderr)  # noqa: T201 - a program's last word
        return 1
    return 0
