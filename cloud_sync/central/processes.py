"""The processes of ``enlace central``: one that works, or one that keeps several at work.

A worker of several ends with its parent, however that ends: its standard input is a pipe of which the parent has the
other end. A worker that dies is started again under the same name, for the broker keeps what it had not acknowledged.
"""

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from agent.core.clock import Clock, SystemClock
from agent.core.ending import STOP_SIGNALS, ignore_stop_signals, on_signals
from agent.core.errors import ConfigError
from cloud_sync.central.settings import CentralSettings
from cloud_sync.central.worker import Worker

_log = logging.getLogger(__name__)

EXIT_CONFIG = 78
FIRST_RESTART_S = 1.0
MAX_RESTART_S = 30.0
#: A worker that ran for so long was a good one.
GOOD_RUN_S = 60.0
STOP_S = 20.0
#: Objects that come before Python's collector looks for cycles (its own figure is 700). A batch is tens of thousands,
#: none in a cycle: the search took a quarter of the time.
COLLECT_AFTER = 50_000


def work(settings: CentralSettings, index: int | None = None) -> int:
    """Be a worker until SIGTERM or SIGINT, or, being one of several, until the parent has ended."""
    spare_collector()
    asyncio.run(_work(settings, index))
    return 0


def spare_collector() -> None:
    """Let Python look for cycles rarely, and never among what stands since the start."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)


def supervise(settings: CentralSettings, command: Sequence[str]) -> int:
    """Keep ``settings.workers`` processes of ``command`` and ``--worker I`` at work; the exit code."""
    return asyncio.run(_supervise(settings.workers, command, SystemClock()))


def restart_pause_s(before_s: float, ran_s: float) -> float:
    """How long the next pause is, after one of ``before_s`` and a run of ``ran_s``."""
    return FIRST_RESTART_S if ran_s > GOOD_RUN_S else min(before_s * 2, MAX_RESTART_S)


async def _work(settings: CentralSettings, index: int | None) -> None:
    worker = Worker(settings, SystemClock(), index or 0)
    task = asyncio.ensure_future(worker.run())
    stop = _once(task.cancel)
    on_signals(STOP_SIGNALS, stop)
    if index is not None:
        _on_end_of_stdin(stop)
    await asyncio.gather(task, return_exceptions=True)
    counts = worker.counts
    _log.info(
        "ended: %d messages in %d batches, %d records, %d samples, %d repeated, %d refused",
        *(counts.messages, counts.batches, counts.records, counts.samples, counts.repeated, counts.refused),
    )
    ignore_stop_signals()
    if not task.cancelled():
        task.result()


def _once(stop: Callable[[], object]) -> Callable[[], None]:
    """Stop when it is first asked for: what a service manager tells all processes twice must not cut that off."""
    asked: list[bool] = []

    def ask() -> None:
        asked.append(True)
        if len(asked) == 1:
            stop()

    return ask


def _on_end_of_stdin(stop: Callable[[], None]) -> None:
    """It is the parent's end that is waited for: nothing is ever written."""
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        try:
            if os.read(stdin, 1):
                return
        except BlockingIOError:
            return
        except OSError as error:
            _log.warning("the end of the parent can't be waited for: %s", error)
        loop.remove_reader(stdin)  # an end stays one, and would be told again and again
        stop()

    loop.add_reader(stdin, read)


async def _supervise(count: int, command: Sequence[str], clock: Clock) -> int:
    tasks = [asyncio.ensure_future(_keep([*command, "--worker", str(index)], index, clock)) for index in range(count)]
    every = asyncio.gather(*tasks)
    on_signals(STOP_SIGNALS, _once(every.cancel))
    try:
        await every
    except asyncio.CancelledError:
        return 0
    except ConfigError:
        return EXIT_CONFIG  # the worker has said why
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ignore_stop_signals()
    return 0


async def _keep(command: Sequence[str], index: int, clock: Clock) -> None:
    """Keep one worker running. Raises ``ConfigError`` when it says that its settings can't work."""
    pause_s = FIRST_RESTART_S
    while True:
        began_s = clock.monotonic_s()
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE)
        try:
            code = await process.wait()
        finally:
            await _stop(process)
        if code == EXIT_CONFIG:
            raise ConfigError(f"worker {index}", "its settings can't work")
        _log.warning("worker %d ended with code %d and is started again", index, code)
        await clock.sleep_s(pause_s)
        pause_s = restart_pause_s(pause_s, clock.monotonic_s() - began_s)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Let a worker end what it is at, but not for long."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            process.kill()
        await process.wait()
