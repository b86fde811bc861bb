"""The commands together: parses the command line and runs one. See the package for the rules."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from agent import __version__
from agent.cli import run
from agent.cli.output import flush_output, unwritten
from agent.core.errors import AgentError, ConfigError

#: sysexits.h EX_CONFIG: systemd does not restart on it.
EXIT_CONFIG = 78
EXIT_ERROR = 2
#: As the shell reports programs that SIGINT and SIGPIPE ended.
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141

DEFAULT_CONFIG = Path("/etc/enlace/site.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Errors that Enlace raises on purpose are one line on stderr, no traceback.

    So is an output that can't be written; one that nobody reads any more (``| head``) ends it without a word.
    """
    try:
        try:
            return _run(arguments)
        finally:
            flush_output()  # here, not at Python's end, which would say it in words of its own
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        reason = unwritten()
        if reason is None and isinstance(error, PermissionError) and error.filename:
            # In somebody else's folder not even whether a file is there may be asked: that is seen here, once for all.
            hint = "run it as the user of the gateway, or as root"
            print(f"enlace: open {error.filename}: {error.strerror} ({hint})", file=sys.stderr)
            return EXIT_ERROR
        if reason is None:
            raise
        if isinstance(reason, BrokenPipeError):
            return EXIT_UNREAD
        print(f"enlace: write the output: {reason.strerror or error}", file=sys.stderr)
        return EXIT_ERROR


def _run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="enlace", description="The on-site gateway of EV-charging and battery sites.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"enlace {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    words = sys.argv[1:] if arguments is None else arguments
    for command in (run,) if words[:1] == ["run"] else _all():
        command.add_parser(commands)
    for subparser in commands.choices.values():
        if "config" in {action.dest for action in subparser._actions}:  # noqa: SLF001 - argparse has no public way
            subparser.set_defaults(config=Path(os.environ.get("ENLACE_CONFIG", DEFAULT_CONFIG)))
    parsed = parser.parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except ConfigError as error:
        print(f"enlace: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except AgentError as error:
        print(f"enlace: {error}", file=sys.stderr)
        return EXIT_ERROR
    return code


def _all() -> Sequence[ModuleType]:
    """In the order of the help. The gateway itself starts without what the others take."""
    from agent.cli import (  # noqa: PLC0415 - see above
        audit,
        backup,
        central,
        check,
        decode,
        demo,
        doctor,
        keys,
        meter,
        order,
        rehearse,
        replay,
        reset,
        scan,
        seed,
        upgrade,
        user,
        why,
    )

    return (
        run,
        demo,
        doctor,
        check,
        scan,
        decode,
        meter,
        replay,
        user,
        seed,
        audit,
        why,
        rehearse,
        reset,
        backup,
        central,
        order,
        keys,
        upgrade,
    )
