"""``enlace audit``: verify the ledger by its chain, and export it. Only reads: works while the gateway runs."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.output import Progress, is_live, print_table, print_verdict, write_out
from agent.core.errors import Unavailable

if TYPE_CHECKING:
    from typing import BinaryIO

    from agent.store.audit import Report
    from agent.store.audit_file import Linked

EXIT_BROKEN = 1


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("audit", help="verify that nobody changed the ledger; export it")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    # Written at both places it may stand, as with enlace user.
    _add_place(parser)
    parser.set_defaults(data_dir=None)
    place = argparse.ArgumentParser(add_help=False)
    _add_place(place)
    check = verbs.add_parser("verify", parents=[place], help="check each event by its hash; exit 1: not in order")
    check.add_argument("--file", type=Path, metavar="EXPORT.jsonl", help="check an export instead, by itself")
    export = verbs.add_parser("export", parents=[place], help="write events with their hashes to standard output")
    export.add_argument("--from", dest="from_us", type=time_us, metavar="ISO", help="from this time on")
    export.add_argument("--to", dest="to_us", type=time_us, metavar="ISO", help="before this time")
    export.add_argument("--kind", default="", metavar="PREFIX", help="only kinds that begin so: command, audit, alarm.")
    export.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="default: jsonl")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify or export. 1 where the ledger or the export is not in order."""
    if arguments.verb == "export":
        return _export(arguments)
    return _verify_file(arguments.file) if arguments.file else _verify(arguments)


def database(arguments: argparse.Namespace) -> Path:
    """The database that ``--data-dir`` or ``--config`` names. Raises ``ConfigError``."""
    from agent.config import load_config  # noqa: PLC0415
    from agent.store.settings import DATABASE  # noqa: PLC0415 - see the package's docstring

    folder: Path = arguments.data_dir or load_config(arguments.config).data_dir
    return folder / DATABASE


def _add_place(parser: argparse.ArgumentParser) -> None:
    suppress = argparse.SUPPRESS  # what stands at the other place is not overwritten with nothing
    parser.add_argument("--config", type=Path, metavar="F", default=suppress, help="the site's configuration")
    parser.add_argument("--data-dir", type=Path, metavar="D", default=suppress, help="where enlace.db is instead")


def time_us(text: str) -> int:
    """A time on the command line, as µs since 1970."""
    from agent.api.times import parse_time  # noqa: PLC0415 - see the package's docstring

    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _verify(arguments: argparse.Namespace) -> int:
    from agent.store.audit import verify  # noqa: PLC0415 - see the package's docstring

    with Progress("events", quiet=True) as progress:
        report = verify(database(arguments), lambda done, of: progress.tell("checked", done, of))
    return _tell("the ledger", report)


def _verify_file(path: Path) -> int:
    from agent.store.audit_file import verify_lines  # noqa: PLC0415 - see the package's docstring

    try:
        with path.open("rb") as file, Progress(quiet=True) as progress:
            report = verify_lines(_watched(file, path.name, progress))
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(f"read {path}", reason, "check the path and its permissions") from error
    return _tell(str(path), report)


def _watched(file: "BinaryIO", name: str, progress: Progress) -> Iterator[bytes]:
    """The lines of a file; how far it was read is told now and then."""
    from agent.store.audit import TELL_EVERY  # noqa: PLC0415 - see the package's docstring

    size, done = os.fstat(file.fileno()).st_size, 0
    for number, line in enumerate(file):
        if number % TELL_EVERY == 0:
            progress.tell(name, done, size)
        done += len(line)
        yield line
    progress.tell(name, done, size)


def _tell(what: str, report: "Report") -> int:
    span = "" if report.first_seq is None else f", numbers {report.first_seq} to {report.last_seq}"
    print(f"{what}: {report.rows} events checked{span}")
    if report.uncovered:
        print(f"{report.uncovered} events are older than the chain: nothing can be said about them")
    if report.faults and is_live(sys.stdout):
        print_table(("event", "what", "where"), [(str(one.seq), one.what, one.text) for one in report.faults])
    for fault in () if is_live(sys.stdout) else report.faults:
        print(f"{fault.seq}: {fault.what}: {fault.text}")
    if report.fault_count > len(report.faults):
        print(f"and {report.fault_count - len(report.faults)} more")
    if not report.ok:
        print_verdict("NOT in order", good=False)
        return EXIT_BROKEN
    newest = f"; the newest event's hash is {report.last_hash.hex()}" if report.rows else ""
    print_verdict(f"in order{newest}", good=True)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from agent.api.times import iso  # noqa: PLC0415 - see the package's docstring
    from agent.store.audit import open_ledger  # noqa: PLC0415
    from agent.store.audit_file import Wanted, linked, to_csv, to_jsonl  # noqa: PLC0415

    wanted = Wanted(arguments.from_us, arguments.to_us, arguments.kind)
    written = 0

    def counted(events: Iterator["Linked"]) -> Iterator["Linked"]:
        nonlocal written
        for event in events:
            written += 1
            yield event

    with open_ledger(database(arguments)) as connection:
        # One state of the ledger: nobody waits here for its upkeep.
        events = counted(linked(lambda: nullcontext(connection), wanted))
        lines = to_csv(events, iso) if arguments.format == "csv" else to_jsonl(events, wanted, iso)
        write_out(lines, "the export", lambda: print(f"events: {written}", file=sys.stderr))
    return 0
