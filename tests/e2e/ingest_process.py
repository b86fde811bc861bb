"""A gateway's ingest alone, to be killed: each line ``go N`` on stdin makes a process that posts rows from number N on.

It says ``pid P``, then ``ack M`` for each request whose rows up to M were acknowledged, and ``dead`` when the process
is gone. Processes are forks of one that has loaded everything, so that a round costs what its work costs.
"""

import asyncio
import os
import sys
from pathlib import Path

from agent.api.view import PostedRow
from agent.core.clock import SystemClock
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.pipeline.hub import Hub
from agent.posted import PostedDevices
from agent.store.db import Store

VEHICLES = 3
#: Rows of a request, of which the last ones of the request before are sent again.
ROWS, AGAIN = 40, 10
SECOND_US = 1_000_000


def row(place: int, number: int, base_us: int) -> PostedRow:
    """Row number N: its odometer says so."""
    return PostedRow(
        place, f"van-{number % VEHICLES}", base_us + number * SECOND_US // 4, {"odometer_km": number, "soc_pct": 50.5}
    )


async def post(path: Path, first: int, base_us: int) -> None:
    """Post until killed."""
    clock = SystemClock()
    store = Store.open(path, clock)
    hub = Hub(clock)
    devices = PostedDevices(clock, store, Flow(clock, Gate(), hub, store.append), hub, tuple, lambda _: None)
    while True:
        numbers = [*range(max(first - AGAIN, 0), first), *range(first, first + ROWS)]
        taken = await devices.post([row(place, number, base_us) for place, number in enumerate(numbers)])
        assert taken.inserted + taken.duplicates == len(numbers), taken
        first += ROWS
        say(f"ack {first}")


def say(text: str) -> None:
    """A line, whole or not at all."""
    os.write(1, f"{text}\n".encode())


def main() -> None:
    """``python -m tests.e2e.ingest_process DATABASE BASE_US``."""
    path, base_us = Path(sys.argv[1]), int(sys.argv[2])
    for line in sys.stdin:
        child = os.fork()
        if not child:
            asyncio.run(post(path, int(line.split()[1]), base_us))
        say(f"pid {child}")
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
