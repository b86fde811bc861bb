"""Logs that are no text: Vector BLF and python-can's SQLite through python-can, ASAM MF4 through asammdf.

Rules of this file:

1. The libraries are written for sound files. Whatever they raise on a damaged one ends the log with one ``BadFrame``
   behind the frames that could be read; it is translated here and nowhere else.
2. A file that stops early does not make python-can raise, so reads are watched: one that got less than it asked for
   means that the file was cut. Where an object says that it has no size, it reads that one for ever: it gets to see
   the objects before it only.
3. Channels are as in the log: BLF counts from 1, python-can takes that 1 away, it is put back here.
4. MF4 times count from the start of the measurement, as stored.
"""

import contextlib
import gc
import heapq
import io
import logging
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import BadData, Unsupported
from agent.core.model import BadFrame
from drivers.can.logs.frame import DLC_BYTES, MAX_EXTENDED_ID, MAX_STANDARD_ID, LogFrame
from drivers.lean import without_asammdf

with without_asammdf():
    import can
    from can.io.blf import BLFParseError

#: What struct, zlib, indexing and conversions inside the libraries raise on damaged input.
_DAMAGE: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    OSError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_BLF_DAMAGE: tuple[type[Exception], ...] = (*_DAMAGE, BLFParseError)
_BLF_OBJECT_HEADER = 16
_BLF_OBJECT_SIZE = struct.Struct("<8xI")
_BLF_PADDING = 3
_BLF_NEXT = 8  #: python-can looks for the next object within so many bytes
_MF4_CHUNK = 4096
_DECOMPRESSION_ERRORS = (("isal.isal_zlib", "error"), ("zstd", "Error"), ("lz4.block", "LZ4BlockError"))
_MF4_KINDS = ("CAN_DataFrame", "CAN_RemoteFrame", "CAN_ErrorFrame")


class _Watched:
    """A binary stream that remembers whether a read came back short, which python-can passes over."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0
        self.cut = False

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.size += len(data)
        at_end = not data and size == _BLF_OBJECT_HEADER
        self.cut = self.cut or (len(data) < size and size > _BLF_PADDING and not at_end)
        return data

    def write(self, data: bytes, /) -> int:
        """Never called: python-can asks only whether the method is there."""
        return self._stream.write(data)

    def close(self) -> None:
        """The stream belongs to the caller, who closes it."""


class _BlfReader(can.BLFReader):
    """python-can's reader, which ends at an object without a size."""

    def _parse_data(self, data: bytes) -> Iterator[can.Message]:
        sound = _sized_objects(data)
        if sound is None:
            yield from super()._parse_data(data)
            return
        yield from super()._parse_data(data[:sound])
        raise BLFParseError("an object is smaller than its header")


def _sized_objects(data: bytes) -> int | None:
    """How much of a container stands before an object that is smaller than its header; None where there is none."""
    position = data.find(b"LOBJ", 0, _BLF_NEXT)
    while 0 <= position <= len(data) - _BLF_OBJECT_HEADER:
        (size,) = _BLF_OBJECT_SIZE.unpack_from(data, position)
        if size < _BLF_OBJECT_HEADER:
            return position
        position = data.find(b"LOBJ", position + size, position + size + _BLF_NEXT)
    return None


def read_blf(stream: IO[bytes]) -> Iterator[LogFrame | BadFrame]:
    """Frames of a Vector BLF file."""
    watched = _Watched(stream)
    try:
        reader = _BlfReader(watched)  # type: ignore[arg-type] # the reader needs read and close only
        for message in reader:
            yield _frame(message, message.channel + 1 if isinstance(message.channel, int) else None)
    except _BLF_DAMAGE:
        yield BadFrame("damaged_file")
        return
    # The header tells the file's size, unless its writer was killed and never came back to fill it in.
    if watched.cut or watched.size < reader.file_size:
        yield BadFrame("truncated_file")


def read_sqlite(path: Path) -> Iterator[LogFrame | BadFrame]:
    """Frames of the SQLite file that python-can's ``SqliteWriter`` makes. It has no channels."""
    reader = can.SqliteReader(path)
    try:
        for message in reader:
            yield _frame(message, None)
    except (*_DAMAGE, _sqlite_error(reader)):
        yield BadFrame("damaged_file")
    finally:
        reader.stop()


def _sqlite_error(reader: can.SqliteReader) -> type[Exception]:
    # Only the store may import sqlite3, so its error class comes from the connection (PEP 249).
    return reader._conn.Error  # noqa: SLF001 - python-can keeps the connection to itself


def _frame(message: can.Message, channel: str | int | None) -> LogFrame:
    return LogFrame(
        message.timestamp,
        channel,
        message.arbitration_id,
        message.is_extended_id,
        b"" if message.is_remote_frame else bytes(message.data),
        is_error=message.is_error_frame,
        is_remote=message.is_remote_frame,
        fd=message.is_fd,
    )


