"""``enlace decode``: the messages of a recorded CAN log, decoded with DBC files.

Rules of this file:

1. Standard output carries decoded frames and nothing else; findings about the DBC files and the counts go to stderr.
2. Every entry of the log is counted once: frames read = decoded + unknown + bad. Remote and error frames carry no
   signals: they are unknown. Bad are unreadable lines and frames that their message cannot be decoded from.
3. JSON has no NaN and no infinity: such values are null. Whole numbers are written as they are, to 64 bits.
"""

import argparse
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import cast

from agent.cli.output import BATCH_LINES, Progress, json_value, readable, watched_log, write_out
from agent.core.errors import BadData, Unavailable
from agent.core.model import BadFrame, Number
from drivers.can.logs import LogFrame, read_log_stream
from drivers.codec.can_frame import FrameDecoder, MessageCodec
from drivers.codec.can_layout import physical
from drivers.codec.dbc_model import Dbc, Finding

Value = Number | str
Decoded = tuple[LogFrame, MessageCodec, Mapping[str, Value]]

_STDIN = "-"
#: Identifiers whose codec is remembered. A log can hold any number of different ones.
_REMEMBERED_IDS = 1 << 16
#: Column of message names; the longest of DBC's own limit of 32 characters are rare.
_NAME_WIDTH = 24


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("decode", help="decode a recorded CAN log with DBC files")
    parser.add_argument("log", metavar="LOG", help="a log of any common tool; - reads standard input")
    parser.add_argument(
        "--dbc", metavar="F", type=Path, action="append", required=True, help="a DBC file; of several, the first wins"
    )
    parser.add_argument("--format", choices=("jsonl", "table"), default="jsonl", help="JSON lines or columns to read")
    parser.add_argument("--labels", action="store_true", help="texts of the value tables instead of their numbers")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Decode ``arguments.log``. Raises ``AgentError`` for a file that cannot be used at all."""
    dbcs = [_load(path) for path in arguments.dbc]
    for finding in (*(finding for dbc in dbcs for finding in dbc.findings), *_hidden(dbcs)):
        print(finding, file=sys.stderr)
    live = arguments.log == _STDIN
    decoding = _Decoding(dbcs, labels=arguments.labels)
    with Progress(quiet=True, alone=True) as progress:
        frames = _live() if live else watched_log(Path(arguments.log), progress)
        lines = _table(decoding.messages(frames)) if arguments.format == "table" else _json(decoding.messages(frames))

        def report() -> None:
            progress.close()
            decoding.report()

        write_out(lines, "the decoded frames", report, 1 if live else BATCH_LINES)
    return 0


def _live() -> Iterator[LogFrame | BadFrame]:
    """What comes through a pipe."""
    return read_log_stream(cast("io.BufferedReader", sys.stdin.buffer), "standard input")


def _load(path: Path) -> Dbc:
    """A DBC file with at least one message. Raises ``Unavailable`` or ``BadData``."""
    from drivers.codec.dbc import load_dbc  # noqa: PLC0415 - cantools takes half a second to import

    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(f"read {path}", reason, "check the path and its permissions") from error
    dbc = load_dbc(data, str(path))
    if not dbc.messages:
        for finding in dbc.findings:
            print(finding, file=sys.stderr)
        raise BadData(f"read {path}", "no usable message in it", "give a DBC file (Vector CAN database)")
    return dbc


def _hidden(dbcs: Sequence[Dbc]) -> Iterator[Finding]:
    """One finding for each message whose identifier an earlier file has already."""
    owners: dict[tuple[int, bool], str] = {}
    for dbc in dbcs:
        for message in dbc.messages:
            owner = owners.setdefault((message.frame_id, message.extended), dbc.name)
            if owner != dbc.name:
                text = f"message {message.name} (0x{message.frame_id:X}) is not used: {owner} has this identifier too"
                yield Finding("warning", dbc.name, 0, text, "the first --dbc wins; change their order")


class _Decoding:
    """Decodes the frames of a log and counts what became of them."""

    def __init__(self, dbcs: Sequence[Dbc], *, labels: bool) -> None:
        self._decoders = [FrameDecoder(dbc.messages) for dbc in dbcs]
        self._labels = labels
        self._texts = cache(_label_texts)
        self._read = self._decoded = self._unknown = self._without_data = 0
        self._bad: Counter[str] = Counter()

    def messages(self, frames: Iterable[LogFrame | BadFrame]) -> Iterator[Decoded]:
        """The frames that a message decodes, in the order of the log."""
        find = lru_cache(_REMEMBERED_IDS)(self._find)
        for frame in frames:
            self._read += 1
            if isinstance(frame, BadFrame):
                self._bad[frame.reason] += 1
                continue
            codec = find(frame.can_id, frame.extended)
            if codec is None or frame.is_error or frame.is_remote:
                self._unknown += 1
                self._without_data += frame.is_error or frame.is_remote
                continue
            values = codec.decode(frame.data)
            if isinstance(values, BadFrame):
                self._bad[f"{codec.message.name} {values.reason}"] += 1
                continue
            self._decoded += 1
            yield frame, codec, self._labelled(codec, values) if self._labels else values

    def _find(self, can_id: int, extended: bool) -> MessageCodec | None:  # noqa: FBT001 - the pair is the identifier
        for decoder in self._decoders:
            codec = decoder.find(can_id, extended)
            if codec is not None:
                return codec
        return None

    def _labelled(self, codec: MessageCodec, values: Mapping[str, Number]) -> Mapping[str, Value]:
        texts = self._texts(codec)
        return {name: texts[name].get(value, value) if name in texts else value for name, value in values.items()}

    def report(self) -> None:
        """Say on stderr what was counted."""
        counts = f"read: {self._read}, decoded: {self._decoded}, unknown: {self._unknown}, bad: {self._bad.total()}"
        lines = [f"frames {counts}"]
        if self._without_data:
            lines.append(f"  of the unknown, {self._without_data} are remote or error frames, which carry no signals")
        lines += [f"  bad {count}: {reason}" for reason, count in self._bad.most_common()]
        print("\n".join(lines), file=sys.stderr)


def _label_texts(codec: MessageCodec) -> dict[str, dict[Number, str]]:
    """The texts of a message's value tables by physical value."""
    return {
        signal.name: {physical(signal, raw): text for raw, text in signal.choices.items()}
        for signal in codec.message.signals
        if signal.choices
    }


