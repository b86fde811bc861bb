"""``enlace run``: the gateway."""

import argparse
import faulthandler
import gc
import logging
import os
import sys
import threading
from pathlib import Path

#: When all is stopped, threads that wait for a name server or an answer have so long to end.
LEAVE_S = 1.0
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("run", help="the gateway")
    parser.add_argument("--config", type=Path, metavar="F", help="the site's configuration (/etc/enlace/site.yaml)")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="keep the database there instead of data_dir")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the gateway until SIGTERM or SIGINT. Exit 78 on a bad configuration."""
    gc.disable()  # what is loaded stays: looking through it again and again was a tenth of the start
    import asyncio  # noqa: PLC0415 - see the package's docstring

    from agent.app import Gateway  # noqa: PLC0415
    from agent.config import load_config  # noqa: PLC0415
    from agent.config_trial import undo_unfinished  # noqa: PLC0415
    from agent.core.clock import SystemClock  # noqa: PLC0415
    from agent.core.ending import ignore_stop_signals  # noqa: PLC0415
    from agent.restore_journal import finish  # noqa: PLC0415
    from agent.store.settings import DATABASE  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    undo_unfinished(arguments.config.resolve())
    config = load_config(arguments.config)
    if finish((arguments.data_dir or config.data_dir) / DATABASE):
        config = load_config(arguments.config)  # it is of the restore too
    if arguments.data_dir:
        config = config.model_copy(update={"data_dir": arguments.data_dir})
    set_up_logging(config.log.level)
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the log where each thread stood

    async def serve() -> None:
        await Gateway(config, SystemClock(), arguments.config.resolve()).serve()
        ignore_stop_signals()
        asyncio.get_running_loop().call_later(LEAVE_S, _leave)

    asyncio.run(serve())
    return 0


def _leave() -> None:
    """Go, though a thread still waits for somebody's answer: all that counts is on disk."""
    main = threading.main_thread()
    left = [thread.name for thread in threading.enumerate() if thread is not main and not thread.daemon]
    logging.getLogger(__name__).info("not waited for: %s", ", ".join(left))
    logging.shutdown()
    os._exit(0)


def set_up_logging(level: str) -> None:
    """Log to stderr: with times on a terminal, with journald's priorities where the journal reads it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter() if "JOURNAL_STREAM" in os.environ else _TERMINAL)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _JournalFormatter(logging.Formatter):
    """``<N>message``, as sd-daemon(3) says; the journal has the time."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITIES.get(record.levelno, 6)
        text = f"{record.name}: {super().format(record)}"
        return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


_TERMINAL = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