def read_mf4(path: Path) -> Iterator[LogFrame | BadFrame]:
    """Frames of an ASAM MDF 4 bus-logging file (groups ``CAN_DataFrame`` and kin), merged by time.

    Raises ``Unsupported`` where asammdf is not installed, ``BadData`` for a file that cannot be opened at all.
    """
    try:
        import asammdf  # noqa: PLC0415 - optional, and a second to import
    except ImportError as error:
        raise Unsupported(f"read {path}", "reading MF4 needs asammdf", "pip install 'enlace[mf4]'") from error
    damage: tuple[type[Exception], ...] = (*_DAMAGE, asammdf.blocks.utils.MdfException, *_decompression_errors())
    # asammdf prints what it stumbles over, with tracebacks; here each such thing is a BadFrame or a BadData.
    logging.getLogger("asammdf").disabled = True
    mdf = _open_mf4(asammdf.MDF, path, damage)
    try:
        groups = [
            _mf4_group(mdf, index, kind, group.channel_group.cycles_nr, damage)
            for index, group in enumerate(mdf.groups)
            for kind in _MF4_KINDS
            if any(channel.name == kind for channel in group.channels)
        ]
        yield from heapq.merge(*groups, key=attrgetter("t"))
    except damage:
        yield BadFrame("damaged_file")
    finally:
        mdf.close()


def _decompression_errors() -> list[type[Exception]]:
    """The error classes of the decompressors that asammdf has imported; they have no common base."""
    loaded = [(sys.modules.get(module), name) for module, name in _DECOMPRESSION_ERRORS]
    return [getattr(module, name) for module, name in loaded if hasattr(module, name)]


def _open_mf4(make: Callable[..., object], path: Path, damage: tuple[type[Exception], ...]) -> "_Mdf":
    """An open MDF file. Raises ``BadData`` for a file that asammdf cannot open.

    Its constructor leaves files open when it fails, and its destructor then raises, which Python would print: so the
    half-made object is thrown away here, while nobody listens.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        try:
            # Some complaints are printed on standard output, which carries the decoded frames.
            with contextlib.redirect_stdout(io.StringIO()):
                # asammdf types its groups as a union over all versions of the format.
                return cast("_Mdf", make(path, process_bus_logging=False))
        except damage as error:
            reason = str(error) or type(error).__name__
        gc.collect()
    finally:
        sys.unraisablehook = hook
    raise BadData(f"read {path}", f"the MF4 file is damaged: {reason}", "copy it again from the logger")


def _mf4_group(
    mdf: "_Mdf", group: int, kind: str, rows: int, damage: tuple[type[Exception], ...]
) -> Iterator[LogFrame]:
    """The frames of one channel group, read in pieces; members that a logger left out have a default."""
    offset, piece = 0, _MF4_CHUNK
    while offset < rows:
        try:
            signal = mdf.get(kind, group=group, record_offset=offset, record_count=min(piece, rows - offset))
        except damage:
            if piece == 1:
                raise
            piece //= 2  # come closer to the damage: the records in front of it are sound
            continue
        times = signal.timestamps.tolist()
        if not times:
            raise EOFError
        offset += len(times)
        fields = _Fields(signal.samples, kind, len(times))
        ids = fields.numbers("ID", 0)
        # Without the IDE field, bit 31 or the size of the identifier tells.
        wide = fields.numbers("IDE", None) or [
            number >> 31 or (number & MAX_EXTENDED_ID) > MAX_STANDARD_ID for number in ids
        ]
        lengths = fields.numbers("DataLength", None) or [
            DLC_BYTES[min(dlc, len(DLC_BYTES) - 1)] for dlc in fields.numbers("DLC", 0)
        ]
        channels, edls = fields.numbers("BusChannel", -1), fields.numbers("EDL", 0)
        columns = zip(times, channels, ids, wide, lengths, fields.data(), edls, strict=True)
        for t, channel, can_id, ide, length, data, edl in columns:
            yield LogFrame(
                float(t),
                None if channel < 0 else channel,
                can_id & MAX_EXTENDED_ID,
                bool(ide),
                data[:length],
                is_error=kind == "CAN_ErrorFrame",
                is_remote=kind == "CAN_RemoteFrame",
                fd=bool(edl),
            )


class _Fields:
    """The members of a piece of ``rows`` bus events, as plain Python columns."""

    def __init__(self, samples: NDArray[np.void], kind: str, rows: int) -> None:
        self._samples = samples
        self._kind = kind
        self._rows = rows

    def _has(self, name: str) -> bool:
        return f"{self._kind}.{name}" in (self._samples.dtype.names or ())

    def numbers(self, name: str, default: int | None) -> list[int]:
        """A member as whole numbers; the default for each row (or nothing, where that is None) if it is missing."""
        if not self._has(name):
            return [] if default is None else [default] * self._rows
        return [int(value) for value in self._samples[f"{self._kind}.{name}"].tolist()]

    def data(self) -> list[bytes]:
        """The data bytes of each row, as long as the longest of the file."""
        if not self._has("DataBytes"):
            return [b""] * self._rows
        return [bytes(row) for row in self._samples[f"{self._kind}.DataBytes"].tolist()]


class _Signal(Protocol):
    """What is used of an asammdf ``Signal``."""

    timestamps: NDArray[np.float64]
    samples: NDArray[np.void]


class _Channel(Protocol):
    name: str


class _ChannelGroup(Protocol):
    cycles_nr: int


class _Group(Protocol):
    channels: Sequence[_Channel]
    channel_group: _ChannelGroup


class _Mdf(Protocol):
    """What is used of an asammdf ``MDF``."""

    groups: Sequence[_Group]

    def close(self) -> None:
        """Close the file."""

    def get(self, name: str, *, group: int, record_offset: int, record_count: int) -> _Signal:
        """Some records of a channel."""