def _json(decoded: Iterable[Decoded]) -> Iterator[str]:
    # What is the same for all frames of an identifier is made once: ``json`` is slower than reading and decoding.
    middle = lru_cache(_REMEMBERED_IDS)(_middle)
    keys = cache(lambda name: f"{json.dumps(name)}:")
    for (t, channel, can_id, extended, *_), codec, values in decoded:
        signals = ",".join([keys(name) + json_value(value) for name, value in values.items()])
        time = "null" if t is None else json_value(t)
        yield f'{{"t":{time},{middle(channel, can_id, extended, codec)}{{{signals}}}}}\n'


def _middle(channel: str | int | None, can_id: int, extended: bool, codec: MessageCodec) -> str:  # noqa: FBT001 - a key
    return (
        f'"channel":{json.dumps(channel)},"id":{can_id},"extended":{json.dumps(extended)},'
        f'"message":{json.dumps(codec.message.name)},"signals":'
    )


def _table(decoded: Iterable[Decoded]) -> Iterator[str]:
    yield f"{'time (s)':>18}  {'channel':<8}{'id':>8}   {'message':<{_NAME_WIDTH}}  signals\n"
    units = cache(_units)
    for frame, codec, values in decoded:
        t = "" if frame.t is None else f"{frame.t:.6f}"
        channel = "" if frame.channel is None else str(frame.channel)
        can_id = f"{frame.can_id:08X}" if frame.extended else f"{frame.can_id:03X}"
        unit = units(codec)
        signals = "  ".join(f"{name}={readable(value)}{unit[name]}" for name, value in values.items())
        yield f"{t:>18}  {channel:<8}{can_id:>8}   {codec.message.name:<{_NAME_WIDTH}}  {signals}\n"


def _units(codec: MessageCodec) -> dict[str, str]:
    return {signal.name: f" {signal.unit}" if signal.unit else "" for signal in codec.message.signals}
