"""``enlace why``: the decisions behind a station's present state. Only reads: works while the gateway runs, or not."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.arguments import count
from agent.cli.output import is_live, print_table, readable, write_out
from agent.core.errors import Unavailable

if TYPE_CHECKING:
    from agent.config import Config
    from agent.control.model import Decision

_LIMIT = 10


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("why", help="why a charger is on, off or limited: its decisions, newest first")
    parser.add_argument("station", metavar="STATION", help="a charger's id, or ID.2 for its second outlet")
    parser.add_argument("--config", type=Path, metavar="F", help="the site's configuration")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="where enlace.db is instead")
    parser.add_argument("--limit", type=count, default=_LIMIT, metavar="N", help=f"at most so many (default: {_LIMIT})")
    parser.add_argument("--format", choices=("text", "jsonl"), default="text", help="default: text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print them; 0. Raises ``Unavailable`` for a station that there is not, ``ConfigError`` and ``StoreError``."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - see the package's docstring

    from agent.config import load_config  # noqa: PLC0415
    from agent.control import notes  # noqa: PLC0415
    from agent.store.reading import read_notes  # noqa: PLC0415
    from agent.store.settings import DATABASE  # noqa: PLC0415

    station: str = arguments.station
    config = None if arguments.data_dir else load_config(arguments.config)
    folder: Path = arguments.data_dir or (config.data_dir if config else Path())
    kept = read_notes(folder / DATABASE, (notes.DECISION, notes.STATION, notes.WISH))
    decided = notes.decisions_of(kept[notes.DECISION])
    found = [decision for _, decision in decided.get(station, [])][::-1][: arguments.limit]
    if not found and station not in {*kept[notes.STATION], *kept[notes.WISH], *_configured(config)}:
        there = ", ".join(sorted({*decided, *kept[notes.STATION], *kept[notes.WISH]}))
        hint = f"there are decisions about {there}" if there else "nothing was ever decided about any station"
        raise Unavailable(f"tell why {station} is as it is", "no station of that name is known", hint)
    zone = ZoneInfo(config.site.timezone) if config else ZoneInfo("UTC")
    if found and arguments.format == "text" and is_live(sys.stdout):
        print_table(("time", "why", "values", "outcome"), [_cells(one, zone) for one in found])
        return 0
    lines = _json_lines(found) if arguments.format == "jsonl" else _lines(station, found, zone)
    write_out(lines, "the decisions", lambda: None)
    return 0


def _configured(config: "Config | None") -> set[str]:
    """The ids that stations of the configuration may have."""
    from agent.config import OcppDevice  # noqa: PLC0415 - see the package's docstring

    found: set[str] = set()
    for device in config.devices if config else ():
        outlets = device.connectors if isinstance(device, OcppDevice) else 1
        found |= {device.id, *(f"{device.id}.{number}" for number in range(1, outlets + 1) if outlets > 1)}
    return found


def _lines(station: str, decisions: Sequence["Decision"], zone: tzinfo) -> Iterator[str]:
    if not decisions:
        yield f"nothing was decided about {station} so far: it does what it does by itself\n"
    for one in decisions:
        time, reason, values, outcome = _cells(one, zone)
        yield f"{time}  {reason}{f' [{values}]' if values else ''} -> {outcome}\n"


def _cells(one: "Decision", zone: tzinfo) -> tuple[str, str, str, str]:
    """When, why, on which values, and what came of it."""
    time = datetime.fromtimestamp(one.t_us / 1e6, zone).strftime("%Y-%m-%d %H:%M:%S %Z")
    return time, one.reason, _values(one.inputs), str(one.outcome)


def _values(inputs: Mapping[str, int | float | None]) -> str:
    return ", ".join(f"{name} {'unknown' if value is None else readable(value)}" for name, value in inputs.items())


def _json_lines(decisions: Sequence["Decision"]) -> Iterator[str]:
    from agent.control import notes  # noqa: PLC0415 - see the package's docstring

    for one in decisions:
        data = notes.decision_data(0, one)
        del data["number"]
        time = datetime.fromtimestamp(one.t_us / 1e6, UTC).isoformat().replace("+00:00", "Z")
        yield json.dumps({"time": time, **data}, ensure_ascii=False, allow_nan=False) + "\n"
