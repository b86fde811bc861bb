"""What the simulated meters share: the port on which they push telegrams, their faults, their command line.

Without ``--device`` a meter makes a pseudo terminal and puts a symbolic link to its near end at ``--port-link``, as
udev does under ``/dev/serial/by-id``. It needs nobody who reads: what is not taken is thrown away, as on a real wire.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol

from agent.core.clock import Clock, SystemClock
from agent.core.errors import DeviceError
from drivers.line import Line, open_line
from drivers.sim.directed import Orders, Report, add_control, begin
from drivers.sim.faults import FaultPlan, parse_fault

#: µs UTC -> the telegram of that moment.
Telegrams = Callable[[int], bytes]


class Fault(StrEnum):
    """What can be switched on."""

    SILENCE = "silence"  #: the meter sends nothing
    BAD_CRC = "bad_crc"  #: a bit of each telegram is wrong


def with_faults(telegram: bytes, faults: set[Fault]) -> bytes:
    """What goes out of a telegram while these faults are on."""
    if Fault.SILENCE in faults:
        return b""
    if Fault.BAD_CRC in faults:
        middle = len(telegram) // 2
        return telegram[:middle] + bytes([telegram[middle] ^ 1]) + telegram[middle + 1 :]
    return telegram


class Port(Protocol):
    """Where a meter's telegrams go."""

    name: str

    async def write(self, data: bytes) -> None:
        """Send. Raises ``Unavailable``."""

    def close(self) -> None:
        """Close."""


class PseudoPort:
    """A pseudo terminal with a symbolic link to its near end."""

    def __init__(self, link: Path) -> None:
        self.name = str(link)
        self._link = link
        self._far, self._near = os.openpty()
        tty.setraw(self._near)
        os.set_blocking(self._far, False)
        self._node = os.ttyname(self._near)
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.symlink_to(self._node)
        fresh.replace(link)

    async def write(self, data: bytes) -> None:
        """Send, or throw away all that waits when nobody has taken it."""
        try:
            sent = os.write(self._far, data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            termios.tcflush(self._near, termios.TCIFLUSH)

    def close(self) -> None:
        """Close, and remove the link if it still is ours."""
        with contextlib.suppress(OSError):
            if str(self._link.readlink()) == self._node:
                self._link.unlink()
        os.close(self._far)
        os.close(self._near)


async def push(
    port: Port,
    telegrams: Telegrams,
    faults: Sequence[FaultPlan[Fault]],
    every_s: float,
    clock: Clock,
    forced: Collection[Fault] = (),
) -> None:
    """Send a telegram each ``every_s`` until cancelled; ``forced`` are faults beside the plan.

    Raises ``Unavailable`` when the port is gone.
    """
    start_s = clock.monotonic_s()
    while True:
        passed_s = clock.monotonic_s() - start_s
        data = with_faults(telegrams(clock.now_us()), {*forced, *(one.fault for one in faults if one.active(passed_s))})
        if data:
            await port.write(data)
        passed_s = clock.monotonic_s() - start_s
        await clock.sleep_s(every_s - passed_s % every_s)


@dataclass(frozen=True, slots=True)
class Directed:
    """What a director may do with a meter beside its faults, and how the meter is."""

    orders: Orders = field(default_factory=dict)
    report: Callable[[], Report] = dict
    resume: Callable[..., None] | None = None  #: is given what ``--resume`` says


async def serve(
    options: argparse.Namespace, telegrams: Telegrams, line: tuple[int, str], clock: Clock, directed: Directed
) -> None:
    """Open the port and push until told to end. Raises ``DeviceError`` or ``OSError``."""
    forced: set[Fault] = set()

    def switch(name: str, on: bool) -> None:  # noqa: FBT001 - as the order says it
        (forced.add if on else forced.discard)(Fault(name))

    port: PseudoPort | Line
    port = PseudoPort(options.port_link) if options.device is None else await open_line(options.device, *line)
    try:
        pushing = asyncio.ensure_future(push(port, telegrams, options.fault, options.every_s, clock, forced))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, pushing.cancel)
        if options.control:
            orders = {**directed.orders, "fault": switch}
            directing = begin(orders, directed.report, clock, pushing.cancel)
            pushing.add_done_callback(lambda _: directing.cancel())
        print(f"sending on {port.name}", flush=True)  # noqa: T201 - who started it waits for this line
        await asyncio.wait({pushing}, timeout=options.seconds)
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        if not pushing.cancelled():
            pushing.result()
    finally:
        port.close()


def run_meter(
    name: str,
    telegrams: Telegrams,
    line: tuple[int, str],
    arguments: Sequence[str] | None,
    every_s: float,
    directed: Directed | None = None,
) -> int:
    """The program. Returns the exit code: 0 ended on request, 1 the port can't be opened or is gone."""
    parser = argparse.ArgumentParser(prog=f"python -m drivers.sim.{name}", description="A simulated meter.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port-link", type=Path, help="make a pseudo terminal and put a link to it here")
    where.add_argument("--device", help="send on this serial port")
    parser.add_argument("--every-s", type=float, default=every_s, help="pause between telegrams (%(default)s)")
    parser.add_argument("--seconds", type=float, help="end by itself after this time")
    parser.add_argument(
        "--fault",
        type=partial(parse_fault, Fault),
        action="append",
        default=[],
        metavar="NAME[@START[+SECONDS]]",
        help=f"one of {', '.join(Fault)}",
    )
    parser.add_argument("--resume", type=json.loads, metavar="JSON", help="what the last report of an earlier run said")
    add_control(parser)
    options = parser.parse_args(arguments)
    directed = directed or Directed()
    if options.resume and directed.resume is not None:
        directed.resume(**options.resume)
    try:
        asyncio.run(serve(options, telegrams, line, SystemClock(), directed))
    except (DeviceError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a program's last word
        return 1
    return 0
