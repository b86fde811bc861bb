"""``enlace scan``: finds devices on CAN, Modbus, serial ports and OCPP, and proposes a ``devices:`` entry for each.

Rules of this file:

1. Nothing that is configured is opened, by whatever name; that is said.
2. Standard output carries the proposals and nothing else, also after Ctrl-C; all that happens goes to standard error.
3. A port or a host that can't be used is one line, and the others go on. That nothing was found is no error.
"""

import argparse
import asyncio
import ipaddress
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from agent.cli.arguments import seconds
from agent.cli.output import is_live, print_table, write_out
from agent.core.clock import Clock, SystemClock
from agent.core.errors import ConfigError

if TYPE_CHECKING:
    from agent.scan_job import Wanted
    from agent.scan_proposal import Proposal

T = TypeVar("T")

_MAX_UNIT = 255
_MAX_PORT = 65535
_UNITS = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?")
_REFRESH_S = 0.2
_WIDTH = 100
#: Of each device in the table on a terminal.
_SHOWN_VALUES = 3


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("scan", help="find devices and propose their entries in the configuration")
    parser.add_argument("kind", nargs="?", choices=("can", "modbus", "serial", "ocpp"), help=_KINDS)
    parser.add_argument("--host", metavar="H[:PORT]", action="append", type=_host, help="modbus: this host")
    parser.add_argument("--network", metavar="CIDR", action="append", type=_network, help="modbus: all of this network")
    parser.add_argument("--port", metavar="P", action="append", type=_port, help="this serial port")
    parser.add_argument("--baud", metavar="N", action="append", type=_baud, help="RTU: only at this speed")
    parser.add_argument("--parity", choices=("N", "E", "O"), action="append", help="RTU: only with this parity")
    parser.add_argument("--units", metavar="1-247|LIST", type=_units, help="only these unit ids")
    parser.add_argument("--listen", metavar="HOST:PORT", type=_listen, help="ocpp: instead of the configured port")
    parser.add_argument("--timeout", metavar="S", type=seconds, help="how long an answer may take")
    parser.add_argument("--seconds", metavar="N", type=seconds, help=_SECONDS)
    parser.add_argument("--config", type=Path, metavar="F", help="what is configured there is left alone")
    parser.add_argument("--format", choices=("yaml", "jsonl"), default="yaml", help="YAML to paste, or JSON lines")
    parser.set_defaults(run=run, usage=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Scan, and print what was found. Raises ``ConfigError`` when nobody knows what is configured."""
    if arguments.kind != "modbus" and arguments.kind is not None and (arguments.host or arguments.network):
        arguments.usage("--host and --network are for `scan modbus`")
    if arguments.kind != "ocpp" and arguments.listen:
        arguments.usage("--listen is for `scan ocpp`")
    screen = Screen(sys.stderr)
    if not arguments.config.exists():
        screen.say(f"there is no configuration at {arguments.config}: nothing is left out")
    run_kind = {"ocpp": _run_ocpp, "can": _run_can}.get(arguments.kind, _run_wires)
    return run_kind(arguments, screen)


def _run_wires(arguments: argparse.Namespace, screen: "Screen") -> int:
    from agent.scan_job import Job, load_models  # noqa: PLC0415 - see the package's docstring
    from agent.scan_proposal import propose  # noqa: PLC0415
    from agent.scan_targets import Configured, read_configured  # noqa: PLC0415

    path = arguments.config
    configured = read_configured(path) if path.exists() else Configured()
    models, products = load_models(path.resolve().parent, screen)
    job = Job(_wanted(arguments), lambda: configured, models, products, screen, SystemClock())
    try:
        asyncio.run(job.run())
        if not job.results:
            screen.say(_NOTHING)
    finally:
        screen.end()
        _write(propose(job.results, products, configured), arguments.format)
    return 0


def _wanted(arguments: argparse.Namespace) -> "Wanted":
    from agent.scan_job import Wanted  # noqa: PLC0415 - the same

    named = bool(arguments.host or arguments.network or arguments.port)
    wanted = Wanted(
        tcp=arguments.kind != "serial" and bool(arguments.host or arguments.network or not named),
        serial=bool(arguments.port or not named),
        meters=arguments.kind != "modbus",
        hosts=arguments.host or (),
        networks=arguments.network or (),
        ports=arguments.port,
        units=arguments.units,
        timeout_s=arguments.timeout,
    )
    given = {"bauds": arguments.baud, "parities": arguments.parity, "listen_s": arguments.seconds}
    return replace(wanted, **{key: value for key, value in given.items() if value})


def _run_can(arguments: argparse.Namespace, screen: "Screen") -> int:
    from agent.scan_can import LISTEN_S, CanJob, FoundBus, load_can_models, proposal_of  # noqa: PLC0415
    from agent.scan_targets import Configured, read_configured  # noqa: PLC0415

    path = arguments.config
    configured = read_configured(path) if path.exists() else Configured()
    taken, proposals = set(configured.ids), list["Proposal"]()

    def found(bus: FoundBus) -> None:
        proposals.append(proposal_of(bus, taken))
        screen.say(f"found {proposals[-1].summary}")

    models = load_can_models(path.resolve().parent, screen)
    job = CanJob(models, lambda: configured.channels, screen, SystemClock(), found)
    job.listen_s = arguments.seconds or LISTEN_S
    try:
        asyncio.run(job.run())
    finally:
        screen.end()
        _write(proposals, arguments.format)
    return 0


def _run_ocpp(arguments: argparse.Namespace, screen: "Screen") -> int:
    from agent.scan_ocpp import NOTHING, WAIT_S, Job, propose, read_known  # noqa: PLC0415

    known = read_known(arguments.config)
    job = Job(known, screen, SystemClock(), listen=arguments.listen, wait_s=arguments.seconds or WAIT_S)
    try:
        asyncio.run(job.run())
        if not job.found:
            screen.say(NOTHING)
    finally:
        screen.end()
        _write(propose(job.found, known), arguments.format)
    return 0


def _write(proposals: "Sequence[Proposal]", form: str) -> None:
    from agent.scan_proposal import as_jsonl, as_yaml  # noqa: PLC0415

    if proposals and is_live(sys.stderr):
        rows = [(str(one.entry["id"]), one.title or one.summary, _where(one.entry), _values(one)) for one in proposals]
        print_table(("entry", "device", "at", "reads"), rows, sys.stderr)
    text = as_yaml(proposals) if form == "yaml" else as_jsonl(proposals)
    write_out(iter((text,)), "the proposals", lambda: None)


def _where(entry: "Mapping[str, object]") -> str:
    """Where an entry's device is: its address and number on the line."""
    keys = ("url", "port", "charge_point_id", "unit_id", "address")
    return ", ".join(str(entry[key]) for key in keys if key in entry)


def _values(proposal: "Proposal") -> str:
    return ", ".join(f"{name} {value}" for name, value in list(proposal.values.items())[:_SHOWN_VALUES])


_KINDS = (
    "what to look for; default: modbus and serial. can listens to this machine's CAN interfaces; ocpp opens the"
    " chargers' port and waits who knocks"
)
_SECONDS = "serial and can: how long to listen (11, 5); ocpp: how long to wait (60)"
_NOTHING = """nothing was found. What to check:
  Modbus TCP: is it switched on in the device? is the device in one of these networks? name it with --host
  RS-485: are A and B exchanged? is the line terminated, and the device's address within --units?
  meters: is the optical head in place, the P1 port enabled, the M-Bus powered?
  this machine: is the user in group dialout? does another program hold the port?"""


class Screen:
    """Standard error: a line for each stage, or on a terminal one line that changes."""

    def __init__(self, stream: TextIO, clock: Clock | None = None) -> None:
        self._stream = stream
        self._clock = clock or SystemClock()
        self._live = is_live(stream)
        self._stages: dict[str, str] = {}  #: of each wire, for plain lines
        self._drawn_s = float("-inf")
        self._pending = False

    def step(self, stage: str, detail: str, left_s: float) -> None:
        """What is tried now. See ``Watcher``."""
        left = f", at most {_duration(left_s)} left" if left_s >= 1 else ""
        if not self._live:
            wire = stage.partition(" ")[0].rstrip(":")
            if self._stages.get(wire) != stage:
                self._stages[wire] = stage
                self._stream.write(f"{stage}{left}\n")
                self._stream.flush()
            return
        now_s = self._clock.monotonic_s()
        if now_s - self._drawn_s >= _REFRESH_S:
            self._drawn_s = now_s
            self._pending = True
            self._stream.write("\r\x1b[K" + " ".join(part for part in (stage, detail) if part)[:_WIDTH] + left)
            self._stream.flush()

    def say(self, text: str) -> None:
        """A finding that stays. See ``Watcher``."""
        self.end()
        self._stream.write(text + "\n")
        self._stream.flush()

    def end(self) -> None:
        """Take the changing line away."""
        if self._pending:
            self._pending = False
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# --- arguments ---


def _host(text: str) -> tuple[str, int]:
    from agent.scan_targets import named_host  # noqa: PLC0415 - see the package's docstring

    return _named(named_host, text)


def _network(text: str) -> ipaddress.IPv4Network:
    from agent.scan_targets import named_network  # noqa: PLC0415 - the same

    return _named(named_network, text)


def _port(text: str) -> str:
    from agent.scan_targets import checked_port  # noqa: PLC0415 - the same

    return _named(checked_port, text)


def _named(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"{error.reason}: {error.hint}") from error


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r}: write address:port, such as 0.0.0.0:9000")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _units(text: str) -> tuple[int, ...]:
    units: dict[int, None] = {}
    for part in text.split(","):
        found = _UNITS.fullmatch(part.strip())
        if found is None:
            raise argparse.ArgumentTypeError(f"{text!r}: write 1-247, or a list such as 1,3,10-20")
        first = int(found[1])
        last = int(found[2] or first)
        if first > last or last > _MAX_UNIT:
            raise argparse.ArgumentTypeError(f"{part}: unit ids are 0 to {_MAX_UNIT}, the smaller one first")
        units |= dict.fromkeys(range(first, last + 1))
    return tuple(units)


def _baud(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: write a number such as 9600")
    return int(text)
