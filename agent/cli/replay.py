"""``enlace replay``: a recorded log through the real pipeline, into the store and out to the subscribers."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.output import Progress, watched_log
from agent.core.clock import SystemClock
from agent.core.errors import AgentError
from agent.core.ports import Listener, Sink

if TYPE_CHECKING:
    from agent.app import Gateway
    from agent.config import Config
    from agent.overview import Overview
    from agent.store.db import Store
    from drivers.can.plan import CanPlan
    from drivers.can.replay import LogListener

#: How long the uplink may make no progress at the end before the command gives up waiting for the acknowledgements.
DRAIN_S = 20.0
_POLL_S = 0.2


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("replay", help="feed a recorded log through the real pipeline")
    parser.add_argument("log", type=Path, metavar="LOG", help="a CAN log of any common tool")
    parser.add_argument("--config", type=Path, metavar="F", help="the site's configuration")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="keep the database there instead of data_dir")
    parser.add_argument(
        "--speed", type=_speed, default=1.0, metavar="N", help="log seconds per second; 0: as fast as it can be stored"
    )
    parser.add_argument(
        "--by-exception", action="store_true", help="keep what `report:` says instead of every frame's values"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Replay the log. Exit 78 on a bad configuration, 2 on a log that can't be read."""
    from agent.app import Gateway  # noqa: PLC0415 - see the package's docstring
    from agent.cli.run import set_up_logging  # noqa: PLC0415
    from agent.config import load_config  # noqa: PLC0415

    config = load_config(arguments.config)
    if arguments.data_dir:
        config = config.model_copy(update={"data_dir": arguments.data_dir})
    set_up_logging("warning")
    tape = _Tape(arguments.log, arguments.speed)
    gateway = Gateway(
        config, SystemClock(), arguments.config.resolve(), tape.listeners, every=not arguments.by_exception
    )
    asyncio.run(_replay(gateway, tape))
    return 0


def record(config: "Config", path: Path, log: Path) -> None:
    """Put each reading of a log into the store of that configuration. Raises what ``replay`` does."""
    from agent.app import Gateway  # noqa: PLC0415 - see the package's docstring

    tape = _Tape(log, 0)
    asyncio.run(_replay(Gateway(config, SystemClock(), path, tape.listeners, every=True), tape))


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


class _Tape:
    """The log as the gateway's only wire: it plays once and then stands."""

    def __init__(self, log: Path, speed: float) -> None:
        self._log = log
        self._speed = speed
        self._listener: LogListener | None = None
        self._store: Store | None = None
        self.progress = Progress(quiet=True)
        self.ended = asyncio.Event()
        self.fault: AgentError | None = None

    def listeners(self, can: "CanPlan", ids: Mapping[tuple[str, str], int], store: "Store") -> Sequence[Listener]:
        """Given to the gateway in place of the buses."""
        from drivers.can.replay import LogListener  # noqa: PLC0415 - see the package's docstring

        async def drained() -> None:
            await asyncio.wrap_future(store.flush())

        self._store = store
        frames = watched_log(self._log, self.progress)
        self._listener = LogListener(frames, can.wires, ids, SystemClock(), drained, self._speed)
        return [self]

    @property
    def name(self) -> str:
        """The wire's name."""
        return f"log:{self._log.name}"

    @property
    def devices(self) -> Sequence[str]:
        """All CAN devices of the site."""
        return self._listener.devices if self._listener else ()

    @property
    def max_retry_s(self) -> float:
        """It never ends by itself, so it is never opened again."""
        return DRAIN_S

    async def run(self, sink: Sink) -> None:
        """Play; then wait for the end of the command."""
        if self._listener is not None and not self.ended.is_set():
            try:
                await self._listener.run(sink)
            except AgentError as error:
                self.fault = error
            finally:
                self.ended.set()
        await asyncio.Event().wait()

    def summary(self) -> str:
        """What was done, for people."""
        listener, store = self._listener, self._store
        if listener is None or store is None:
            return ""
        return (
            f"frames replayed: {listener.replayed}, unreadable: {listener.bad}, rows in the store: {store.stats().rows}"
        )


async def _replay(gateway: "Gateway", tape: _Tape) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with gateway.running():
        interrupted = asyncio.ensure_future(stop.wait())
        work = asyncio.ensure_future(_play(gateway, tape))
        await asyncio.wait({interrupted, work}, return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        print(tape.summary(), file=sys.stderr)
    if tape.fault is not None:
        raise tape.fault


async def _play(gateway: "Gateway", tape: _Tape) -> None:
    with tape.progress:
        await tape.ended.wait()
    if tape.fault is None and gateway.overview is not None and gateway.overview.has_uplink:
        with Progress("records", quiet=True) as progress:
            said = await _drain(gateway.overview, progress)
        print(said, file=sys.stderr)


async def _drain(overview: "Overview", progress: Progress) -> str:
    """Wait until the central server has acknowledged everything, or nothing moves any more; how that went."""
    clock = SystemClock()
    best, since_s, waiting = -1, clock.monotonic_s(), 0
    while clock.monotonic_s() - since_s < DRAIN_S:
        if overview.uplink is not None:
            streams = overview.uplink.status().streams.values()
            acked, backlog = sum(stream.acked for stream in streams), sum(stream.backlog for stream in streams)
            if not backlog:
                return "the broker has acknowledged everything"
            waiting = max(waiting, backlog)
            progress.tell("acknowledged", waiting - backlog, waiting)
            if acked > best:
                best, since_s = acked, clock.monotonic_s()
        await clock.sleep_s(_POLL_S)
    hint = "they are kept and leave with the next `enlace run`"
    return f"the broker did not acknowledge everything within {DRAIN_S:.0f} s: {hint}"
