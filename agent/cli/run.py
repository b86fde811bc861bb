"""``enlace run``: the gateway."""

import argparse
import logging
import os
import sys
from pathlib import Path

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("run", help="the gateway")
    parser.add_argument("--config", type=Path, metavar="F", help="the site's configuration (/etc/enlace/site.yaml)")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="keep the database there instead of data_dir")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the gateway until SIGTERM or SIGINT. Exit 78 on a bad configuration."""
    import asyncio  # noqa: PLC0415 - see the package's docstring

    from agent.app import Gateway  # noqa: PLC0415
    from agent.config import load_config  # noqa: PLC0415
    from agent.core.clock import SystemClock  # noqa: PLC0415

    config = load_config(arguments.config)
    if arguments.data_dir:
        config = config.model_copy(update={"data_dir": arguments.data_dir})
    set_up_logging(config.log.level)
    asyncio.run(Gateway(config, SystemClock(), arguments.config.resolve()).serve())
    return 0


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
