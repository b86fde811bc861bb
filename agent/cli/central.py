"""``enlace central``: the central server of a fleet, which writes what gateways send to PostgreSQL."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.cli.broker import add_options
from agent.cli.output import is_live, print_table
from agent.core.errors import ConfigError

if TYPE_CHECKING:
    from cloud_sync.central.settings import CentralSettings


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("central", help="the central server: from the broker into PostgreSQL")
    parser.add_argument("--database", required=True, metavar="DSN", help="postgresql://user@host/name, no password")
    add_options(parser)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    parser.add_argument("--name", default="", metavar="N", help="of this machine among those of its group (its own)")
    parser.add_argument("--group", default="central", metavar="G", help="whose workers share the messages (central)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--migrate", action="store_true", help="bring the tables up to date, and end")
    instead.add_argument("--status", action="store_true", help="print how the sites are, and end")
    instead.add_argument("--worker", type=int, metavar="I", help="be the I-th worker only (from 0), until stdin ends")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Receive until SIGTERM or SIGINT. Exit 78 on settings that can't work, or a database of another version."""
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError("enlace central", "psycopg is not installed", 'pip install "enlace[central]"')
    from agent.cli.run import set_up_logging  # noqa: PLC0415 - see the package's docstring
    from cloud_sync.central import processes, status  # noqa: PLC0415
    from cloud_sync.central.settings import check_dsn  # noqa: PLC0415

    check_dsn(arguments.database)
    set_up_logging("info")
    if arguments.migrate:
        status.migrate(arguments.database)
    elif arguments.status:
        _show(status.table(arguments.database))
    elif arguments.worker is not None:
        return processes.work(_settings(arguments), arguments.worker)
    elif arguments.workers == 1:
        return processes.work(_settings(arguments))
    else:
        return processes.supervise(_settings(arguments), _command())
    return 0


def _show(rows: Sequence[Sequence[str]]) -> None:
    """A table of the sites; the first row names its columns."""
    from cloud_sync.central.status import in_lines  # noqa: PLC0415 - see the package's docstring

    if is_live(sys.stdout):
        print_table(rows[0], rows[1:])
        print(f"{len(rows) - 1} sites")
        return
    for line in in_lines(rows):
        sys.stdout.write(line + "\n")


def _settings(arguments: argparse.Namespace) -> "CentralSettings":
    from cloud_sync.central.settings import CentralSettings  # noqa: PLC0415 - see the package's docstring

    if not arguments.broker:
        raise ConfigError("enlace central", "no broker is named", "add --broker mqtts://host")
    return CentralSettings(
        broker_url=arguments.broker,
        database=arguments.database,
        root=arguments.root,
        group=arguments.group,
        name=arguments.name,
        workers=arguments.workers,
        username=arguments.username,
        password_file=arguments.password_file,
        ca_file=arguments.ca_file,
        cert_file=arguments.cert_file,
        key_file=arguments.key_file,
    )


def _command() -> list[str]:
    """This command line, to be followed by ``--worker I``."""
    return [sys.executable, "-m", "agent", *sys.argv[1:]]
