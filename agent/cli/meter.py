"""``enlace meter``: the telegrams of a serial meter, recorded or live, value by value.

Rules of this file:

1. Standard output carries values of telegrams that passed their checksum and nothing else; counts go to stderr.
2. A file holds the raw bytes of the line, or hex text when its name ends in ``.hex``. Its telegrams have no time.
3. From a port values come as they arrive, with the time of arrival. A port that the gateway reads is not opened twice.
"""

import argparse
import asyncio
import json
import re
import stat
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from agent.cli.arguments import count, seconds
from agent.cli.output import BATCH_LINES, json_value, readable, write_out
from agent.core.clock import SystemClock
from agent.core.errors import AgentError, BadData, ConfigError, NoAnswer, Unavailable
from agent.core.model import BadFrame, Batch, Column, Event, SignalSpec

if TYPE_CHECKING:
    from drivers.codec.telegram import Codec, Telegram
    from drivers.serial_meter.plan import PlannedMeter

#: What a source gave, and when: seconds since 1970, None for recordings.
Timed: TypeAlias = "tuple[float | None, Telegram | BadFrame]"
Good: TypeAlias = "tuple[float | None, Telegram]"

PROTOCOLS = ("dsmr", "sml", "d0", "mbus")
_CHUNK_BYTES = 1 << 16
#: How often a meter that must be asked is asked where nothing is said: somebody looks on.
_EVERY_S = 5.0
_HEX = re.compile(rb"[\s,;:]*(?:0[xX])?([0-9A-Fa-f]{2})")
_CODE_WIDTH, _POINT_WIDTH, _VALUE_WIDTH = 18, 28, 20


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("meter", help="decode a recorded or live meter stream")
    parser.add_argument("source", metavar="FILE|PORT", help="a recording (raw bytes, or hex text in *.hex), or a port")
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True, help="what the meter speaks")
    parser.add_argument("--format", choices=("jsonl", "table"), default="jsonl", help="JSON lines or columns to read")
    parser.add_argument("--key-file", type=Path, metavar="F", help="dsmr: file with the decryption key, 32 hex digits")
    parser.add_argument("--auth-key-file", type=Path, metavar="F", help="dsmr: file with the authentication key")
    parser.add_argument(
        "--baud", type=count, metavar="N", help="bit/s of a port, if not the protocol's (DSMR 2.2: 9600)"
    )
    parser.add_argument("--framing", metavar="8N1", help="data bits, parity, stop bits of a port (DSMR 2.2: 7E1)")
    parser.add_argument("--request", action="store_true", help="d0: ask for readouts instead of waiting for them")
    parser.add_argument("--address", metavar="A", help="mbus: primary or secondary address, default 254; d0: device's")
    parser.add_argument(
        "--every", type=seconds, metavar="S", help="mbus, d0 --request: how often it is asked, default 5"
    )
    parser.add_argument("--count", type=count, metavar="N", help="end after so many telegrams from a port")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Decode the source to its end, or from a port until Ctrl-C. Raises ``AgentError`` for one that can't be used."""
    live = _is_port(arguments.source)
    planned = _planned(arguments, live=live)
    decoding = _Decoding()
    if live:
        telegrams: Iterator[Good] = islice(decoding.good(_live(planned, decoding)), arguments.count)
    else:
        telegrams = decoding.good(_recorded(Path(arguments.source), _codec(planned)))
    lines = _table(telegrams) if arguments.format == "table" else _json(telegrams)
    try:
        write_out(lines, "the decoded values", decoding.report, 1 if live else BATCH_LINES)
    except AgentError:
        if decoding.found:
            decoding.report()
        raise
    return 0


def _planned(arguments: argparse.Namespace, *, live: bool) -> "PlannedMeter":
    """The command line as the driver's settings. Raises ``Unavailable`` for what does not fit together."""
    from drivers.serial_meter.plan import plan_meters  # noqa: PLC0415 - see the package's docstring
    from drivers.serial_meter.settings import ANYBODY, MeterSettings  # noqa: PLC0415

    try:
        settings = MeterSettings(
            device="meter",
            protocol=arguments.protocol,
            port=arguments.source if live else "/",
            baud=arguments.baud,
            framing=arguments.framing,
            request=arguments.request,
            every_s=arguments.every,
            # A recording needs none; on a line with one meter it is whoever is there.
            address=arguments.address or (str(ANYBODY) if arguments.protocol == "mbus" else None),
            key_file=arguments.key_file,
            auth_key_file=arguments.auth_key_file,
        )
        return plan_meters([settings]).wires[0][0]
    except ConfigError as error:
        raise Unavailable("meter", error.reason, error.hint.replace("`request: true`", "--request")) from error


def _is_port(source: str) -> bool:
    if source.startswith("socket://"):
        return True
    try:
        return stat.S_ISCHR(Path(source).stat().st_mode)
    except OSError:
        return source.startswith("/dev/")


class _Decoding:
    """Counts what a source gave."""

    def __init__(self) -> None:
        self._good = 0
        self._bad: Counter[str] = Counter()

    @property
    def found(self) -> int:
        """Telegrams, good and bad."""
        return self._good + self._bad.total()

    def good(self, found: Iterable[Timed]) -> Iterator[Good]:
        """The good telegrams."""
        for t, one in found:
            if isinstance(one, BadFrame):
                self._bad[one.reason] += 1
            else:
                self._good += 1
                yield t, one

    def report(self) -> None:
        """Say on stderr what was counted."""
        lines = [f"telegrams decoded: {self._good}, bad: {self._bad.total()}"]
        lines += [f"  bad {count}: {reason}" for reason, count in self._bad.most_common()]
        if self._bad["encrypted"]:
            lines.append("  the port is encrypted: give its key with --key-file")
        if not self.found:
            lines.append("  nothing of this protocol was found: check --protocol, for a port --baud and --framing too")
        print("\n".join(lines), file=sys.stderr)

    # What the driver of a meter that is asked tells meanwhile: ``Sink`` of the ports. Values come as telegrams here.

    def put(self, batch: Batch) -> None:
        """Not used: the telegrams are printed as they are."""

    def touch(self, ids: Column) -> None:
        """Not used either."""

    def event(self, event: Event) -> None:
        """Not used either."""

    def count(self, name: str, amount: int = 1) -> None:
        """A telegram that was none."""
        if name.startswith("bad."):
            self._bad[name.removeprefix("bad.")] += amount

    async def declare(self, specs: Sequence[SignalSpec]) -> Sequence[int]:
        """Not used: nothing is stored."""
        return [0] * len(specs)


def _codec(planned: "PlannedMeter") -> "Codec":
    from drivers.serial_meter.plan import codec_of  # noqa: PLC0415 - see the package's docstring

    return codec_of(planned)


def _live(planned: "PlannedMeter", decoding: _Decoding) -> Iterator[Timed]:
    """What comes from a port from now on; ends with Ctrl-C."""
    source = _asked(planned, decoding) if planned.settings.asks else _pushed(planned)
    with asyncio.Runner() as runner:
        try:
            while True:
                yield runner.run(_next(source))
        finally:
            runner.run(source.aclose())


async def _next(source: AsyncGenerator[Timed]) -> Timed:
    return await anext(source)


async def _pushed(planned: "PlannedMeter") -> AsyncGenerator[Timed]:
    from drivers.line import open_line  # noqa: PLC0415 - see the package's docstring

    codec, clock = _codec(planned), SystemClock()
    line = await open_line(planned.settings.port, *planned.settings.line)
    try:
        while True:
            for one in codec.feed(await line.read()):
                yield clock.now_us() / 1e6, one
    finally:
        line.close()


async def _asked(planned: "PlannedMeter", decoding: _Decoding) -> AsyncGenerator[Timed]:
    from drivers.serial_meter.plan import asked_alone  # noqa: PLC0415 - see the package's docstring

    clock = SystemClock()
    wire, meter = asked_alone(planned, clock)
    await wire.open()
    try:
        while True:
            asked_s = clock.monotonic_s()
            try:
                telegrams = await meter.readout(decoding)
            except (NoAnswer, BadData) as error:
                print(error, file=sys.stderr)
                meter.forget()
            else:
                for one in telegrams:
                    yield clock.now_us() / 1e6, one
            every_s = planned.settings.every_s or _EVERY_S
            await clock.sleep_s(max(0.0, asked_s + every_s - clock.monotonic_s()))
    finally:
        await wire.close()


def _recorded(path: Path, codec: "Codec") -> Iterator[Timed]:
    found = 0
    for chunk in _chunks(path):
        for one in codec.feed(chunk):
            found += 1
            yield None, one
    for one in codec.end():
        # A recording of a stream begins and ends anywhere: what its end cut off is no bad telegram if there are others.
        if not found or not isinstance(one, BadFrame):
            yield None, one


def _chunks(path: Path) -> Iterator[bytes]:
    text = path.suffix.lower() == ".hex"
    try:
        with path.open("rb") as file:
            while chunk := file.read(-1 if text else _CHUNK_BYTES):
                yield _from_hex(path, chunk) if text else chunk
    except OSError as error:
        raise Unavailable(f"read {path}", error.strerror or str(error), "check the path and its permissions") from error


def _from_hex(path: Path, text: bytes) -> bytes:
    """Hex text as bytes: blanks, commas, colons and 0x between them are nothing."""
    parts: list[bytes] = []
    end = 0
    for found in _HEX.finditer(text):
        if found.start() != end:
            break
        parts.append(found.group(1))
        end = found.end()
    if rest := text[end:].lstrip():
        line = text.count(b"\n", 0, len(text) - len(rest)) + 1
        raise BadData(f"read {path}:{line}", f"{rest[:8]!r} is no hex", "give hex text, or a name without .hex")
    return bytes.fromhex(b"".join(parts).decode())


def _json(found: Iterable[Good]) -> Iterator[str]:
    for t, telegram in found:
        head = f'{{"t":{json_value(t)},"meter":{json.dumps(telegram.meter)},'
        for one in telegram.readings:
            yield (
                f'{head}"point":{json.dumps(one.point)},"code":{json.dumps(one.code)},'
                f'"value":{json_value(one.value)},"unit":{json.dumps(one.unit)}}}\n'
            )


def _table(found: Iterable[Good]) -> Iterator[str]:
    for t, telegram in found:
        time = "" if t is None else f"  at {t:.3f}"
        yield f"meter {telegram.meter or 'without a number'}{time}\n"
        for one in telegram.readings:
            value = f"{readable(one.value)} {one.unit or ''}"
            yield f"  {one.code:<{_CODE_WIDTH}}  {value:<{_VALUE_WIDTH}}  {one.point or ''}".rstrip() + "\n"
